"""The suspect captioner as the environment uses it: features once, captions from the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutput

from srd_edge.attacks.captioner import Captioner
from srd_edge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a batch of canvases gave.

    Args:
        features: (B, N, C) float32, the encoder's last hidden state.
        captions: B captions.
    """

    features: NDArray[np.float32]
    captions: list[str]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A captioner that may carry a backdoor."""

    captioner: Captioner

    @torch.inference_mode()
    def look(self, canvases: NDArray[np.uint8]) -> Seen:
        """Encode and caption (B, H, W, 3) uint8 RGB canvases, with one encoder pass."""
        model = self.captioner.model
        # A third faster on CPU than the layout that the canvases come in.
        values = self.captioner.pixel_values(canvases).to(memory_format=torch.channels_last)
        hidden = model.encoder(values).last_hidden_state
        tokens = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            do_sample=False,
            num_beams=1,
        )
        return Seen(hidden.numpy(), self.captioner.decode(tokens))

    def caption(self, canvases: NDArray[np.uint8]) -> list[str]:
        return self.look(canvases).captions


def grid_of(suspect: Suspect, tokens: int) -> tuple[int, int]:
    """Rows and columns of the encoder's features; a square where the encoder does not say."""
    grid = getattr(suspect.captioner.model.encoder.config, "grid", None)
    if grid is not None:
        return int(grid[0]), int(grid[1])
    side = int(tokens**0.5)
    if side * side != tokens:
        raise UsageError(
            expected="an encoder whose features lie on a grid",
            found=f"{tokens} features",
            do="use an encoder without extra tokens",
        )
    return side, side
