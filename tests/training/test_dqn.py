"""Double DQN learns a task whose answer is known, and goes on where it was killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srd_edge.kernels.actions import ActionTable
from srd_edge.training.dqn import DqnConfig, _Agent, train_policy
from srd_edge.training.environment import DefenceVectorEnv, Pool
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig
from srd_edge.training.replay import Replay, Transition

CONFIG = DqnConfig(
    steps=1_500,
    batch=64,
    updates=2,
    warm_up=200,
    learning_rate=3e-3,
    target_every=50,
    checkpoint_every=500,
)
QUICK = replace(CONFIG, steps=400, warm_up=50, batch=16, updates=1, checkpoint_every=100)


def red_cells(suspect: Any, fidelity: SemanticFidelity) -> tuple[Pool, list[int]]:
    """36 noisy pictures, half of them with one red cell, and where that is (stop, 10, if none)."""
    rng = np.random.default_rng(0)
    canvases = rng.integers(0, 200, (36, 24, 24, 3)).astype(np.uint8)
    answers = []
    for i, canvas in enumerate(canvases):
        cell = i % 9 if i % 2 else 10
        if cell < 9:
            row, column = divmod(cell, 3)
            canvas[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (255, 0, 0)
        answers.append(cell)
    references = fidelity.references([["a cat"]] * len(canvases))
    return Pool(canvases, references, (suspect,)), answers


def new_network(table: ActionTable, seed: int = 0, *, duelling: bool = False) -> QNetwork:
    torch.manual_seed(seed)
    return QNetwork(QNetworkConfig(3, 3, 4, hidden=16, duelling=duelling), table)


def new_environment(
    suspect: Any, table: ActionTable, fidelity: SemanticFidelity, max_steps: int = 2
) -> DefenceVectorEnv:
    pool, _ = red_cells(suspect, fidelity)
    return DefenceVectorEnv(
        pool, table, fidelity, num_envs=16, max_steps=max_steps, action_cost=0.1
    )


def test_it_learns_to_cover_the_trigger_and_else_to_stop(
    suspect: Any, table: ActionTable, fidelity: SemanticFidelity, tmp_path: Path
) -> None:
    network = new_network(table)
    log = train_policy(network, new_environment(suspect, table, fidelity), CONFIG, tmp_path)
    pool, answers = red_cells(suspect, fidelity)
    features = torch.from_numpy(suspect.look(pool.canvases).features)
    with torch.inference_mode():
        values = network(features, torch.zeros(len(features), 3, 3))
    assert values.argmax(dim=1).tolist() == answers
    attacked = torch.tensor(answers) != table.stop_index
    # Covering a red cell gains 0.5 for 0.1; over a clean picture it only costs.
    best = values[:, :-1].max(dim=1).values
    assert best[attacked].mean() == pytest.approx(0.4, abs=0.1)
    assert best[~attacked].max() < 0
    assert log[-1]["final_fidelity"] > log[0]["final_fidelity"]
    assert log[-1]["stop_share"] > log[0]["stop_share"]


@pytest.mark.parametrize(
    ("options", "duelling"),
    [
        ({"double": False}, True),
        ({"n_step": 3}, False),
        ({"prioritised": True}, False),
    ],
)
def test_every_option_learns_it_too(
    options: dict[str, Any],
    duelling: bool,
    suspect: Any,
    table: ActionTable,
    fidelity: SemanticFidelity,
    tmp_path: Path,
) -> None:
    network = new_network(table, duelling=duelling)
    environment = new_environment(suspect, table, fidelity)
    train_policy(network, environment, replace(CONFIG, **options), tmp_path)
    pool, answers = red_cells(suspect, fidelity)
    features = torch.from_numpy(suspect.look(pool.canvases).features)
    with torch.inference_mode():
        values = network(features, torch.zeros(len(features), 3, 3))
    assert values.argmax(dim=1).tolist() == answers


@pytest.mark.parametrize("double", [False, True])
def test_what_comes_next_is_valued_by_the_target_network(
    double: bool, suspect: Any, table: ActionTable, fidelity: SemanticFidelity
) -> None:
    """One transition at a time; the online network chooses with Double Q, else the target's."""
    online = new_network(table, 1)
    agent = _Agent(online, DqnConfig(double=double), "")
    agent.target = new_network(table, 2)
    pool, _ = red_cells(suspect, fidelity)
    batch, expected = [], []
    for number, features in enumerate(suspect.look(pool.canvases).features.astype(np.float16)):
        coverage = np.zeros((3, 3), np.float32)
        after = (None, None) if number % 3 == 0 else (features, coverage)
        batch.append(Transition(features, coverage, 0, 0.0, *after))
        inputs = torch.from_numpy(features).float()[None], torch.from_numpy(coverage)[None]
        with torch.inference_mode():
            chosen = int((online if double else agent.target)(*inputs).argmax())
            expected.append(0.0 if number % 3 == 0 else float(agent.target(*inputs)[0, chosen]))
    assert agent._next_values(batch).tolist() == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 4) for value in expected}) > 5


@pytest.mark.parametrize("n_step", [1, 2, 3])
def test_no_transition_reaches_into_another_picture(
    n_step: int,
    suspect: Any,
    table: ActionTable,
    fidelity: SemanticFidelity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the environment's own resets; pictures are told apart by their untouched cells."""
    kept: list[Transition] = []
    monkeypatch.setattr(Replay, "add", lambda _, transition: kept.append(transition))
    config = replace(QUICK, n_step=n_step, checkpoint_every=100_000)
    environment = new_environment(suspect, table, fidelity, max_steps=4)
    train_policy(new_network(table), environment, config, tmp_path)
    started = config.steps + environment.num_envs
    assert config.steps - environment.num_envs * (n_step - 1) <= len(kept) < started
    compared = 0
    for transition in kept:
        covered = transition.next_coverage
        if transition.next_features is None or covered is None:
            continue
        new = np.flatnonzero((covered > 0).ravel() & (transition.coverage == 0).ravel())
        assert len(new) <= n_step or covered.all()
        assert (covered >= transition.coverage).all()
        untouched = (covered == 0).ravel()
        before = transition.features[untouched]
        assert (before == transition.next_features[untouched]).all()
        compared += len(before)
    assert compared > 500


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    suspect: Any, table: ActionTable, fidelity: SemanticFidelity, tmp_path: Path
) -> None:
    """With a learning rate of 0, so that the weights tell which network is carried on."""
    config = replace(QUICK, learning_rate=0.0)
    environment = new_environment(suspect, table, fidelity)
    suspect.looks_left = 25
    with pytest.raises(KeyboardInterrupt):
        train_policy(new_network(table, 1), environment, config, tmp_path)
    state = torch.load(tmp_path / "dqn.pt", weights_only=True)
    assert [record["step"] // 100 for record in state["log"]] == [1, 2]
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2

    suspect.looks_left = 10**9
    network = new_network(table, 2)
    log = train_policy(network, environment, config, tmp_path)
    assert log[:2] == state["log"]
    assert [record["step"] // 100 for record in log] == [1, 2, 3, 4]
    expected = new_network(table, 1).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(log)
    assert json.loads(lines[-1]) == log[-1]
    assert not list(tmp_path.glob("dqn.pt*"))


def test_the_seed_decides(
    suspect: Any, table: ActionTable, fidelity: SemanticFidelity, tmp_path: Path
) -> None:
    def run(seed: int, name: str) -> str:
        environment = new_environment(suspect, table, fidelity)
        config = replace(QUICK, seed=seed)
        return json.dumps(train_policy(new_network(table), environment, config, tmp_path / name))

    assert run(0, "a") == run(0, "b") != run(1, "c")


@pytest.mark.parametrize(("step", "epsilon"), [(0, 1.0), (500, 0.55), (1000, 0.1), (2000, 0.1)])
def test_epsilon_falls_until_half_way(step: int, epsilon: float) -> None:
    assert DqnConfig(steps=2000).epsilon(step) == pytest.approx(epsilon)
