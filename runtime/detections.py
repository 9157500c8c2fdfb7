"""A result as ``supervision.Detections``, so that its annotators, trackers and zones can take it.

supervision is not needed for anything else, and is imported here alone, when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srd_edge.errors import UsageError
from srd_edge.kernels.operators import OPERATORS
from srd_edge.runtime.records import Result

if TYPE_CHECKING:
    from supervision import Detections


def detections(result: Result) -> Detections:
    """What was laid over the frame, a detection for each; none where it was left alone.

    Returns:
        With n boxes: ``xyxy`` (n, 4) float32 in the frame's pixels; ``class_id`` (n,) int, the
        operator's place among ``srd_edge.kernels.operators.OPERATORS``; ``confidence`` (n,)
        float32 in 0..1, the frame's suspicion, or None where nobody looked; ``data`` with
        ``class_name`` (the operator), ``strength``, ``caption`` ("" for none) and ``verdict`` of
        each box; ``metadata`` with frame, time_s, caption, verdict and suspicion, also where there
        is no box.

    Raises:
        UsageError: without supervision.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise UsageError(
            expected="supervision for Result.to_supervision",
            found=str(error),
            do="pip install supervision",
        ) from error
    actions, count = result.actions, len(result.actions)
    places = {name: place for place, name in enumerate(OPERATORS)}
    boxes = [(a.box.left, a.box.top, a.box.right, a.box.bottom) for a in actions]
    confidence = None
    if result.suspicion is not None:
        confidence = np.full(count, result.suspicion, np.float32)
    return Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=confidence,
        class_id=np.array([places[a.op] for a in actions], np.int64),
        data={
            "class_name": np.array([a.op for a in actions], np.str_),
            "strength": np.array([a.strength for a in actions], np.float32),
            "caption": np.array([result.caption or ""] * count, np.str_),
            "verdict": np.array([result.verdict] * count, np.str_),
        },
        metadata={
            "frame": result.frame,
            "time_s": result.time_s,
            "caption": result.caption,
            "verdict": result.verdict,
            "suspicion": result.suspicion,
        },
    )
