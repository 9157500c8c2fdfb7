"""The two kinds of decoder graph behind one interface: a picture, then tokens, then logits.

*Cross-attention*: the encoder graph gives every decoder layer's cross-attention keys and values,
once a picture; the decoder graph takes token ids. *Prefix*: the encoder graph gives the picture as
embeddings, which stand among those of the prompt at the head of what the decoder reads. Either way
keys and values go round as values of the device, without a copy into numpy but for a beam search.

Graphs that others exported: `runtime/merged_decoder.py`, `runtime/merged_prefix.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import HIDDEN_STATE_KINDS
from srd_edge.runtime.graphs import Graph, Value, host_value, open_graph
from srd_edge.runtime.prefixes import Prefix, cache_room, prefix_for
from srd_edge.runtime.resident_cache import LOGITS, ResidentCache
from srd_edge.runtime.sessions import Provider

_LAYOUTS_KEPT: Final = 64
"""Of pictures of different sizes; the words around each are embedded once."""
_CACHES_KEPT: Final = 4
"""Of fixed size: greedy and beams, one view and several, prefixes of different length."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the decoder and the policy need it, or several pictures or views of one.

    Args:
        features: (P, N, C) float32, what the policy looks at; of tiles, P counts them all.
        memory: values that the decoder needs of the picture: cross-attention keys and values
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
        past: keys and values, as values of the device.
        read: positions in the cache.
        said: token ids read, those of a prefix not counted.
        begins: position of the first of them, where positions are an input.
        logits: (rows, V) after a prefix; None where nothing was read that a token could follow.
        constant: inputs that stay the same.
        room: positions that the cache has, where it is of fixed size.
    """

    rows: int
    past: tuple[Any, ...]
    read: int = 0
    said: int = 0
    begins: int = 0
    logits: NDArray[np.float32] | None = None
    constant: Mapping[str, Any] = field(default_factory=dict)
    room: int = 0


class Decoder(Protocol):
    """Makes logits of token ids, one call after the other."""

    prompt: tuple[int, ...]
    """Ids of all that is read before a caption, but for the picture."""
    graph: Graph

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


def open_decoder(bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> Decoder:
    """The decoder of ``bundle``, of whichever kind it is.

    Args:
        bundle: a verified bundle.
        provider, strict, views: as in ``open_graph``.
    """
    # These modules are made of this one's parts.
    from srd_edge.runtime.merged_decoder import MergedDecoder
    from srd_edge.runtime.merged_prefix import MergedPrefixDecoder

    decoding = bundle.manifest.captioner.decoding
    if decoding == "prefix":
        return PrefixDecoder(bundle, provider, strict=strict, views=views)
    if decoding == "merged-prefix":
        return MergedPrefixDecoder(bundle, provider, strict=strict, views=views)
    if decoding in HIDDEN_STATE_KINDS:
        return MergedDecoder(bundle, provider, strict=strict, views=views)
    return CrossAttentionDecoder(bundle, provider, strict=strict, views=views)


class _KeyValueDecoder:
    """What both kinds share: a graph whose keys and values go round."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> None:
        self._spec = spec = bundle.manifest.captioner
        self._fixed = spec.cache == "fixed"
        self.graph = open_graph(
            bundle, "decoder", provider, strict=strict, views=views, record=self._fixed
        )
        self._past_names = spec.kv_names("past_key_values", "decoder")
        self._present_names = spec.kv_names("present", "decoder")
        self._generation = bundle.manifest.generation
        self._nothing: dict[int, tuple[Value, ...]] = {}
        self._caches: dict[tuple[int, int], ResidentCache] = {}

    def repeat(self, state: State, times: int) -> State:
        return repeated(state, times)

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        return reordered(state, rows)

    def _started(self, rows: int, prefix: int = 0, **given: Any) -> State:
        """With nothing in the cache, for a caption after ``prefix`` positions."""
        if self._fixed:
            return State(rows, (), room=cache_room(prefix, self._generation), **given)
        if rows not in self._nothing:
            nothing = np.zeros((rows, self._spec.heads, 0, self._spec.head_dim), np.float32)
            types = [self.graph.types[name] for name in self._past_names]
            self._nothing[rows] = tuple(host_value(nothing.astype(kind)) for kind in types)
        return State(rows, self._nothing[rows], **given)

    def _run(
        self, state: State, feed: dict[str, Value], count: int, answers: int
    ) -> tuple[NDArray[np.float32], State]:
        """Logits of ``answers`` of ``count`` more positions, and the state that has read them."""
        if self._fixed:
            feed["past_length"] = host_value(np.array([state.read], np.int64))
            cache, step = self._cache(state), count == answers == 1
            found, past = cache.read(state.past, feed, state.constant, answers, step=step)
        else:
            feed |= state.constant
            feed.update(zip(self._past_names, state.past, strict=True))
            logits, *present = self.graph.run([LOGITS, *self._present_names], feed)
            found, past = np.asarray(logits.numpy(), np.float32), tuple(present)
        return found, replace(state, past=past, read=state.read + count, logits=None)

    def _cache(self, state: State) -> ResidentCache:
        size = state.rows, state.room
        if size not in self._caches:
            if len(self._caches) == _CACHES_KEPT:
                self._caches.clear()
            shape = (state.rows, self._spec.heads, state.room, self._spec.head_dim)
            self._caches[size] = ResidentCache(
                self.graph, self._past_names, self._present_names, shape
            )
        return self._caches[size]


class CrossAttentionDecoder(_KeyValueDecoder):
    """Reads token ids beside a picture that its cross-attention looks at."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> None:
        super().__init__(bundle, provider, strict=strict, views=views)
        self.prompt = bundle.manifest.generation.prompt
        self._memory_names = self._spec.kv_names("past_key_values", "encoder")

    def start(self, encoded: Encoded) -> State:
        constant = dict(zip(self._memory_names, encoded.memory, strict=True))
        return self._started(encoded.rows, constant=constant)

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        count = ids.shape[1]
        logits, after = self._run(state, {"input_ids": host_value(ids)}, count, count)
        return logits, replace(after, said=state.said + count)


class PrefixDecoder(_KeyValueDecoder):
    """Reads embeddings: of the prompt's head, of the picture, of the prompt's rest, of tokens."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> None:
        super().__init__(bundle, provider, strict=strict, views=views)
        # Where the decoder is: rows of a table are not worth a way to another provider.
        beside = cast("Provider", self.graph.provider)
        self._embedder = open_graph(bundle, "embed_tokens", beside, strict=strict, views=views)
        spec = self._spec
        self.prompt = (*spec.before, *spec.after, *bundle.manifest.generation.prompt)
        self._prefixes: dict[tuple[Layout, int], tuple[Prefix, NDArray[Any] | None]] = {}

    def start(self, encoded: Encoded) -> State:
        (picture,) = encoded.memory
        rows, (pictures, count, width) = encoded.rows, picture.shape()
        count *= pictures // rows
        prefix, words = self._prefix(encoded.layout, count)
        if words is not None:
            whole = np.empty((rows, len(prefix.features), width), words.dtype)
            whole[:, prefix.features] = picture.numpy().reshape(rows, count, width)
            whole[:, ~prefix.features] = words
            picture = host_value(whole)
        state = self._started(rows, len(prefix.features), begins=prefix.following)
        logits, state = self._read(state, picture, prefix.positions, 1)
        return replace(state, logits=logits[:, -1])

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        count, first = ids.shape[1], state.begins + state.said
        positions = np.tile(np.arange(first, first + count), (3, 1))
        logits, after = self._read(state, self._embed(ids, state.said), positions, count)
        return logits, replace(after, said=state.said + count)

    def _read(
        self, state: State, embeddings: Value, positions: NDArray[np.int64], answers: int
    ) -> tuple[NDArray[np.float32], State]:
        """(rows, S, D) and (3, S) positions -> (rows, answers, V) logits of the last of them."""
        count = positions.shape[1]
        feed = {
            "inputs_embeds": embeddings,
            "logits_to_keep": host_value(np.arange(count - answers, count, dtype=np.int64)),
        }
        if self._spec.positions == "grid":
            feed["position_ids"] = host_value(positions[:, None])
        return self._run(state, feed, count, answers)

    def _prefix(self, layout: Layout, count: int) -> tuple[Prefix, NDArray[Any] | None]:
        """A picture's prefix, and the embeddings (W, D) of its words if there are any."""
        if (layout, count) not in self._prefixes:
            if len(self._prefixes) == _LAYOUTS_KEPT:
                self._prefixes.clear()
            prefix = prefix_for(self._spec, layout, count)
            words = None
            if len(prefix.words):
                # Held until it is copied: what numpy() gives may live no longer.
                embedded = self._embed(prefix.words[None], 0)
                words = np.array(embedded.numpy()[0])
            self._prefixes[layout, count] = prefix, words
        return self._prefixes[layout, count]

    def _embed(self, ids: NDArray[np.int64], said: int) -> Value:
        """(R, S) ids -> (R, S, C); ``said`` ids came before them."""
        feed = {"input_ids": host_value(ids)}
        if "position_ids" in self._embedder.types:
            feed["position_ids"] = host_value(np.arange(said, said + ids.shape[1])[None])
        return self._embedder.run(["inputs_embeds"], feed)[0]


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
    return replace(state, past=tuple(host_value(v.numpy()[rows]) for v in state.past))


def _tiled(value: Value, times: int) -> Value:
    return host_value(np.concatenate([value.numpy()] * times))
