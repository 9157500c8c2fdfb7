"""The environment's rewards are the gain less the cost, and it keeps gymnasium's contract."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from srd_edge.kernels.actions import SRD_TABLE, ActionTable
from srd_edge.training.environment import (
    ENVIRONMENT_ID,
    DefenceVectorEnv,
    Observations,
    Pool,
    register,
)
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.suspect import Seen

STOP, RED_ALL_OVER = 10, 9


@pytest.fixture
def pool(suspect: Any, fidelity: SemanticFidelity) -> Pool:
    """Seven pictures, told apart by their green; red in cell ``i`` of every second one."""
    canvases = np.zeros((7, 24, 24, 3), np.uint8)
    for i, canvas in enumerate(canvases):
        canvas[..., 1] = 30 * (i + 1)
        if i % 2:
            row, column = divmod(i, 3)
            canvas[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (255, 0, 0)
    return Pool(canvases, fidelity.references([["a cat"]] * len(canvases)), (suspect,))


@pytest.fixture
def environment(pool: Pool, table: ActionTable, fidelity: SemanticFidelity) -> DefenceVectorEnv:
    return DefenceVectorEnv(pool, table, fidelity, num_envs=3, action_cost=0.02)


def which(observations: Observations) -> list[int]:
    """The pictures shown, by their green; covered or red cells have none."""
    green = observations["features"][:, :, 1].max(axis=1) * 255
    return [round(float(level) / 30) - 1 for level in green]


def where_red(observations: Observations, row: int) -> NDArray[np.int64]:
    return np.flatnonzero(observations["features"][row, :, 3])


def test_rewards_are_the_gain_less_the_cost(environment: DefenceVectorEnv) -> None:
    """Over many steps of random actions, against a count of red cells kept by hand."""
    rng = np.random.default_rng(1)
    observations, info = environment.reset(seed=3)
    red = [set(where_red(observations, i)) for i in range(3)]
    steps, fresh = [0, 0, 0], [True, True, True]
    covered = np.zeros((3, 9), np.float32)
    assert info["score"] == pytest.approx([0.5 if cells else 1.0 for cells in red])
    seen_gain = 0
    for _ in range(200):
        actions = rng.choice([*range(11), STOP, STOP], size=3)
        for i in range(3):
            if fresh[i] and red[i] and rng.random() < 0.5:
                actions[i] = min(red[i])
        before = [0.5 if cells else 1.0 for cells in red]
        observations, rewards, terminated, truncated, info = environment.step(actions)
        assert environment.observation_space.contains(observations)
        assert not truncated.any()
        for i, action in enumerate(actions):
            if not fresh[i] and steps[i] < 0:  # the episode was over: this step only resets
                red[i], steps[i], covered[i] = set(where_red(observations, i)), 0, 0
                expected, ended = 0.0, False
            elif action == STOP:
                expected, ended = 0.0, True
            else:
                red[i] = set(range(9)) if action == RED_ALL_OVER else red[i] - {int(action)}
                covered[i, :] = 1.0 if action == RED_ALL_OVER else covered[i]
                covered[i, min(action, 8)] = 1.0
                steps[i] += 1
                expected = (0.5 if red[i] else 1.0) - before[i] - 0.02
                ended = steps[i] == 2
            assert rewards[i] == pytest.approx(expected, abs=1e-6)
            assert terminated[i] == ended
            assert info["score"][i] == pytest.approx(0.5 if red[i] else 1.0)
            assert observations["coverage"][i].ravel().tolist() == covered[i].tolist()
            assert set(where_red(observations, i)) == red[i]
            seen_gain += expected > 0.4
            if ended:
                steps[i] = -1
            fresh[i] = steps[i] == 0
    assert seen_gain > 5


def test_an_action_taken_twice_only_costs(environment: DefenceVectorEnv) -> None:
    environment.reset(seed=0)
    environment.step(np.array([4, 4, 4]))
    _, rewards, terminated, _, _ = environment.step(np.array([4, 4, 4]))
    assert rewards == pytest.approx([-0.02] * 3)
    assert terminated.all()


def test_every_picture_is_shown_before_any_is_shown_again(environment: DefenceVectorEnv) -> None:
    observations, _ = environment.reset(seed=5)
    shown = which(observations)
    while len(shown) < 21:
        environment.step(np.full(3, STOP))
        observations, *_ = environment.step(np.full(3, STOP))
        shown += which(observations)
    assert [sorted(shown[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3
    assert shown[:7] != shown[7:14]


def test_the_pool_stays_as_it_was(environment: DefenceVectorEnv, pool: Pool) -> None:
    before = pool.canvases.copy()
    environment.reset(seed=0)
    environment.step(np.full(3, RED_ALL_OVER))
    assert (pool.canvases == before).all()


def test_observations_are_the_callers_to_keep(environment: DefenceVectorEnv) -> None:
    observations, _ = environment.reset(seed=0)
    kept = {name: value.copy() for name, value in observations.items()}
    environment.step(np.full(3, RED_ALL_OVER))
    assert all((observations[name] == kept[name]).all() for name in kept)


def test_the_seed_decides(environment: DefenceVectorEnv) -> None:
    def shown(seed: int | None) -> list[int]:
        pictures = which(environment.reset(seed=seed)[0])
        for _ in range(10):
            pictures += which(environment.step(np.full(3, STOP))[0])
        return pictures

    first = shown(1)
    then = shown(None)
    assert shown(1) == first
    assert shown(None) == then, "a reset without a seed goes on with the generator there is"
    assert first not in (then, shown(2))


def test_a_table_without_stop_ends_by_its_steps(pool: Pool, fidelity: SemanticFidelity) -> None:
    environment = DefenceVectorEnv(pool, SRD_TABLE, fidelity, num_envs=2, max_steps=1)
    environment.reset(seed=0)
    _, rewards, terminated, _, _ = environment.step(np.array([499, 0]))
    assert terminated.all()
    assert (rewards != 0).all()


def test_gymnasium_makes_it_by_its_id(
    pool: Pool, table: ActionTable, fidelity: SemanticFidelity
) -> None:
    register()
    register()
    environment = gymnasium.make_vec(
        ENVIRONMENT_ID, num_envs=4, pool=pool, table=table, fidelity=fidelity
    )
    assert isinstance(environment, DefenceVectorEnv)
    assert environment.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observations)
    assert environment.single_action_space.n == len(table)  # type: ignore[attr-defined]
    environment.action_space.seed(0)
    environment.step(environment.action_space.sample())


def test_a_silent_suspect_never_yields_nan(pool: Pool, table: ActionTable) -> None:
    """Rewards stay numbers when every caption, the reference's too, is empty."""

    class Silent:
        def look(self, canvases: NDArray[np.uint8]) -> Seen:
            return Seen(np.zeros((len(canvases), 9, 4), np.float32), [""] * len(canvases))

        def embed(self, captions: list[str]) -> torch.Tensor:
            return torch.zeros(len(captions), 2)

        def log_perplexity(self, captions: list[str]) -> torch.Tensor:
            return torch.full((len(captions),), torch.inf)

    silent: Any = Silent()
    fidelity = SemanticFidelity(silent, silent)
    references = fidelity.references([[""]] * len(pool.canvases))
    environment = DefenceVectorEnv(
        Pool(pool.canvases, references, (silent,)), table, fidelity, num_envs=2, action_cost=0.1
    )
    _, info = environment.reset(seed=0)
    assert info["score"].tolist() == [0.0, 0.0]
    assert environment.step(np.array([0, STOP]))[1] == pytest.approx([-0.1, 0.0])
