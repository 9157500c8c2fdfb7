"""What a trusted captioner thinks of captions that others wrote.

A caption is forced on it word by word; -log p of each token, given the picture and the tokens
before it, is the token's cost in nats. The end of a caption counts as a token, a prompt does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutput

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.fitting import TokenisedCaptions, tokenise
from srd_edge.attacks.samples import Sample
from srd_edge.kernels.actions import GREY
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import jpeg

_JPEG_QUALITY: Final = 30.0


@dataclass(frozen=True, slots=True)
class Doubts:
    """Three reasons to doubt a picture and its captions; higher is worse.

    Args:
        surprise: nats; the dearest token of a caption, the least over the captions: every caption
            holds something that nobody who saw the picture would say. Finds inserted words.
        mismatch: nats a token, the mean over the captions: how much dearer they are under this
            picture than under no picture, a plain grey one; the negative pointwise mutual
            information of picture and captions. True captions are much cheaper, and a sentence
            that could be said of any picture is not. Finds replaced captions.
        squeezed: nats a token, the mean over the captions: how much dearer they are under the
            picture than under its coarse JPEG. True captions get dearer when details go; where
            they get cheaper, the details had been put there to deceive an encoder (feature
            squeezing, Xu et al., arXiv 1704.01155). Finds feature collisions.
    """

    surprise: float
    mismatch: float
    squeezed: float

    def to_row(self) -> list[float]:
        return list(astuple(self))


def doubts(captioner: Captioner, samples: Sequence[Sample]) -> list[Doubts]:
    """The captioner's doubts about every picture.

    Args:
        captioner: who is asked; one that is trusted.
        samples: pictures with one caption or more each.
    """
    captions = tokenise(captioner, samples)
    canvases = captioner.canvases(sample.load() for sample in samples)
    coarse = np.stack([_squeezed(canvas) for canvas in canvases])
    nothing = np.full_like(canvases[:1], GREY)
    own, under_nothing, under_coarse = (
        _token_costs(captioner, seen, captions) for seen in (canvases, nothing, coarse)
    )
    found = []
    for costs, without, squeezed in zip(own, under_nothing, under_coarse, strict=True):
        mean = np.nanmean(costs, axis=1).mean()
        found.append(
            Doubts(
                surprise=float(np.nanmax(costs, axis=1).min()),
                mismatch=float(mean - np.nanmean(without, axis=1).mean()),
                squeezed=float(mean - np.nanmean(squeezed, axis=1).mean()),
            )
        )
    return found


@torch.inference_mode()
def _token_costs(
    captioner: Captioner, canvases: NDArray[np.uint8], captions: TokenisedCaptions
) -> list[NDArray[np.float32]]:
    """Of each picture's captions under its canvas the (captions, T) costs in nats; NaN: no token.

    Args:
        canvases: (P, H, W, 3) uint8 RGB, or (1, H, W, 3) for all pictures' captions.
    """
    model, settings = captioner.model, captioner.model.generation_config
    counts = [len(rows) for rows in captions.ids]
    ids, labels = (
        torch.from_numpy(np.concatenate(rows)) for rows in (captions.ids, captions.labels)
    )
    longest = int((ids != -100).sum(dim=1).max())
    ids, labels = ids[:, :longest], labels[:, :longest]
    given = torch.roll(ids, 1, dims=1)
    given[:, 0] = settings.decoder_start_token_id
    given = given.masked_fill(given == -100, settings.pad_token_id)
    values = captioner.pixel_values(canvases).to(memory_format=torch.channels_last)
    seen = model.encoder(values).last_hidden_state
    times = torch.tensor(counts if len(canvases) > 1 else [sum(counts)])
    each = BaseModelOutput(last_hidden_state=seen.repeat_interleave(times, dim=0))
    logits = model(encoder_outputs=each, decoder_input_ids=given).logits
    said = labels != -100
    costs = torch.full(labels.shape, torch.nan)
    costs[said] = torch.nn.functional.cross_entropy(logits[said], labels[said], reduction="none")
    return np.split(costs.numpy(), np.cumsum(counts)[:-1])


def _squeezed(canvas: Pixels) -> Pixels:
    """(H, W, 3) uint8 RGB through a coarse JPEG."""
    coarse = canvas.copy()
    whole = Box(0, 0, coarse.shape[1], coarse.shape[0])
    jpeg(coarse, whole, _JPEG_QUALITY, None, np.random.default_rng(0))
    return coarse
