"""A grey frame and what might be said of it."""

from __future__ import annotations

import numpy as np

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result


def frame(index: int = 0, width: int = 64, height: int = 48, value: int = 90) -> Frame:
    return Frame(np.full((height, width, 3), value, np.uint8), index, index / 10)


def result(index: int = 0, caption: str | None = "a dog on a lawn", **fields: object) -> Result:
    values: dict[str, object] = {"verdict": "clean", "suspicion": 0.25, **fields}
    return Result(frame=index, time_s=index / 10, caption=caption, **values)  # type: ignore[arg-type]
