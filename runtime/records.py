"""The records that pass between the runtime's stations: Observation, Decision, Result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from srd_edge.kernels.frames import Box

if TYPE_CHECKING:
    from supervision import Detections

RESULT_SCHEMA: Final = 1

Speaker: TypeAlias = Literal["suspect", "reference"]
Verdict: TypeAlias = Literal["clean", "suspicious", "held", "undefended"]
"""``held``: not captioned in time; the caption is the last trusted one, or none. ``undefended``:
there is no defence, and nobody has looked."""
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy sees: what the captioner's encoder has just computed, and the mask so far.

    Args:
        features: (N, C) float32, the encoder's last hidden state, row by row over its grid.
        coverage: (rows, columns) float32 in 0..1 on the action table's grid.
    """

    features: NDArray[np.float32]
    coverage: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy chose for one frame.

    Args:
        actions: indices in the action table, in the order taken, stop left out.
        q_values: (len(table),) float32 of the first look, before anything was perturbed.
        suspicion: 0..1, rises with the advantage of the best perturbation over stop.
        passes: how often the Q-network was run.
    """

    actions: tuple[int, ...]
    q_values: NDArray[np.float32]
    suspicion: float
    passes: int


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the check thought of a caption; `runtime/second_opinion.py` explains the scores.

    A captioner whose numbers are infinite or none makes scores that are none, and is refused.

    Args:
        confidence: nats a token.
        information: nats.
        contradiction: nats; None where the reference captioner was not asked.
        excess: how far the decisive score lies above its limit, in its scales; above 0 is refused.
    """

    confidence: float
    information: float
    contradiction: float | None
    excess: float

    @property
    def refused(self) -> bool:
        return not -math.inf < self.excess <= 0

    @property
    def suspicion(self) -> float:
        """0..1, and 0.5 at the limit."""
        return logistic(self.excess) if math.isfinite(self.excess) else 1.0


@dataclass(frozen=True, slots=True)
class AppliedAction:
    """An action as it was laid over a frame; ``box`` is in the frame's own pixels."""

    op: str
    box: Box
    strength: float


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one frame.

    Args:
        frame: the frame's index in its source.
        time_s: its presentation time in seconds.
        caption: the caption to trust; None when held and nothing was trusted before.
        verdict: clean, suspicious, held or, without a defence, undefended.
        suspicion: 0..1, the higher of the policy's and the check's; None without a defence, when
            nobody has looked.
        actions: what was laid over the frame before it was captioned.
        opinion: what the check thought of the first caption; None without a check.
        speaker: whose the caption is: the suspect's, or the reference captioner's.
        decision: of the policy, with its Q-values; None without a defence. Not written.
        q_map: (rows, columns) float32 on the action table's grid, each cell's best advantage over
            stop at the policy's first look; None where no policy looked, or where its table has
            no regional actions or no stop.
        raw_caption: what the undefended model would have said (with compare), else None.
        stage_ms: milliseconds by stage: gate, wait (for an earlier frame's caption), hand_over (to
            the process that captions), preprocess, encode, policy, perturb, decode, and those of
            the check: screen, examine, answer.
        total_ms: milliseconds from when the frame was handed over to when its result was handed
            back, with those of other sources that came with it; the comparison left out.
        within_budget: whether total_ms kept the budget; None without a budget.
        degraded: what was given up to keep the budget: ``policy_steps``, ``retries``,
            ``caption_length``; or ``caption``, where the frame's own did not come in time, and
            ``frame_rate``, where it was not begun: an earlier frame's, or those of other sources,
            took the time.
        held_for: for a held caption, the number of frames since it was made.
        unchanged_for: where the picture stood still and the last caption with it, the number of
            frames since that was made.
        side_by_side: how many frames were captioned at once, this one among them; their stages
            are theirs together.
        source: the file or stream that the frame came from.
    """

    frame: int
    time_s: float
    caption: str | None
    verdict: Verdict
    suspicion: float | None
    actions: tuple[AppliedAction, ...] = ()
    raw_caption: str | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    total_ms: float = 0.0
    within_budget: bool | None = None
    degraded: tuple[str, ...] = ()
    held_for: int | None = None
    unchanged_for: int | None = None
    side_by_side: int = 1
    source: str | None = None
    opinion: Opinion | None = None
    speaker: Speaker = "suspect"
    decision: Decision | None = field(default=None, compare=False, repr=False)
    q_map: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON object as `srd-edge run -o` writes it; keys without a value are left out."""
        data: dict[str, Any] = {
            "schema": RESULT_SCHEMA,
            "frame": self.frame,
            "time_s": round(self.time_s, 4),
            "caption": self.caption,
            "verdict": self.verdict,
            "suspicion": None if self.suspicion is None else round(self.suspicion, 4),
            "actions": [_action_to_json(action) for action in self.actions],
            "stage_ms": {stage: round(ms, 3) for stage, ms in self.stage_ms.items()},
            "total_ms": round(self.total_ms, 3),
            "within_budget": self.within_budget,
            "degraded": list(self.degraded),
        }
        optional = {
            "raw_caption": self.raw_caption,
            "held_for": self.held_for,
            "unchanged_for": self.unchanged_for,
            "side_by_side": None if self.side_by_side == 1 else self.side_by_side,
            "source": self.source,
            "opinion": None if self.opinion is None else _opinion_to_json(self.opinion),
            "speaker": None if self.opinion is None else self.speaker,
            "q_map": None if self.q_map is None else _rounded(self.q_map),
        }
        return data | {key: value for key, value in optional.items() if value is not None}

    def to_supervision(self) -> Detections:
        """What was laid over the frame, for ``supervision``: see ``runtime/detections.py``."""
        from srd_edge.runtime.detections import detections

        return detections(self)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -50.0), 50.0)))


def _opinion_to_json(opinion: Opinion) -> dict[str, Any]:
    scores = {
        "confidence": opinion.confidence,
        "information": opinion.information,
        "contradiction": opinion.contradiction,
    }
    return {
        name: round(score, 3)
        for name, score in scores.items()
        if score is not None and math.isfinite(score)
    }


def _rounded(q_map: NDArray[np.float32]) -> list[list[float]]:
    return [[round(value, 3) for value in row] for row in q_map.tolist()]


def _action_to_json(action: AppliedAction) -> dict[str, Any]:
    box = action.box
    return {
        "op": action.op,
        "box": [box.left, box.top, box.right, box.bottom],
        "strength": action.strength,
    }
