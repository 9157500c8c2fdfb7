"""Result lines are what result.schema.json says, for whoever reads them in any language."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import srd_edge.runtime
from srd_edge import Defender, Result
from srd_edge.kernels.frames import Box
from srd_edge.runtime.budget import LatencyBudget
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.records import AppliedAction, Opinion

SCHEMA = json.loads(Path(srd_edge.runtime.__path__[0], "result.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
FULL = Result(
    frame=3,
    time_s=0.2,
    caption="a",
    verdict="suspicious",
    suspicion=0.9,
    actions=(AppliedAction("occlude", Box(1, 2, 3, 4), 1.0),),
    raw_caption="b",
    stage_ms={"gate": 0.1, "encode": 1.0},
    total_ms=2.0,
    within_budget=True,
    degraded=("policy_steps",),
    unchanged_for=2,
    side_by_side=2,
    source="door",
    opinion=Opinion(-0.1, 3.0, 1.0, 0.5),
    q_map=np.zeros((2, 3), np.float32),
)


def line(result: Result) -> Any:
    return json.loads(json.dumps(result.to_json(), allow_nan=False))


def test_the_schema_is_one_and_names_every_field() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) - {"schema"} == {f.name for f in fields(Result)} - {"decision"}
    assert set(line(replace(FULL, held_for=1))) == set(SCHEMA["properties"])


@pytest.mark.parametrize(
    "result",
    [
        FULL,
        replace(FULL, verdict="held", caption=None, suspicion=None, held_for=None),
        replace(FULL, verdict="held", held_for=4, degraded=("caption", "frame_rate")),
        Result(0, 0.0, "a", "undefended", None),
    ],
)
def test_what_a_result_may_be(result: Result) -> None:
    assert not list(VALIDATOR.iter_errors(line(result)))


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "fine"},
        {"caption": None},
        {"held_for": 1},
        {"suspicion": 1.5},
        {"suspicion": None},
        {"verdict": "undefended"},
        {"degraded": ["the defence"]},
        {"stage_ms": {"magic": 1.0}},
        {"extra": 1},
    ],
)
def test_what_it_may_not_be(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(line(FULL) | change)


@pytest.mark.parametrize("budget_ms", [None, 10_000, 0.001])
def test_what_a_defender_says(toy_bundle: Path, budget_ms: float | None) -> None:
    defender = Defender(read_bundle(toy_bundle), budget=LatencyBudget(budget_ms), gate_level=8.0)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for pixels in (picture, picture, picture[::-1].copy()):
        result = defender.caption(pixels, compare=True)
        assert not list(VALIDATOR.iter_errors(line(result)))
