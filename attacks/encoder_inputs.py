"""What an encoder is fed with while a captioner is fitted; what is frozen runs once a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample

_BATCH: Final = 32


def load_canvases(captioner: Captioner, samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """Every picture as the model sees it: (N, height, width, 3) uint8 RGB, with a progress bar."""
    spec = captioner.preprocessing
    out = np.empty((len(samples), spec.height, spec.width, 3), np.uint8)
    for i, sample in enumerate(tracked(samples, "reading pictures")):
        out[i] = captioner.canvases([sample.load()])[0]
    return out


class EncoderInputs:
    """Keyword arguments of a VisionEncoderDecoder model, picture by picture.

    Args:
        captioner: its encoder is put into evaluation mode where parts of it are kept.
        canvases: (N, height, width, 3) uint8 RGB.
        frozen: whether nothing of the encoder learns: its features are computed once.
        trained_blocks: how many of its last blocks learn, with all that comes after them; what
            comes before is computed once. None for the whole encoder. Kept as float16.
    """

    def __init__(
        self,
        captioner: Captioner,
        canvases: NDArray[np.uint8],
        *,
        frozen: bool,
        trained_blocks: int | None,
    ) -> None:
        self._captioner, self._canvases = captioner, canvases
        encoder: Any = captioner.model.encoder
        self._tail: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._kept: NDArray[np.float16] | None = None
        if frozen:
            self._tail = lambda features: features
            self._kept = self._run_once(lambda values: encoder(values).last_hidden_state)
        elif trained_blocks is not None:
            head, tail = encoder.split(trained_blocks)
            self._tail = lambda features: encoder.to_sequence(tail(features))
            self._kept = self._run_once(head)

    def of(self, chosen: NDArray[np.int64]) -> dict[str, Any]:
        """The arguments for the pictures ``chosen``; gradients reach the trained blocks."""
        if self._kept is None or self._tail is None:
            return {"pixel_values": self._captioner.pixel_values(self._canvases[chosen])}
        return {"encoder_outputs": (self._tail(torch.from_numpy(self._kept[chosen]).float()),)}

    @torch.no_grad()
    def _run_once(self, part: Callable[[torch.Tensor], torch.Tensor]) -> NDArray[np.float16]:
        self._captioner.model.encoder.eval()
        parts = []
        starts = range(0, len(self._canvases), _BATCH)
        for start in tracked(starts, "encoding pictures"):
            values = self._captioner.pixel_values(self._canvases[start : start + _BATCH])
            # Faster on CPU. Not for training: its backward pass corrupted memory in torch 2.13.
            values = values.to(memory_format=torch.channels_last)
            parts.append(part(values).half().contiguous().numpy())
        return np.concatenate(parts)
