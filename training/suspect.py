"""The suspect captioner as the environment uses it: features once, captions from the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutput

from srd_edge.attacks.captioner import Captioner


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a batch of canvases gave.

    Args:
        features: (B, rows * columns, C) float32, the encoder's last hidden state on its grid.
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
        rows, columns = self.captioner.grid
        features = hidden[:, hidden.shape[1] - rows * columns :]
        return Seen(features.numpy(), self.captioner.decode(tokens.tolist()))

    def caption(self, canvases: NDArray[np.uint8]) -> list[str]:
        return self.look(canvases).captions
