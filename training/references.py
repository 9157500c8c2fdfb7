"""Reference captions for the reward: the data set's own, another captioner's, or a consensus.

The consensus needs no trusted model at all: the suspect captions several views of a picture, each
hiding much of it, and what those captions share in meaning is the reference. Views that keep a
trigger may all say the attacker's sentence, so a sentence counts once however many views repeat it
letter for letter: a fixed payload has one vote, while true captions differ with what a view shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample
from srd_edge.kernels.actions import GREY, ActionTable, Perturbation, apply_action

ReferenceKind: TypeAlias = Literal["captions", "captioner", "consensus"]
CaptionCanvases: TypeAlias = Callable[[NDArray[np.uint8]], list[str]]
"""(B, H, W, 3) uint8 RGB canvases -> B captions."""

_BATCH: Final = 64

CONSENSUS_VIEWS: Final = ActionTable(
    rows=2,
    columns=2,
    regional=(Perturbation("occlude", 1.0, size=0.5, colour=GREY),),
    whole=(
        Perturbation("shrink_and_pad", 0.8, colour=GREY),
        Perturbation("colour_mask", 0.4, colour=GREY),
        Perturbation("gaussian_blur", 1.5),
    ),
    stop=False,
)
"""Four hidden quadrants, laid on in pairs (halves and diagonals), and three whole-frame views."""

_VIEWS: Final = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2), (4,), (5,), (6,))


def consensus_captions(
    caption: CaptionCanvases, canvases: NDArray[np.uint8]
) -> list[tuple[str, ...]]:
    """The different captions of each picture's views, in the order of the views."""
    references: list[tuple[str, ...]] = []
    for start in tracked(range(0, len(canvases), _BATCH), "consensus captions"):
        batch = canvases[start : start + _BATCH]
        by_view = [caption(_view(batch, actions)) for actions in _VIEWS]
        references += [tuple(dict.fromkeys(views)) for views in zip(*by_view, strict=True)]
    return references


def caption_references(samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    """The data set's own captions."""
    return [sample.captions for sample in samples]


def captioner_captions(
    caption: CaptionCanvases, canvases: NDArray[np.uint8]
) -> list[tuple[str, ...]]:
    """One caption a picture by another captioner, which does not share the backdoor."""
    texts: list[str] = []
    for start in tracked(range(0, len(canvases), _BATCH), "reference captions"):
        texts += caption(canvases[start : start + _BATCH])
    return [(text,) for text in texts]


def _view(canvases: NDArray[np.uint8], actions: Sequence[int]) -> NDArray[np.uint8]:
    out = canvases.copy()
    rng = np.random.default_rng(0)
    for canvas in out:
        for action in actions:
            apply_action(canvas, CONSENSUS_VIEWS, action, rng)
    return out
