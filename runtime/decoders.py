"""The two kinds of decoder graph behind one interface: a picture, then tokens, then logits.

*Cross-attention*: the encoder graph gives every decoder layer's cross-attention keys and values,
once a picture; the decoder graph takes token ids. *Prefix*: the encoder graph gives the picture as
embeddings, which stand among those of the prompt at the head of what the decoder reads. Either way
keys and values go round as OrtValues, without a copy into numpy but for a beam search.

Graphs that others exported have a third kind of decoder: `runtime/merged_decoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import HIDDEN_STATE_KINDS
from srd_edge.runtime.prefixes import Prefix, cache_room, prefix_for
from srd_edge.runtime.sessions import Provider, Session, open_session
from srd_edge.runtime.tensorrt_provider import options_for

_LAYOUTS_KEPT: Final = 64
"""Of pictures of different sizes; the words around each are embedded once."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the decoder and the policy need it, or several pictures or views of one.

    Args:
        features: (P, N, C) float32, what the policy looks at; of tiles, P counts them all.
        memory: OrtValues that the decoder needs of the picture: cross-attention keys and values
            in the order of ``kv_names``, its embeddings, or the encoder's hidden states.
        layout: of the canvas that it came from.
    """

    features: NDArray[np.float32]
    memory: tuple[Any, ...]
    layout: Layout

    @property
    def rows(self) -> int:
        """How many pictures or views."""
        return len(self.features) // self.layout.seen


@dataclass(frozen=True, slots=True)
class State:
    """What a decoder remembers of what it has read; advancing gives another one.

    Args:
        rows: captions that are made side by side.
        past: keys and values, as OrtValues.
        read: positions in the cache.
        said: token ids read, those of a prefix not counted.
        begins: position of the first of them, where positions are an input.
        logits: (rows, V) after a prefix; None where nothing was read that a token could follow.
        constant: inputs that stay the same.
    """

    rows: int
    past: tuple[Any, ...]
    read: int = 0
    said: int = 0
    begins: int = 0
    logits: NDArray[np.float32] | None = None
    constant: Mapping[str, Any] = field(default_factory=dict)


class Decoder(Protocol):
    """Makes logits of token ids, one call after the other."""

    prompt: tuple[int, ...]
    """Ids of all that is read before a caption, but for the picture."""
    session: Session

    def start(self, encoded: Encoded) -> State:
        """Ready to read token ids; a row for each picture or view."""
        ...

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        """(rows, S) ids -> (rows, S, V) float32 logits of what follows each."""
        ...

    def repeat(self, state: State, times: int) -> State:
        """The whole state ``times`` times, one after the other."""
        ...

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        """Each row goes on from another; both are of the same picture and view."""
        ...


def open_decoder(bundle: Bundle, provider: Provider, *, strict: bool) -> Decoder:
    """The decoder of ``bundle``, of whichever kind it is."""
    # That module is made of this one's parts.
    from srd_edge.runtime.merged_decoder import MergedDecoder

    decoding = bundle.manifest.captioner.decoding
    if decoding == "prefix":
        return PrefixDecoder(bundle, provider, strict=strict)
    if decoding in HIDDEN_STATE_KINDS:
        return MergedDecoder(bundle, provider, strict=strict)
    return CrossAttentionDecoder(bundle, provider, strict=strict)


class _KeyValueDecoder:
    """What both kinds share: a graph whose keys and values go round."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool) -> None:
        self._spec = bundle.manifest.captioner
        path = bundle.path(self._spec.components["decoder"])
        told = partial(options_for, bundle, "decoder")
        self.session = open_session(path, provider, strict=strict, tensorrt=told)
        self._graph = self.session.session
        self._past_names = self._spec.kv_names("past_key_values", "decoder")
        self._outputs = ["logits", *self._spec.kv_names("present", "decoder")]
        self._generation = bundle.manifest.generation
        self._nothing: dict[tuple[int, int], tuple[Any, ...]] = {}

    def repeat(self, state: State, times: int) -> State:
        return repeated(state, times)

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        return reordered(state, rows)

    def _run(
        self, state: State, feed: dict[str, Any], count: int
    ) -> tuple[NDArray[np.float32], State]:
        """Logits after ``count`` more positions, and the state that has read them."""
        feed |= state.constant
        if self._spec.cache == "fixed":
            feed["past_length"] = ort_value(np.array([state.read], np.int64))
        feed.update(zip(self._past_names, state.past, strict=True))
        logits, *past = self._graph.run_with_ort_values(self._outputs, feed)
        after = replace(state, past=tuple(past), read=state.read + count, logits=None)
        return logits.numpy(), after

    def _empty_past(self, rows: int, prefix: int = 0) -> tuple[Any, ...]:
        """A cache with nothing in it, for a caption after ``prefix`` positions."""
        fixed = self._spec.cache == "fixed"
        room = cache_room(prefix, self._generation) if fixed else 0
        if (rows, room) not in self._nothing:
            if len(self._nothing) == _LAYOUTS_KEPT:
                self._nothing.clear()
            nothing = np.zeros((rows, self._spec.heads, room, self._spec.head_dim), np.float32)
            self._nothing[rows, room] = tuple(ort_value(nothing) for _ in self._past_names)
        return self._nothing[rows, room]


class CrossAttentionDecoder(_KeyValueDecoder):
    """Reads token ids beside a picture that its cross-attention looks at."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool) -> None:
        super().__init__(bundle, provider, strict=strict)
        self.prompt = bundle.manifest.generation.prompt
        self._memory_names = self._spec.kv_names("past_key_values", "encoder")

    def start(self, encoded: Encoded) -> State:
        rows = encoded.rows
        constant = dict(zip(self._memory_names, encoded.memory, strict=True))
        return State(rows, self._empty_past(rows), constant=constant)

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        logits, after = self._run(state, {"input_ids": ort_value(ids)}, ids.shape[1])
        return logits, replace(after, said=state.said + ids.shape[1])


class PrefixDecoder(_KeyValueDecoder):
    """Reads embeddings: of the prompt's head, of the picture, of the prompt's rest, of tokens."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool) -> None:
        super().__init__(bundle, provider, strict=strict)
        path = bundle.path(self._spec.components["embed_tokens"])
        # Where the decoder is: rows of a table are not worth a way to another provider.
        beside = cast("Provider", self.session.provider)
        self._embedder = open_session(path, beside, strict=strict).session
        self._embedder_takes = {value.name for value in self._embedder.get_inputs()}
        spec = self._spec
        self.prompt = (*spec.before, *spec.after, *bundle.manifest.generation.prompt)
        self._prefixes: dict[tuple[Layout, int], tuple[Prefix, NDArray[np.float32] | None]] = {}

    def start(self, encoded: Encoded) -> State:
        (picture,) = encoded.memory
        rows, (pictures, count, width) = encoded.rows, picture.shape()
        count *= pictures // rows
        prefix, words = self._prefix(encoded.layout, count)
        if words is not None:
            whole = np.empty((rows, len(prefix.features), width), np.float32)
            whole[:, prefix.features] = picture.numpy().reshape(rows, count, width)
            whole[:, ~prefix.features] = words
            picture = ort_value(whole)
        last = np.array([len(prefix.features) - 1], np.int64)
        feed = {"inputs_embeds": picture, "logits_to_keep": ort_value(last)}
        if self._spec.positions == "grid":
            feed["position_ids"] = ort_value(prefix.positions[:, None])
        length = len(prefix.features)
        state = State(rows, self._empty_past(rows, length), begins=prefix.following)
        logits, state = self._run(state, feed, length)
        return replace(state, logits=logits[:, -1])

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        count = ids.shape[1]
        feed = {
            "inputs_embeds": self._embed(ids, state.said),
            "logits_to_keep": ort_value(np.arange(count, dtype=np.int64)),
        }
        if self._spec.positions == "grid":
            first = state.begins + state.said
            feed["position_ids"] = ort_value(np.tile(np.arange(first, first + count), (3, 1, 1)))
        logits, after = self._run(state, feed, count)
        return logits, replace(after, said=state.said + count)

    def _prefix(self, layout: Layout, count: int) -> tuple[Prefix, NDArray[np.float32] | None]:
        """A picture's prefix, and the embeddings (W, D) of its words if there are any."""
        if (layout, count) not in self._prefixes:
            if len(self._prefixes) == _LAYOUTS_KEPT:
                self._prefixes.clear()
            prefix = prefix_for(self._spec, layout, count)
            words = self._embed(prefix.words[None], 0).numpy()[0] if len(prefix.words) else None
            self._prefixes[layout, count] = prefix, words
        return self._prefixes[layout, count]

    def _embed(self, ids: NDArray[np.int64], said: int) -> Any:
        """(R, S) ids -> (R, S, C), as an OrtValue; ``said`` ids came before them."""
        feed = {"input_ids": ort_value(ids)}
        if "position_ids" in self._embedder_takes:
            feed["position_ids"] = ort_value(np.arange(said, said + ids.shape[1])[None])
        return self._embedder.run_with_ort_values(["inputs_embeds"], feed)[0]


def repeated(state: State, times: int) -> State:
    """See ``Decoder.repeat``."""
    if times == 1:
        return state
    return replace(
        state,
        rows=state.rows * times,
        past=tuple(_tiled(value, times) for value in state.past),
        logits=None if state.logits is None else np.tile(state.logits, (times, 1)),
        constant={name: _tiled(value, times) for name, value in state.constant.items()},
    )


def reordered(state: State, rows: NDArray[np.int64]) -> State:
    """See ``Decoder.reorder``."""
    if np.array_equal(rows, np.arange(state.rows)):
        return state
    return replace(state, past=tuple(ort_value(v.numpy()[rows]) for v in state.past))


def ort_value(array: NDArray[Any]) -> Any:
    """The array as an ``onnxruntime.OrtValue``."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _tiled(value: Any, times: int) -> Any:
    return ort_value(np.concatenate([value.numpy()] * times))
