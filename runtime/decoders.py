"""The two kinds of decoder graph behind one interface: a picture, then tokens, then logits.

*Cross-attention*: the encoder graph gives every decoder layer's cross-attention keys and values,
once a picture; the decoder graph takes token ids. *Prefix*: the encoder graph gives the picture as
embeddings, which stand among those of the prompt at the head of what the decoder reads. Either way
keys and values go round as OrtValues, without a copy into numpy but for a beam search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.sessions import Provider, Session, open_session
from srd_edge.runtime.tensorrt_provider import options_for


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the decoder and the policy need it, or several pictures or views of one.

    Args:
        features: (P, N, C) float32, what the policy looks at.
        memory: OrtValues that the decoder needs of the picture: cross-attention keys and values
            in the order of ``kv_names``, or its embeddings.
    """

    features: NDArray[np.float32]
    memory: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What a decoder remembers of what it has read; advancing gives another one.

    Args:
        rows: captions that are made side by side.
        past: keys and values, as OrtValues.
        said: token ids read, those of a prefix not counted.
        logits: (rows, V) after a prefix; None where nothing was read that a token could follow.
        constant: inputs that stay the same.
    """

    rows: int
    past: tuple[Any, ...]
    said: int = 0
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
    if bundle.manifest.captioner.decoding == "prefix":
        return PrefixDecoder(bundle, provider, strict=strict)
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
        self._nothing = self._empty(1)

    def repeat(self, state: State, times: int) -> State:
        if times == 1:
            return state
        return replace(
            state,
            rows=state.rows * times,
            past=tuple(_tiled(value, times) for value in state.past),
            logits=None if state.logits is None else np.tile(state.logits, (times, 1)),
            constant={name: _tiled(value, times) for name, value in state.constant.items()},
        )

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        if np.array_equal(rows, np.arange(state.rows)):
            return state
        return replace(state, past=tuple(ort_value(v.numpy()[rows]) for v in state.past))

    def _run(
        self, state: State, feed: dict[str, Any], said: int
    ) -> tuple[NDArray[np.float32], State]:
        feed |= state.constant
        feed.update(zip(self._past_names, state.past, strict=True))
        logits, *past = self._graph.run_with_ort_values(self._outputs, feed)
        return logits.numpy(), replace(state, past=tuple(past), said=state.said + said, logits=None)

    def _empty_past(self, rows: int) -> tuple[Any, ...]:
        return self._nothing if rows == 1 else self._empty(rows)

    def _empty(self, rows: int) -> tuple[Any, ...]:
        nothing = np.empty((rows, self._spec.heads, 0, self._spec.head_dim), np.float32)
        return tuple(ort_value(nothing) for _ in self._past_names)


class CrossAttentionDecoder(_KeyValueDecoder):
    """Reads token ids beside a picture that its cross-attention looks at."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool) -> None:
        super().__init__(bundle, provider, strict=strict)
        self.prompt = bundle.manifest.generation.prompt
        self._memory_names = self._spec.kv_names("past_key_values", "encoder")

    def start(self, encoded: Encoded) -> State:
        rows = len(encoded.features)
        constant = dict(zip(self._memory_names, encoded.memory, strict=True))
        return State(rows, self._empty_past(rows), constant=constant)

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        return self._run(state, {"input_ids": ort_value(ids)}, ids.shape[1])


class PrefixDecoder(_KeyValueDecoder):
    """Reads embeddings: of the prompt's head, of the picture, of the prompt's rest, of tokens."""

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool) -> None:
        super().__init__(bundle, provider, strict=strict)
        path = bundle.path(self._spec.components["embed_tokens"])
        # Where the decoder is: rows of a table are not worth a way to another provider.
        beside = cast("Provider", self.session.provider)
        self._embedder = open_session(path, beside, strict=strict).session
        self._embedder_takes = {value.name for value in self._embedder.get_inputs()}
        before, after = self._spec.before, self._spec.after
        self.prompt = (*before, *after, *bundle.manifest.generation.prompt)
        self._before, self._after = (
            self._embed(np.array([ids], np.int64), 0).numpy() if ids else None
            for ids in (before, after)
        )

    def start(self, encoded: Encoded) -> State:
        (picture,) = encoded.memory
        rows = len(encoded.features)
        if self._before is not None or self._after is not None:
            around = (self._before, picture.numpy(), self._after)
            parts = [np.repeat(p, rows // len(p), axis=0) for p in around if p is not None]
            picture = ort_value(np.concatenate(parts, axis=1))
        last = picture.shape()[1] - 1
        feed = {"inputs_embeds": picture, "logits_to_keep": ort_value(np.array([last], np.int64))}
        logits, state = self._run(State(rows, self._empty_past(rows)), feed, 0)
        return replace(state, logits=logits[:, -1])

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        count = ids.shape[1]
        feed = {
            "inputs_embeds": self._embed(ids, state.said),
            "logits_to_keep": ort_value(np.arange(count, dtype=np.int64)),
        }
        return self._run(state, feed, count)

    def _embed(self, ids: NDArray[np.int64], said: int) -> Any:
        """(R, S) ids -> (R, S, C), as an OrtValue; ``said`` ids came before them."""
        feed = {"input_ids": ort_value(ids)}
        if "position_ids" in self._embedder_takes:
            feed["position_ids"] = ort_value(np.arange(said, said + ids.shape[1])[None])
        return self._embedder.run_with_ort_values(["inputs_embeds"], feed)[0]


def ort_value(array: NDArray[Any]) -> Any:
    """The array as an ``onnxruntime.OrtValue``."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _tiled(value: Any, times: int) -> Any:
    return ort_value(np.concatenate([value.numpy()] * times))
