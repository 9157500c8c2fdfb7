"""A decoder that somebody else exported: what it takes, what it gives, and its cache.

Everything is read off the graphs' own inputs and outputs; nothing is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from srd_edge.errors import UsageError
from srd_edge.runtime.bundle_specs import USE_CACHE_BRANCH, Decoding
from srd_edge.runtime.merged_decoder import HIDDEN_STATES, KNOWN_INPUTS, PAST, present

_DO = "export the captioner from its PyTorch weights"


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
    decoders = {name: _Ends(graphs[name]) for name in graphs if name.startswith("decoder")}
    for name, ends in decoders.items():
        unknown = [i for i in ends.takes if i not in KNOWN_INPUTS and not PAST.fullmatch(i)]
        if unknown:
            raise UsageError(
                expected=f"inputs of the {name} that the runtime knows",
                found=", ".join(unknown[:6]),
                do=_DO,
            )
    first = decoders["decoder"]
    later = decoders.get("decoder_with_past", first)
    needed = {"input_ids", HIDDEN_STATES} | ({USE_CACHE_BRANCH} if later is first else set())
    past = {name: dims for name, dims in later.takes.items() if PAST.fullmatch(name)}
    own = {name: dims for name, dims in past.items() if ".encoder." not in name}
    missing = [name for name in sorted(needed) if name not in first.takes]
    missing += [present(name) for name in past if present(name) not in first.gives]
    missing += [present(name) for name in own if present(name) not in later.gives]
    missing += [] if own else ["past_key_values"]
    missing += [] if "logits" in first.gives & later.gives else ["logits"]
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


class _Ends:
    """Names of a graph's inputs and outputs, the inputs with their shapes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        held = {tensor.name for tensor in model.graph.initializer}
        self.takes: dict[str, list[int | str]] = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in model.graph.input
            if value.name not in held
        }
        self.gives = {value.name for value in model.graph.output}
