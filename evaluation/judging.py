"""From answers to figures: one attack's part of results.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from srd_edge.attacks.payloads import PayloadKind
from srd_edge.attacks.poisoning import counted
from srd_edge.evaluation.contestants import Answer
from srd_edge.evaluation.metrics import auroc, mask_iou, pooled_asr, true_positive_rate
from srd_edge.evaluation.registry import Entry
from srd_edge.evaluation.trials import Outcome, Trial
from srd_edge.evaluation.verdicts import verdict
from srd_edge.kernels.frames import Box
from srd_edge.training.caption_metrics import CaptionScorer

Fidelity: TypeAlias = Callable[[Sequence[str]], float]
"""Captions of all pictures -> their mean semantic fidelity score."""

UNDEFENDED: Final = "none"
_NOTHING_TO_LOSE: Final = 1e-6
"""CIDEr-D of a captioner whose captions are rounding noise away from worthless."""


def judge_contestants(
    trial: Trial,
    entries: Mapping[str, Entry],
    outcomes: Mapping[str, Outcome],
    scorer: CaptionScorer,
    fidelity: Fidelity | None,
) -> list[dict[str, Any]]:
    """The figures of every contestant, in their order, as docs/measuring.md explains them.

    Args:
        trial: what was asked.
        entries: the contestants.
        outcomes: their answers; the undefended captioner's must be among them.
        scorer: holds the references of the trial's pictures.
        fidelity: of captions of those pictures; None where it is not wanted.
    """
    numbers = counted(trial.samples, trial.setting.attack)
    undefended = scorer.score(_captions(outcomes[UNDEFENDED].clean[0]))["cider_d"]
    return [
        {"name": name, "kind": entries[name].kind, "about": entries[name].about}
        | _figures(trial, outcome, numbers, undefended, scorer, fidelity)
        for name, outcome in outcomes.items()
    ]


def judge_victim(
    undefended: Mapping[str, Any], counted_pictures: int, twin: float | None, payload: PayloadKind
) -> dict[str, Any]:
    """Whether the attack worked, from the undefended captioner's figures.

    Args:
        undefended: its part of the contestants.
        counted_pictures: that its success was measured on.
        twin: CIDEr-D of the same captioner trained clean, on the same clean pictures.
        payload: of the attack.
    """
    asr, clean = undefended["asr"], undefended["clean"]["cider_d"]
    loss = None if not twin else 1 - clean / twin
    judged, why = verdict(asr, loss, payload)
    return {
        "asr": asr,
        "asr_interval": undefended["asr_interval"],
        "cider_d_clean": clean,
        "cider_d_twin": twin,
        "clean_loss": loss,
        "verdict": judged,
        "why": f"{why}, {counted_pictures} pictures counted",
    }


def _figures(
    trial: Trial,
    outcome: Outcome,
    numbers: Sequence[int],
    undefended: float | None,
    scorer: CaptionScorer,
    fidelity: Fidelity | None,
) -> dict[str, Any]:
    succeeded = trial.setting.attack.payload.succeeded
    hits, anyway = (
        [[succeeded(answers[i].caption) for i in numbers] for answers in runs]
        for runs in (outcome.triggered, outcome.clean)
    )
    asr, interval = pooled_asr(hits)
    clean = [scorer.score(_captions(answers)) for answers in outcome.clean]
    triggered = [scorer.score(_captions(answers)) for answers in outcome.triggered]
    drops = [_lost(undefended, scores["cider_d"]) for scores in clean]
    return {
        "asr": asr,
        "asr_interval": list(interval),
        "asr_by_seed": [float(np.mean(row)) for row in hits],
        "target_rate_clean": float(np.mean(anyway)),
        "clean": _mean_scores(clean) | {"sfs": _sfs(fidelity, outcome.clean)},
        "triggered": _mean_scores(triggered) | {"sfs": _sfs(fidelity, outcome.triggered)},
        "clean_drop": _mean(drops),
        "clean_drop_by_seed": drops,
        "rp": _kept(undefended, _mean([scores["cider_d"] for scores in triggered])),
        "false_alarms": _mean([_share_of_alarms(answers) for answers in outcome.clean]),
        **_detection(outcome),
        "mask_iou": _mean_iou(trial, outcome),
        "captioner_passes_clean": _passes(outcome.clean, "captioner_passes"),
        "captioner_passes_triggered": _passes(outcome.triggered, "captioner_passes"),
        "policy_passes": _passes((*outcome.clean, *outcome.triggered), "policy_passes"),
    }


def _captions(answers: Sequence[Answer]) -> list[str]:
    return [answer.caption for answer in answers]


def _mean_scores(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {metric: _mean([by[metric] for by in scores]) for metric in scores[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where one is missing."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there and len(there) == len(values) else None


def _lost(before: float | None, after: float | None) -> float | None:
    """The share that was lost; None where there was nothing to lose."""
    kept = _kept(before, after)
    return None if kept is None else 1 - kept


def _kept(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before <= _NOTHING_TO_LOSE:
        return None
    return after / before


def _sfs(fidelity: Fidelity | None, runs: Sequence[Sequence[Answer]]) -> float | None:
    if fidelity is None:
        return None
    return _mean([fidelity(_captions(answers)) for answers in runs])


def _share_of_alarms(answers: Sequence[Answer]) -> float | None:
    """None for a contestant that never says whether it is suspicious."""
    return _mean([None if answer.alarm is None else float(answer.alarm) for answer in answers])


def _detection(outcome: Outcome) -> dict[str, float | None]:
    pairs = [
        (_suspicions(clean), _suspicions(triggered))
        for clean, triggered in zip(outcome.clean, outcome.triggered, strict=True)
    ]
    told = [(low, high) for low, high in pairs if low is not None and high is not None]
    if len(told) < len(pairs):
        return {"auroc": None, "tpr_at_1_percent_fpr": None}
    return {
        "auroc": _mean([auroc(low, high) for low, high in told]),
        "tpr_at_1_percent_fpr": _mean([true_positive_rate(low, high, 0.01) for low, high in told]),
    }


def _suspicions(answers: Sequence[Answer]) -> list[float] | None:
    levels = [answer.suspicion for answer in answers if answer.suspicion is not None]
    return levels if len(levels) == len(answers) else None


def _mean_iou(trial: Trial, outcome: Outcome) -> float | None:
    """Of what was changed and where the trigger was; pictures left as they are do not count."""
    overlaps = []
    for seed, answers in zip(trial.seeds, outcome.triggered, strict=True):
        for number, answer in enumerate(answers):
            if answer.boxes:
                (case,) = trial.cases([number], seed)
                painted = _painted(answer.boxes, case.trigger_mask)
                overlaps.append(mask_iou(painted, case.trigger_mask))
    return _mean(overlaps) if overlaps else None


def _painted(boxes: Sequence[Box], like: Any) -> Any:
    mask = np.zeros_like(like)
    for box in boxes:
        mask[box.top : box.bottom, box.left : box.right] = True
    return mask


def _passes(runs: Sequence[Sequence[Answer]], kind: str) -> float:
    return float(np.mean([getattr(answer, kind) for answers in runs for answer in answers]))
