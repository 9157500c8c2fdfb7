"""A decoder that somebody else exported: what it takes, what it gives, and its cache.

Everything is read off the graphs' own inputs and outputs; nothing is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnx

from srd_edge.errors import UsageError
from srd_edge.runtime.bundle_specs import USE_CACHE_BRANCH, Decoding, Positions
from srd_edge.runtime.merged_decoder import HIDDEN_STATES, KNOWN_INPUTS, PAST, present
from srd_edge.runtime.merged_prefix import EMBEDDINGS, LOGITS_WANTED, MADE

_TIME_ROW_COLUMN: Final = 3
"""Axes of the positions of a decoder that counts by row and column: (3, B, S)."""
_DO: Final = "export the captioner from its PyTorch weights"


@dataclass(frozen=True, slots=True)
class Cache:
    """The shape of a decoder's cache: ``layers``, key-value ``heads`` and channels of each."""

    layers: int
    heads: int
    head_dim: int


def read_cache(decoding: Decoding, graphs: Mapping[str, onnx.ModelProto]) -> Cache:
    """The cache of the decoder among ``graphs``, whose components are those of ``decoding``.

    Raises:
        UsageError: inputs that the runtime does not know, by name, or missing ones.
    """
    decoders = {name: GraphEnds(graphs[name]) for name in graphs if name.startswith("decoder")}
    prefixed = decoding == "merged-prefix"
    known = MADE | {EMBEDDINGS, USE_CACHE_BRANCH} if prefixed else KNOWN_INPUTS
    for name, ends in decoders.items():
        unknown = [i for i in ends.takes if i not in known and not PAST.fullmatch(i)]
        if unknown:
            raise UsageError(
                expected=f"inputs of the {name} that the runtime knows",
                found=", ".join(unknown[:6]),
                do=_DO,
            )
    first = decoders["decoder"]
    later = decoders.get("decoder_with_past", first)
    needed = {EMBEDDINGS} if prefixed else {"input_ids", HIDDEN_STATES}
    needed |= {USE_CACHE_BRANCH} if decoding == "merged" else set()
    past = {name: dims for name, dims in later.takes.items() if PAST.fullmatch(name)}
    own = {name: dims for name, dims in past.items() if ".encoder." not in name}
    missing = [name for name in sorted(needed) if name not in first.takes]
    missing += [present(name) for name in past if present(name) not in first.gives]
    missing += [present(name) for name in own if present(name) not in later.gives]
    missing += [] if own else ["past_key_values"]
    missing += [] if "logits" in first.gives & later.gives else ["logits"]
    if prefixed:
        _check_embedder(GraphEnds(graphs["embed_tokens"]))
    if missing:
        raise UsageError(
            expected=f"a decoder of the kind {decoding} that takes and gives {missing[0]}",
            found=f"a decoder of {', '.join([*first.takes][:4])}, ...",
            do=_DO,
        )
    shapes = {tuple(dims[1::2]) for dims in past.values() if len(dims) == 4}
    layers, odd = divmod(len(own), 2)
    if odd or len(shapes) != 1 or not all(isinstance(n, int) and n for n in next(iter(shapes))):
        raise UsageError(
            expected="keys and values of (batch, heads, length, channels), all layers alike",
            found=f"{len(own)} of shapes {sorted(map(str, shapes))[:3]}",
            do=_DO,
        )
    heads, head_dim = (int(size) for size in next(iter(shapes)))
    return Cache(layers, heads, head_dim)


def _check_embedder(ends: GraphEnds) -> None:
    if set(ends.takes) != {"input_ids"} or EMBEDDINGS not in ends.gives:
        raise UsageError(
            expected=f"embed_tokens from input_ids to {EMBEDDINGS}",
            found=f"{', '.join(ends.takes)} to {', '.join(sorted(ends.gives))}"[:200],
            do=_DO,
        )


def read_positions(decoder: onnx.ModelProto) -> Positions:
    """How a decoder of the kind merged-prefix counts what it reads.

    Raises:
        UsageError: inputs of other shapes than the runtime gives them.
    """
    takes = GraphEnds(decoder).takes
    if takes.get(LOGITS_WANTED):
        raise UsageError(
            expected=f"{LOGITS_WANTED} to be one number", found=f"{takes[LOGITS_WANTED]}", do=_DO
        )
    return "grid" if len(takes.get("position_ids", ())) == _TIME_ROW_COLUMN else "sequence"


class GraphEnds:
    """Names of a graph's inputs and outputs, the inputs with their shapes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        held = {tensor.name for tensor in model.graph.initializer}
        self.takes: dict[str, list[int | str]] = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in model.graph.input
            if value.name not in held
        }
        self.gives = {value.name for value in model.graph.output}
