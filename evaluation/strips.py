"""Pictures of an evaluation: a few for the page, or every case for whoever wants to look."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2

from srd_edge.attacks.poisoning import counted
from srd_edge.evaluation.contestants import Answer
from srd_edge.evaluation.judging import UNDEFENDED
from srd_edge.evaluation.page import Panel, Strip
from srd_edge.evaluation.trials import Outcome, Trial
from srd_edge.kernels.frames import Pixels

_SHOWN: Final = ("policy", "scan", "best_fixed")
"""Whose answer a strip shows; the first that takes part."""
_STRIPS: Final = 3


def make_strips(key: str, trial: Trial, outcomes: Mapping[str, Outcome]) -> list[Strip]:
    """The first pictures whose undefended caption is the attacker's, with a defended one beside."""
    attack, seed = trial.setting.attack, trial.seeds[0]
    defended = next((name for name in (*_SHOWN, *trial.names) if name in outcomes), UNDEFENDED)
    undefended = outcomes[UNDEFENDED]
    fallen = [
        i
        for i in counted(trial.samples, attack)
        if attack.payload.succeeded(undefended.triggered[0][i].caption)
    ]
    strips = []
    for number in fallen[:_STRIPS]:
        (before,), (after,) = trial.cases([number], None), trial.cases([number], seed)
        answer = outcomes[defended].triggered[0][number]
        strips.append(
            Strip(
                key,
                trial.samples[number].name,
                before=Panel(before.frame.pixels, undefended.clean[0][number].caption),
                triggered=Panel(after.frame.pixels, undefended.triggered[0][number].caption),
                perturbed=Panel(after.frame.pixels, answer.caption, defended, answer.boxes),
            )
        )
    return strips


def keep_images(folder: Path, trial: Trial, outcomes: Mapping[str, Outcome]) -> None:
    """Every picture, clean and triggered, and ``cases.jsonl`` with what everybody said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = trial.seeds[0]
    with (folder / "cases.jsonl").open("w", encoding="utf-8") as lines:
        for number, sample in enumerate(trial.samples):
            (before,), (after,) = trial.cases([number], None), trial.cases([number], seed)
            files = {}
            for label, case in (("clean", before), ("triggered", after)):
                files[label] = f"{number:05d}-{label}.png"
                _write(folder / files[label], case.frame.pixels)
            answers = {
                name: {
                    "clean": _said(outcome.clean[0][number]),
                    "triggered": _said(outcome.triggered[0][number]),
                }
                for name, outcome in outcomes.items()
            }
            line = {"picture": sample.name, "references": sample.captions, **files}
            lines.write(json.dumps(line | {"answers": answers}) + "\n")


def _said(answer: Answer) -> dict[str, object]:
    boxes = [[box.left, box.top, box.right, box.bottom] for box in answer.boxes]
    return {"caption": answer.caption, "suspicion": answer.suspicion, "boxes": boxes}


def _write(path: Path, pixels: Pixels) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
