"""A bundle's captioner: a canvas becomes features, features become a caption.

The encoder graph runs once a picture; a decoder of whichever kind the bundle has
(`runtime/decoders.py`) then makes logits, and a search (`runtime/search.py`) makes a caption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_tensor
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import FEATURES, TOKENIZER_FILE
from srd_edge.runtime.decoders import Encoded, State, open_decoder
from srd_edge.runtime.graphs import Value, host_value, open_graph
from srd_edge.runtime.picture_inputs import encoder_inputs
from srd_edge.runtime.search import Line, Search, log_softmax
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.side_by_side import apart, together
from srd_edge.runtime.tokenizer import CaptionTokenizer


def _never() -> bool:
    return False


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


class OnnxCaptioner:
    """Captions canvases with a bundle's encoder and decoder.

    Args:
        bundle: a verified bundle.
        provider: execution provider for all graphs.
        strict: whether a missing provider is an error.
        views: of a picture that are captioned as one, at most.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: Provider = "auto",
        *,
        strict: bool = False,
        views: int = 1,
    ) -> None:
        manifest = bundle.manifest
        self._views = views
        self._encoder = open_graph(bundle, "encoder", provider, strict=strict, views=views)
        self._decoder = open_decoder(bundle, provider, strict=strict, views=views)
        self.provider = self._encoder.provider
        self.fallback = self._encoder.fallback or self._decoder.graph.fallback
        self._settings = manifest.generation
        self._preprocessing: Preprocessing = manifest.preprocessing
        self._tokenizer = CaptionTokenizer(bundle.path(TOKENIZER_FILE))
        self._takes = self._encoder.types
        self._pixel_values = np.empty(
            (1, 3, self._preprocessing.height, self._preprocessing.width), np.float32
        )
        self._memory = manifest.captioner.memory_names
        looked_at = FEATURES if FEATURES in self._encoder.widths else self._memory[0]
        self._features = manifest.observation.tensor if manifest.observation else looked_at

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids that end a caption."""
        return self._settings.end_tokens

    def encode(self, canvas: Pixels) -> Encoded:
        """(height, width, 3) uint8 RGB canvas -> its features, and what the decoder needs of it."""
        spec, out = self._preprocessing, self._pixel_values
        inputs = encoder_inputs(canvas, spec, self._takes, out)
        return self._encode(inputs, spec.layout(canvas))

    def encode_views(self, canvases: Pixels) -> Encoded:
        """(V, height, width, 3) uint8 RGB views of one picture, to be captioned as one."""
        spec = self._preprocessing
        if spec.tiling is None:
            return self._encode(
                {"pixel_values": to_tensor(canvases, spec)}, spec.layout(canvases[0])
            )
        return together([self.encode(canvas) for canvas in canvases])

    def generate(
        self,
        encoded: Encoded,
        *,
        expired: Callable[[], bool] = _never,
    ) -> Generated:
        """The caption, searched for as the bundle says; of several views, one for all of them.

        Args:
            encoded: what ``encode`` or ``encode_views`` gave.
            expired: whether time is up; asked before each token.
        """
        search = Search(self._decoder, self._settings, encoded.rows, expired)
        state = self._decoder.start(encoded)
        line = search.beams(state) if self._settings.beams > 1 else search.greedy(state)[0]
        return self._generated(line)

    def encode_each(self, canvases: Sequence[Pixels]) -> list[Encoded]:
        """As ``encode`` of each canvas, but for rounding; side by side where that is possible."""
        if self._preprocessing.tiling is not None or not self._side_by_side(len(canvases)):
            return [self.encode(canvas) for canvas in canvases]
        return apart(self.encode_views(np.stack(canvases)))

    def generate_each(
        self, encoded: Sequence[Encoded], *, expired: Callable[[], bool] = _never
    ) -> list[Generated]:
        """As ``generate`` of each picture, but for rounding; side by side where that is possible.

        Rounding may change a caption on int8 graphs, whose scales are found from all pictures.
        """
        alike = len({picture.layout for picture in encoded}) == 1
        if not (alike and self._side_by_side(len(encoded))):
            return [self.generate(picture, expired=expired) for picture in encoded]
        whole = together(encoded)
        memory = tuple(self._decoder.graph.bring(value) for value in whole.memory)
        search = Search(self._decoder, self._settings, 1, expired)
        lines = search.greedy(self._decoder.start(replace(whole, memory=memory)))
        return [self._generated(line) for line in lines]

    def next_logits(self, encoded: Encoded, tokens: Sequence[int]) -> NDArray[np.float32]:
        """(V,) logits of what follows the prompt and ``tokens``, before any rule."""
        state = self._decoder.start(encoded)
        logits = self._logits_before_each(state, [*tokens, 0]).mean(axis=0)
        return np.asarray(logits[-1], np.float32)

    def log_probability(self, encoded: Encoded, text: str, *, finished: bool = True) -> float:
        """Log-likelihood of ``text`` as a caption of the picture, in nats, in one decoder call.

        Args:
            encoded: what ``encode`` gave, or ``encode_views``.
            text: anybody's caption; what is longer than this captioner's longest is cut.
            finished: whether the caption ends there: the end token counts too.
        """
        settings = self._settings
        ids = self._tokenizer.encode(text) + [*settings.end_tokens[:1]] * finished
        ids = ids[: settings.max_new_tokens]
        if not ids:
            return 0.0
        state = self._decoder.start(encoded)
        logits = self._logits_before_each(state, ids).mean(axis=0)
        return float(log_softmax(logits)[np.arange(len(ids)), ids].sum())

    def caption_batch(self, canvases: Pixels) -> list[str]:
        """Captions of (B, height, width, 3) uint8 RGB canvases, made side by side if possible."""
        return [made.text for made in self.generate_each(self.encode_each(list(canvases)))]

    def _side_by_side(self, pictures: int) -> bool:
        """Whether so many pictures alike can be captioned at once, and there are several."""
        # TensorRT's engine is built for no more at once than a frame has views.
        room = self.provider != "tensorrt" or pictures <= self._views
        return pictures > 1 and room and self._settings.beams == 1

    def _encode(self, inputs: dict[str, NDArray[Any]], layout: Layout) -> Encoded:
        takes = self._takes
        feed = {n: host_value(array.astype(takes[n], copy=False)) for n, array in inputs.items()}
        names = list(dict.fromkeys((self._features, *self._memory)))
        given = dict(zip(names, self._encoder.run(names, feed), strict=True))
        features = np.asarray(given[self._features].numpy(), np.float32)
        # Once for all steps, where the encoder runs elsewhere than the decoder.
        bring = self._decoder.graph.bring
        memory = tuple(bring(_of_a_picture(given[name])) for name in self._memory)
        return Encoded(features[None] if features.ndim == 2 else features, memory, layout)

    def _logits_before_each(self, state: State, ids: list[int]) -> NDArray[np.float32]:
        """(rows, T, V): what was likely where each of the T ids stands."""
        prompt = self._settings.prompt
        read = [*prompt, *ids[:-1]]
        known = [] if state.logits is None or prompt else [state.logits[:, None]]
        if read:
            logits, _ = self._decoder.advance(state, np.tile([read], (state.rows, 1)))
            known.append(logits[:, max(len(prompt) - 1, 0) :])
        return np.concatenate(known, axis=1)

    def _generated(self, line: Line) -> Generated:
        """A caption; one that was cut short is without its last word, which may be half of one."""
        if line.finished:
            text = self._tokenizer.decode(line.tokens)
            return Generated(text, tuple(line.tokens), True, tuple(line.log_probabilities))
        text = self._tokenizer.decode(line.tokens).rpartition(" ")[0]
        kept = len(line.tokens)
        while kept and len(self._tokenizer.decode(line.tokens[:kept])) > len(text):
            kept -= 1
        return Generated(text, tuple(line.tokens), False, tuple(line.log_probabilities[:kept]))


def _of_a_picture(value: Value) -> Value:
    """What is (N, D), as (1, N, D)."""
    return host_value(value.numpy()[None]) if len(value.shape()) == 2 else value
