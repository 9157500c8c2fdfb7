"""From Q-values to an action and a suspicion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.kernels.actions import PRESETS, ActionTable, Perturbation
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.policy import OnnxPolicy, choose, q_map, suspicion
from srd_edge.runtime.records import Observation

VALUES = np.array([0.1, 0.7, 0.3, 0.0], np.float32)


@pytest.mark.parametrize(("taken", "best"), [((), 1), ((1,), 2), ((1, 2), 0), ((0, 1, 2), 3)])
def test_the_best_action_that_is_left(taken: tuple[int, ...], best: int) -> None:
    before = VALUES.copy()
    assert choose(VALUES, taken) == best
    assert np.array_equal(VALUES, before)


def test_suspicion_is_the_advantage_over_stop() -> None:
    assert suspicion(VALUES, 3, 0.7) == pytest.approx(1 / (1 + np.exp(-1)))
    assert suspicion(np.array([0.2, 0.2], np.float32), 1, 1.0) == 0.5
    assert suspicion(VALUES, None, 1.0) == 0.5
    levels = [suspicion(np.array([v, 0.0], np.float32), 1, 0.1) for v in (-1e9, -1, 0, 1, 1e9)]
    assert levels == sorted(levels)
    assert 0 <= levels[0] < 1e-9
    assert 1 - 1e-9 < levels[-1] <= 1


def test_the_q_map_against_going_through_the_table() -> None:
    table = ActionTable(
        2,
        3,
        regional=(Perturbation("occlude", 1.0, size=0.3), Perturbation("noise", 60.0, size=0.3)),
        whole=(Perturbation("greyscale", 1.0),),
    )
    values = np.random.default_rng(0).normal(size=len(table)).astype(np.float32)
    values[-2] = 99  # the whole frame is no cell
    expected = np.full((2, 3), -np.inf, np.float32)
    for index, value in enumerate(values):
        if (cell := table[index].cell) is not None:
            expected[cell] = max(expected[cell], value - values[-1])
    found = q_map(values, table)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("left_out", [{"regional": ()}, {"stop": False}])
def test_without_cells_or_stop_there_is_no_q_map(left_out: dict[str, Any]) -> None:
    table = replace(PRESETS["default"], **left_out)
    assert q_map(np.zeros(len(table), np.float32), table) is None


def test_the_bundles_q_network_values_every_action(toy_bundle: Path) -> None:
    bundle = read_bundle(toy_bundle)
    spec, table = bundle.manifest.observation, bundle.manifest.actions
    assert spec is not None
    policy = OnnxPolicy(bundle, "cpu")
    features = np.random.default_rng(0).normal(size=(spec.rows * spec.columns, spec.channels))
    bare = Observation(features.astype(np.float32), table.coverage(()))
    values = policy.q_values(bare)
    assert values.shape == (len(table),)
    assert values[table.stop_index or 0] == 0
    masked = replace(bare, coverage=table.coverage((0,)))
    assert not np.array_equal(policy.q_values(masked), values), "the mask so far is not looked at"


def test_an_undefended_bundle_has_none(toy_bundle: Path) -> None:
    bundle = read_bundle(toy_bundle)
    with pytest.raises(ValueError, match="no policy"):
        OnnxPolicy(replace(bundle, manifest=replace(bundle.manifest, policy=None)))
