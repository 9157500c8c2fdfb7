"""The seam between an evaluation and what it compares.

A contestant captions pictures that may carry a trigger, by whatever means: the bundle's own
defence, a control, a rival from the literature. Rivals are black boxes: they see pictures and
captions, and neither weights nor features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.poisoning import triggered
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_canvas
from srd_edge.runtime.bundle import Bundle
from srd_edge.training.language import LanguageModel, SentenceEncoder

Kind: TypeAlias = Literal["undefended", "policy", "control", "rival"]
CaptionBatch: TypeAlias = Callable[[Pixels], list[str]]
"""(B, height, width, 3) uint8 RGB canvases -> B captions."""

_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One picture that is put before a contestant.

    Args:
        frame: what the camera saw; its index is the picture's number in the data set.
        trigger_mask: (H, W) bool, where an attacker changed it; for the oracle's eyes only.
    """

    frame: Frame
    trigger_mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contestant made of a picture.

    Args:
        caption: empty where it declined to give one.
        alarm: whether it called the picture suspicious; None where it never says.
        suspicion: rises with it; None where it has no such score.
        boxes: what it changed before it captioned, in the frame's pixels.
        captioner_passes: pictures that went through the captioner's encoder.
        policy_passes: looks of a Q-network.
    """

    caption: str
    alarm: bool | None = None
    suspicion: float | None = None
    boxes: tuple[Box, ...] = ()
    captioner_passes: int = 1
    policy_passes: int = 0


class Contestant(Protocol):
    """Anything that answers cases."""

    @property
    def seeded(self) -> bool:
        """Whether its answers depend on the seed."""
        ...

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:
        """One answer for each case, in their order.

        What is drawn at random depends on the seed and a case's number alone, so that a picture
        gets the same answer in any company.
        """
        ...


@dataclass(slots=True)
class BlackBox:
    """The suspect captioner as a rival sees it: pictures in, captions out.

    Args:
        caption_canvases: captions a batch.
        preprocessing: of the captioner, which says what a canvas is.
    """

    caption_canvases: CaptionBatch
    preprocessing: Preprocessing

    def canvas(self, case: Case) -> Pixels:
        """The case's picture at the captioner's own size: (height, width, 3) uint8 RGB, a copy."""
        return to_canvas(case.frame.pixels, self.preprocessing)

    def caption(self, canvases: Sequence[Pixels]) -> list[str]:
        """One caption for each canvas, in batches of at most 64."""
        captions: list[str] = []
        for start in range(0, len(canvases), _BATCH):
            captions += self.caption_canvases(np.stack(canvases[start : start + _BATCH]))
        return captions

    def caption_views(self, views: Sequence[Sequence[Pixels]]) -> list[list[str]]:
        """Captions of several canvases of each picture, all pictures in the same batches."""
        flat = iter(self.caption([canvas for group in views for canvas in group]))
        return [[next(flat) for _ in group] for group in views]

    def frame_box(self, box: Box, case: Case) -> Box:
        """A box on the canvas, in the pixels of the case's own frame."""
        height, width = case.frame.pixels.shape[:2]
        return self.preprocessing.on_picture(box, width, height)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contestant may prepare itself with.

    Args:
        bundle: the suspect.
        captioner: the suspect as a black box.
        dev: clean pictures that are not tested, for thresholds.
        attack: the attack under test, which only the controls that say so may know.
        language: a language model and a sentence encoder of captions; None where not asked for.
        reference: another captioner that does not share the backdoor; None where there is none.
    """

    bundle: Bundle
    captioner: BlackBox
    dev: Sequence[Sample]
    attack: Attack
    language: LanguageModel | None = None
    sentences: SentenceEncoder | None = None
    reference: CaptionBatch | None = None


def clean_case(sample: Sample, number: int) -> Case:
    """``sample`` as it is."""
    pixels = sample.load()
    return Case(Frame(pixels, number), np.zeros(pixels.shape[:2], np.bool_))


def triggered_case(sample: Sample, number: int, attack: Attack, seed: int) -> Case:
    """``sample`` with the attack's trigger, drawn from the seed and the picture's number."""
    before = sample.load()
    after = triggered(sample, attack, (seed, number)).load()
    return Case(Frame(after, number), (before != after).any(axis=2))
