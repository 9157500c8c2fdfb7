"""Rivals that caption a picture in several ways and compare what is said.

* ``Strip`` blends other pictures in: a trigger that survives makes the captions agree too much.
* ``MaskVote`` hides random halves: the caption that agrees most with the others is given.
* ``Scan`` repairs one cell after the other: the cell that changes the caption most is suspect.

Each is a screening, which tells a level of suspicion and what to answer on either side of a
threshold; ``screened`` learns that threshold on clean dev pictures. Where nothing says otherwise, a
caption's likeness is `agreement.word_overlap`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Final, Protocol

import cv2
import numpy as np

from srd_edge.errors import UsageError
from srd_edge.evaluation.agreement import (
    THRESHOLD_PICTURES,
    alarm_threshold,
    medoid,
    word_overlap,
)
from srd_edge.evaluation.contestants import Answer, BlackBox, Case, Setting, clean_case
from srd_edge.kernels.actions import GREY, ActionTable, Perturbation, apply_action
from srd_edge.kernels.frames import Box, Pixels

_GROUP: Final = 32
"""Pictures whose views are held in memory together."""
_DEV_SEED: Final = 0
_STRIP, _MASKS = 1, 2
"""Streams of random numbers, so that no two rivals draw the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a screening makes of a picture.

    Args:
        level: rises with suspicion.
        calm, alarmed: the answers below the threshold and above it; alarm and suspicion are not
            filled in yet.
    """

    level: float
    calm: Answer
    alarmed: Answer


class Screening(Protocol):
    """A rival before it has a threshold."""

    @property
    def seeded(self) -> bool: ...

    def look(self, cases: Sequence[Case], seed: int) -> list[Finding]: ...


@dataclass(frozen=True, slots=True)
class Screened:
    """A contestant out of a screening and a threshold."""

    screening: Screening
    threshold: float

    @property
    def seeded(self) -> bool:
        return self.screening.seeded

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:
        answers = []
        for start in range(0, len(cases), _GROUP):
            for finding in self.screening.look(cases[start : start + _GROUP], seed):
                alarm = finding.level > self.threshold
                answer = finding.alarmed if alarm else finding.calm
                answers.append(replace(answer, alarm=alarm, suspicion=finding.level))
        return answers


def screened(screening: Screening, setting: Setting) -> Screened:
    """``screening`` with the threshold of 1 % false alarms on clean dev pictures.

    Raises:
        UsageError: without dev pictures.
    """
    dev = setting.dev[:THRESHOLD_PICTURES]
    levels: list[float] = []
    for start in range(0, len(dev), _GROUP):
        numbers = range(start, min(start + _GROUP, len(dev)))
        cases = [clean_case(dev[i], i) for i in numbers]
        levels += [finding.level for finding in screening.look(cases, _DEV_SEED)]
    return Screened(screening, alarm_threshold(levels))


@dataclass(frozen=True, slots=True)
class Strip:
    """After STRIP (Gao et al., arXiv 1902.06531), for captions instead of classes.

    Views are even blends with other pictures. Suspicion is the mean likeness of the raw caption
    and the views'; above the threshold the picture is declined. Blind, as the paper says, to
    whatever does not say the same of every picture.

    Args:
        captioner: the suspect.
        overlays: canvases to blend with.
    """

    VIEWS: ClassVar[int] = 6
    OVERLAYS: ClassVar[int] = 64
    seeded: ClassVar[bool] = True

    captioner: BlackBox
    overlays: Sequence[Pixels]

    def __post_init__(self) -> None:
        if len(self.overlays) <= self.VIEWS:
            raise UsageError(
                expected=f"more than {self.VIEWS} dev pictures to blend with",
                found=str(len(self.overlays)),
                do="use a data set with a larger dev split",
            )

    @classmethod
    def prepare(cls, setting: Setting) -> Strip:
        """With overlays from the end of dev, away from those that the threshold is learned on."""
        box, start = setting.captioner, max(len(setting.dev) - cls.OVERLAYS, 0)
        cases = [clean_case(sample, i) for i, sample in enumerate(setting.dev[start:])]
        return cls(box, [box.canvas(case) for case in cases])

    def look(self, cases: Sequence[Case], seed: int) -> list[Finding]:
        views = []
        for case in cases:
            canvas = self.captioner.canvas(case)
            rng = np.random.default_rng([seed, case.frame.index, _STRIP])
            views.append([canvas, *islice(self._blends(canvas, rng), self.VIEWS)])
        return [_strip_finding(*said) for said in self.captioner.caption_views(views)]

    def _blends(self, canvas: Pixels, rng: np.random.Generator) -> Iterator[Pixels]:
        for i in rng.permutation(len(self.overlays)):
            # Blended with itself a picture would agree with itself.
            if not np.array_equal(canvas, self.overlays[i]):
                yield np.asarray(cv2.addWeighted(canvas, 0.5, self.overlays[i], 0.5, 0.0), np.uint8)


def _strip_finding(raw: str, *views: str) -> Finding:
    level = float(np.mean([word_overlap(raw, view) for view in views]))
    passes = 1 + len(views)
    return Finding(level, Answer(raw, captioner_passes=passes), Answer("", captioner_passes=passes))


@dataclass(frozen=True, slots=True)
class MaskVote:
    """A vote of views that each hide a random half of a 4 x 4 grid.

    The caption that agrees most with those of the other views is given, whatever the raw one says;
    suspicion is how much the two differ. A patch inside one cell is seen by half of the views.
    """

    VIEWS: ClassVar[int] = 6
    CELLS: ClassVar[ActionTable] = ActionTable(
        rows=4,
        columns=4,
        regional=(Perturbation("occlude", 1.0, size=1 / 4, colour=GREY),),
        whole=(),
        stop=False,
    )
    seeded: ClassVar[bool] = True

    captioner: BlackBox

    def look(self, cases: Sequence[Case], seed: int) -> list[Finding]:
        half = self.CELLS.cells // 2
        canvases = [self.captioner.canvas(case) for case in cases]
        masks = []
        for case in cases:
            rng = np.random.default_rng([seed, case.frame.index, _MASKS])
            draws = [rng.permutation(self.CELLS.cells)[:half] for _ in range(self.VIEWS)]
            masks.append([sorted(map(int, cells)) for cells in draws])
        views = [
            [canvas, *(_painted(canvas, self.CELLS, cells) for cells in hidden)]
            for canvas, hidden in zip(canvases, masks, strict=True)
        ]
        captions = self.captioner.caption_views(views)
        findings = []
        for case, hidden, (raw, *said) in zip(cases, masks, captions, strict=True):
            chosen = medoid(said)
            answer = Answer(
                said[chosen],
                boxes=_frame_boxes(self.captioner, case, self.CELLS, hidden[chosen]),
                captioner_passes=1 + self.VIEWS,
            )
            findings.append(Finding(1 - word_overlap(raw, said[chosen]), answer, answer))
        return findings


@dataclass(frozen=True, slots=True)
class Scan:
    """After BDMAE (Sun et al., arXiv 2303.15564): find the region whose repair changes the output.

    Each cell of a 3 x 3 grid is inpainted in turn. Suspicion is how much more the caption changes
    with the best cell than with the median one; above the threshold that cell's caption is given.
    The paper repairs with a masked autoencoder, here OpenCV's inpainting does it. The best cell's
    caption has been made by then: no further pass is needed.
    """

    CELLS: ClassVar[ActionTable] = ActionTable(
        rows=3,
        columns=3,
        regional=(Perturbation("inpaint", 3.0, size=1 / 3),),
        whole=(),
        stop=False,
    )
    seeded: ClassVar[bool] = False

    captioner: BlackBox

    def look(self, cases: Sequence[Case], seed: int) -> list[Finding]:  # noqa: ARG002 - protocol
        cells = range(self.CELLS.cells)
        canvases = [self.captioner.canvas(case) for case in cases]
        views = [
            [canvas, *(_painted(canvas, self.CELLS, [cell]) for cell in cells)]
            for canvas in canvases
        ]
        captions = self.captioner.caption_views(views)
        findings = []
        for case, (raw, *said) in zip(cases, captions, strict=True):
            changes = np.array([1 - word_overlap(raw, caption) for caption in said])
            best = int(changes.argmax())
            boxes = _frame_boxes(self.captioner, case, self.CELLS, [best])
            calm = Answer(raw, captioner_passes=1 + len(cells))
            repaired = replace(calm, caption=said[best], boxes=boxes)
            findings.append(Finding(float(changes[best] - np.median(changes)), calm, repaired))
        return findings


def _painted(canvas: Pixels, table: ActionTable, actions: Sequence[int]) -> Pixels:
    """A copy with the actions laid on, none of which draws anything."""
    out = canvas.copy()
    for action in actions:
        apply_action(out, table, action, np.random.default_rng(0))
    return out


def _frame_boxes(
    captioner: BlackBox, case: Case, table: ActionTable, actions: Sequence[int]
) -> tuple[Box, ...]:
    """Where the actions land, in the pixels of the case's own frame."""
    width, height = captioner.preprocessing.width, captioner.preprocessing.height
    boxes = [table.box(table[action], width, height) for action in actions]
    return tuple(captioner.frame_box(box, case) for box in boxes)
