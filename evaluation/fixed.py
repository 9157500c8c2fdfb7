"""Defences that decide nothing: one perturbation laid over every picture, and the oracle's mask.

The best of the fixed ones and the oracle are told what no defence can know: they show how much of
a policy's work any perturbation would have done, and how little is left to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import cv2
import numpy as np

from srd_edge.attacks.poisoning import counted
from srd_edge.evaluation.contestants import (
    Answer,
    BlackBox,
    Case,
    Setting,
    clean_case,
    triggered_case,
)
from srd_edge.kernels.actions import DEFAULT_TABLE, GREY, ActionTable, Perturbation, apply_action
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import occlude
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.training.caption_metrics import cider_d

BLUR: Final = Perturbation("gaussian_blur", 2.0)
JPEG: Final = Perturbation("jpeg", 20.0)
SHRINK_PAD: Final = Perturbation("shrink_and_pad", 0.7, colour=GREY)

CANDIDATES: Final = (
    ActionTable(
        rows=2,
        columns=2,
        regional=(Perturbation("occlude", 1.0, size=1 / 2, colour=GREY),),
        whole=DEFAULT_TABLE.whole,
        stop=False,
    ),
    ActionTable(
        rows=3,
        columns=3,
        regional=(Perturbation("occlude", 1.0, size=1 / 3, colour=GREY),),
        whole=(),
        stop=False,
    ),
)
"""What the best fixed perturbation is chosen from: the actions of both tables, 21 in all."""

CHOOSING_PICTURES: Final = 96
_CHOOSING_SEED: Final = 0
_UNTOUCHED, _TOUCHED = 64, 192
"""Grey levels of a mask on its way through a resize, with room for the filter's overshoot."""
_GAP: Final = 16
"""Parts of a trigger that lie closer than the canvas's width over this are one."""


@dataclass(frozen=True, slots=True)
class FixedPerturbation:
    """Lays the same action over every picture.

    Args:
        captioner: the suspect.
        table, action: what is laid on.
    """

    seeded: ClassVar[bool] = False

    captioner: BlackBox
    table: ActionTable
    action: int = 0

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:  # noqa: ARG002 - protocol
        canvases, boxes = [], []
        for case in cases:
            canvas = self.captioner.canvas(case)
            rng = np.random.default_rng(case.frame.index)
            box = apply_action(canvas, self.table, self.action, rng)
            canvases.append(canvas)
            boxes.append(() if box is None else (self.captioner.frame_box(box, case),))
        captions = self.captioner.caption(canvases)
        return [Answer(caption, boxes=box) for caption, box in zip(captions, boxes, strict=True)]


def fixed(setting: Setting, perturbation: Perturbation) -> FixedPerturbation:
    """``perturbation`` over the whole of every picture."""
    table = ActionTable(rows=1, columns=1, regional=(), whole=(perturbation,), stop=False)
    return FixedPerturbation(setting.captioner, table)


def best_fixed(setting: Setting) -> FixedPerturbation:
    """The single action that serves best against the attack, chosen on dev pictures.

    A control: no defence is told the trigger. The least sum of two shares is best: ASR on
    triggered dev pictures, and the CIDEr-D that is lost on clean ones. The first of equals wins.

    Raises:
        UsageError: when every dev picture truly shows the attack's target.
    """
    attack, dev = setting.attack, setting.dev
    clean = [clean_case(sample, i) for i, sample in enumerate(dev[:CHOOSING_PICTURES])]
    triggered = [
        triggered_case(dev[i], i, attack, _CHOOSING_SEED)
        for i in counted(dev, attack)[:CHOOSING_PICTURES]
    ]
    references = [sample.captions for sample in dev[: len(clean)]]
    box = setting.captioner
    before = cider_d(box.caption([box.canvas(case) for case in clean]), references)

    def loss(candidate: FixedPerturbation) -> float:
        said = [answer.caption for answer in candidate.answer(triggered, _CHOOSING_SEED)]
        asr = float(np.mean([attack.payload.succeeded(caption) for caption in said]))
        if not before:  # nothing to lose
            return asr
        kept = [answer.caption for answer in candidate.answer(clean, _CHOOSING_SEED)]
        return asr + 1 - cider_d(kept, references) / before

    actions = [(table, action) for table in CANDIDATES for action in range(len(table))]
    return min((FixedPerturbation(box, *action) for action in actions), key=loss)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Hides the trigger, and nothing of a picture without one: a control that is told the place.

    Patches that lie apart are hidden apart. A trigger that is everywhere takes the whole picture
    with it: no mask, however well placed, cures that.
    """

    seeded: ClassVar[bool] = False

    captioner: BlackBox

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:  # noqa: ARG002 - protocol
        canvases, boxes = [], []
        for case in cases:
            canvas, hidden = self.captioner.canvas(case), self._trigger_boxes(case)
            for box in hidden:
                occlude(canvas, box, 1.0, GREY, np.random.default_rng(0))
            canvases.append(canvas)
            boxes.append(tuple(self.captioner.frame_box(box, case) for box in hidden))
        captions = self.captioner.caption(canvases)
        return [Answer(caption, boxes=box) for caption, box in zip(captions, boxes, strict=True)]

    def _trigger_boxes(self, case: Case) -> list[Box]:
        """On the canvas, round every pixel that the trigger has a part in after the resize."""
        if not case.trigger_mask.any():
            return []
        levels = np.where(case.trigger_mask, np.uint8(_TOUCHED), np.uint8(_UNTOUCHED))
        grey: Pixels = np.repeat(levels[:, :, None], 3, axis=2)
        canvas = to_canvas(grey, self.captioner.preprocessing)
        touched = (canvas[:, :, 0] != _UNTOUCHED).astype(np.uint8)
        gap = max(touched.shape[1] // _GAP, 1)
        joined = cv2.dilate(touched, np.ones((gap, gap), np.uint8))
        count, labels = cv2.connectedComponents(joined)
        boxes = []
        for label in range(1, count):
            part = np.where(labels == label, touched, np.uint8(0))
            left, top, width, height = cv2.boundingRect(part)
            boxes.append(Box(left, top, left + width, top + height))
        return boxes
