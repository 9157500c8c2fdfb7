"""Encoder and decoder sessions: a canvas becomes features, features become a caption.

The decoding kind here is *cross-attention*: the encoder graph gives the picture's features and
every decoder layer's cross-attention keys and values, once; the decoder graph then makes one token
a call, its own keys and values going round as OrtValues, without a copy into numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_tensor
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import TOKENIZER_FILE, CaptionerSpec, GenerationDefaults
from srd_edge.runtime.sessions import Provider, open_session
from srd_edge.runtime.tokenizer import CaptionTokenizer

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the decoder and the policy need it, or several views of it.

    Args:
        features: (V, N, C) float32, V = 1 for the picture as it is.
        cross: OrtValues of the cross-attention keys and values, in the order of ``kv_names``.
    """

    features: NDArray[np.float32]
    cross: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """A caption.

    Args:
        text: the caption.
        tokens: the ids made, the end token left out.
        finished: False where the deadline cut it short; the text then ends at a whole word.
        log_probabilities: of the text's tokens under the captioner that made it, in nats, and of
            the end token where that was said.
    """

    text: str
    tokens: tuple[int, ...]
    finished: bool
    log_probabilities: tuple[float, ...]

    @property
    def ended(self) -> bool:
        """Whether the end token was said; a caption of the longest length has none."""
        return len(self.log_probabilities) > len(self.tokens)

    @property
    def log_probability(self) -> float:
        """Of the text, in nats."""
        return sum(self.log_probabilities)

    @property
    def mean_log_probability(self) -> float:
        """Nats a token, at most 0: near 0 where the captioner saw no alternative."""
        return self.log_probability / max(len(self.log_probabilities), 1)


class CrossAttentionCaptioner:
    """Captions canvases with a bundle's encoder and decoder.

    Args:
        bundle: a verified bundle.
        provider: execution provider for both graphs.
        strict: whether a missing provider is an error.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider = "auto", *, strict: bool = False
    ) -> None:
        manifest = bundle.manifest
        components = manifest.captioner.components
        encoder = open_session(bundle.path(components["encoder"]), provider, strict=strict)
        decoder = open_session(bundle.path(components["decoder"]), provider, strict=strict)
        self.provider, self.fallback = encoder.provider, encoder.fallback or decoder.fallback
        self._encoder, self._decoder = encoder.session, decoder.session
        self._spec: CaptionerSpec = manifest.captioner
        self._generation: GenerationDefaults = manifest.generation
        self._preprocessing: Preprocessing = manifest.preprocessing
        self._features_name = manifest.observation.tensor
        self._tokenizer = CaptionTokenizer(bundle.path(TOKENIZER_FILE))
        self._pixel_values = np.empty(
            (1, 3, self._preprocessing.height, self._preprocessing.width), np.float32
        )
        self._encoder_outputs = [self._features_name, *self._spec.kv_names("present", "encoder")]
        self._decoder_outputs = ["logits", *self._spec.kv_names("present", "decoder")]
        self._empty_past = self._make_empty_past(1)

    def encode(self, canvas: Pixels) -> Encoded:
        """(height, width, 3) uint8 RGB canvas -> features and cross-attention cache."""
        return self._encode(to_tensor(canvas, self._preprocessing, out=self._pixel_values))

    def encode_views(self, canvases: Pixels) -> Encoded:
        """(V, height, width, 3) uint8 RGB views of one picture, to be captioned as one."""
        return self._encode(to_tensor(canvases, self._preprocessing))

    def generate(
        self,
        encoded: Encoded,
        *,
        deadline_s: float = _NEVER,
        clock: Callable[[], float] | None = None,
    ) -> Generated:
        """Greedy decoding; of several views, by the geometric mean of what they make likely.

        Args:
            encoded: what ``encode`` gave.
            deadline_s: on ``clock``; no token is begun after it.
            clock: seconds, rising; needed with a deadline.
        """
        past_names = self._spec.kv_names("past_key_values", "decoder")
        feed = self._cross_feed(encoded)
        views = len(encoded.features)
        past = self._past_of(views)
        tokens: list[int] = []
        log_probabilities: list[float] = []
        token = self._generation.start_token
        # The start token takes one of max_tokens' places, as in transformers' max_length.
        while len(tokens) < self._generation.max_tokens - 1:
            if clock is not None and clock() > deadline_s:
                return self._cut_short(tokens, log_probabilities)
            feed["input_ids"] = _ort_value(np.full((views, 1), token, np.int64))
            feed.update(zip(past_names, past, strict=True))
            logits, *past = self._decoder.run_with_ort_values(self._decoder_outputs, feed)
            last = logits.numpy()[:, -1].mean(axis=0, keepdims=True)
            token = int(self._next_tokens(last)[0])
            log_probabilities.append(float(_log_softmax(last, np.array([token]))[0]))
            if token == self._generation.end_token:
                break
            tokens.append(token)
        text = self._tokenizer.decode(tokens)
        return Generated(text, tuple(tokens), True, tuple(log_probabilities))

    def log_probability(self, encoded: Encoded, text: str, *, finished: bool = True) -> float:
        """Log-likelihood of ``text`` as a caption of the picture, in nats, in one decoder call.

        Args:
            encoded: what ``encode`` gave, or ``encode_views``.
            text: anybody's caption; what is longer than this captioner's longest is cut.
            finished: whether the caption ends there: the end token counts too.
        """
        settings = self._generation
        ids = self._tokenizer.encode(text) + [settings.end_token] * finished
        ids = ids[: settings.max_tokens - 1]
        if not ids:
            return 0.0
        feed = self._cross_feed(encoded)
        views = len(encoded.features)
        row = np.array([[settings.start_token, *ids[:-1]]], np.int64)
        feed["input_ids"] = _ort_value(np.repeat(row, views, axis=0))
        past_names = self._spec.kv_names("past_key_values", "decoder")
        feed.update(zip(past_names, self._past_of(views), strict=True))
        (logits,) = self._decoder.run_with_ort_values(["logits"], feed)
        return float(_log_softmax(logits.numpy().mean(axis=0), np.array(ids)).sum())

    def caption_batch(self, canvases: Pixels) -> list[str]:
        """Greedy captions of (B, height, width, 3) uint8 RGB canvases, made side by side.

        What ``encode`` and ``generate`` say of each alone, but for rounding: on int8 graphs, whose
        scales are found from the whole batch, a caption may now and then differ.
        """
        feed = self._cross_feed(self._encode(to_tensor(canvases, self._preprocessing)))
        past_names = self._spec.kv_names("past_key_values", "decoder")
        past = self._make_empty_past(len(canvases))
        tokens: list[list[int]] = [[] for _ in canvases]
        running = np.ones(len(canvases), np.bool_)
        step = np.full((len(canvases), 1), self._generation.start_token, np.int64)
        for _ in range(self._generation.max_tokens - 1):
            feed["input_ids"] = _ort_value(step)
            feed.update(zip(past_names, past, strict=True))
            logits, *past = self._decoder.run_with_ort_values(self._decoder_outputs, feed)
            step = self._next_tokens(logits.numpy()[:, -1])[:, None]
            running &= step[:, 0] != self._generation.end_token
            for row in np.flatnonzero(running):
                tokens[row].append(int(step[row, 0]))
            if not running.any():
                break
        return [self._tokenizer.decode(row) for row in tokens]

    def _encode(self, pixel_values: NDArray[np.float32]) -> Encoded:
        feed = {"pixel_values": _ort_value(pixel_values)}
        features, *cross = self._encoder.run_with_ort_values(self._encoder_outputs, feed)
        return Encoded(features.numpy(), tuple(cross))

    def _next_tokens(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """(B, V) -> (B,), the likeliest that is not suppressed."""
        if self._generation.suppress:
            logits = logits.copy()
            logits[:, list(self._generation.suppress)] = -np.inf
        return np.asarray(logits.argmax(axis=1), np.int64)

    def _cut_short(self, tokens: list[int], log_probabilities: list[float]) -> Generated:
        """The caption without its last word, which may be the beginning of a longer one."""
        text = self._tokenizer.decode(tokens).rpartition(" ")[0]
        kept = len(tokens)
        while kept and len(self._tokenizer.decode(tokens[:kept])) > len(text):
            kept -= 1
        return Generated(text, tuple(tokens), False, tuple(log_probabilities[:kept]))

    def _cross_feed(self, encoded: Encoded) -> dict[str, Any]:
        names = self._spec.kv_names("past_key_values", "encoder")
        return dict(zip(names, encoded.cross, strict=True))

    def _past_of(self, views: int) -> list[Any]:
        return self._empty_past if views == 1 else self._make_empty_past(views)

    def _make_empty_past(self, batch: int) -> list[Any]:
        shape = (batch, self._spec.heads, 0, self._spec.head_dim)
        count = len(self._spec.kv_names("past_key_values", "decoder"))
        return [_ort_value(np.empty(shape, np.float32)) for _ in range(count)]


def _ort_value(array: NDArray[Any]) -> Any:
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)


def _log_softmax(logits: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """(T, V) logits and T ids -> (T,) log-probabilities of the ids, in nats."""
    highest = logits.max(axis=1)
    log_sums = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    picked: NDArray[np.float32] = logits[np.arange(len(chosen)), chosen] - log_sums
    return picked
