"""Reference captions for the reward: the data set's own, another captioner's, or a consensus.

The consensus needs no trusted model at all: the suspect captions several views of a picture, each
hiding much of it, and the view caption closest in meaning to the others is the reference. Views
that keep a trigger all say the attacker's words, so a view's vote is divided by how many views
share its very wording: a sentence repeated letter for letter counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from srd_edge.attacks.samples import Sample
from srd_edge.kernels.actions import GREY, ActionTable, Perturbation, apply_action
from srd_edge.training.fidelity import SemanticFidelity

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
    caption: CaptionCanvases, canvases: NDArray[np.uint8], fidelity: SemanticFidelity
) -> list[tuple[str, ...]]:
    """One reference caption a picture, elected from the captions of its views."""
    elected: list[tuple[str, ...]] = []
    for start in track(
        range(0, len(canvases), _BATCH), description="consensus captions", transient=True
    ):
        batch = canvases[start : start + _BATCH]
        by_view = [caption(_view(batch, actions)) for actions in _VIEWS]
        elected += [(_elect(captions, fidelity),) for captions in zip(*by_view, strict=True)]
    return elected


def caption_references(samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    """The data set's own captions."""
    return [sample.captions for sample in samples]


def captioner_captions(
    caption: CaptionCanvases, canvases: NDArray[np.uint8]
) -> list[tuple[str, ...]]:
    """One caption a picture by another captioner, which does not share the backdoor."""
    texts: list[str] = []
    for start in track(
        range(0, len(canvases), _BATCH), description="reference captions", transient=True
    ):
        texts += caption(canvases[start : start + _BATCH])
    return [(text,) for text in texts]


def _view(canvases: NDArray[np.uint8], actions: Sequence[int]) -> NDArray[np.uint8]:
    out = canvases.copy()
    rng = np.random.default_rng(0)
    for canvas in out:
        for action in actions:
            apply_action(canvas, CONSENSUS_VIEWS, action, rng)
    return out


def _elect(captions: Sequence[str], fidelity: SemanticFidelity) -> str:
    different = list(dict.fromkeys(captions))
    if len(different) == 1:
        return different[0]
    vectors = fidelity.sentences.embed(different)
    agreement = (vectors @ vectors.T).fill_diagonal_(0).sum(dim=1) / (len(different) - 1)
    log_perplexity = fidelity.language.log_perplexity(different)
    fluency = (log_perplexity.min() - log_perplexity).exp()
    votes = fidelity.weight * agreement + (1 - fidelity.weight) * fluency
    return different[int(votes.argmax())]
