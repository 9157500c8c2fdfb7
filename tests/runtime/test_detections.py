"""A result for supervision: what its own annotators make of it, and what is said without it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import supervision

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box
from srd_edge.kernels.operators import OPERATORS
from srd_edge.runtime.records import AppliedAction, Result

BOXES = (Box(10, 20, 30, 50), Box(0, 0, 64, 64))


def result(**fields: Any) -> Result:
    values: dict[str, Any] = {"verdict": "suspicious", "suspicion": 0.75} | fields
    actions = (AppliedAction("inpaint", BOXES[0], 3.0), AppliedAction("jpeg", BOXES[1], 40.0))
    return Result(frame=7, time_s=0.7, caption="a dog", **({"actions": actions} | values))


def values(found: supervision.Detections, name: str) -> Any:
    return np.asarray(found.data[name]).tolist()


def test_every_box_is_a_detection() -> None:
    found = result().to_supervision()
    assert found.xyxy.tolist() == [[10, 20, 30, 50], [0, 0, 64, 64]]
    assert found.class_id is not None
    assert [list(OPERATORS)[place] for place in found.class_id] == ["inpaint", "jpeg"]
    assert values(found, "class_name") == ["inpaint", "jpeg"]
    assert found.confidence is not None
    assert found.confidence.tolist() == [0.75, 0.75]
    assert values(found, "strength") == [3.0, 40.0]
    assert values(found, "caption") == ["a dog", "a dog"]
    assert values(found, "verdict") == ["suspicious", "suspicious"]
    assert found.metadata["frame"] == 7


def test_a_frame_that_was_left_alone_has_no_boxes_and_keeps_its_caption() -> None:
    found = result(actions=(), verdict="clean", suspicion=None).to_supervision()
    assert len(found) == 0
    assert found.confidence is None
    assert found.is_empty()
    assert found.metadata["caption"] == "a dog"
    held = Result(0, 0.0, None, "held", 0.9, result().actions).to_supervision()
    assert values(held, "caption") == ["", ""]


def test_its_own_filters_and_annotators_take_it() -> None:
    found = result().to_supervision()
    small = found[np.asarray(found.area) < 1000]
    assert isinstance(small, supervision.Detections)
    assert values(small, "class_name") == ["inpaint"]
    blank = np.zeros((64, 64, 3), np.uint8)
    drawn = supervision.BoxAnnotator(thickness=1).annotate(blank.copy(), small)
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), columns.min()) == (20, 10)
    assert (rows.max(), columns.max()) == (50, 30)
    merged = supervision.Detections.merge([found, found])
    assert len(merged) == 4


def test_without_supervision_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UsageError, match="pip install supervision"):
        result().to_supervision()
