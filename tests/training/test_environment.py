"""The environment's rewards are the gain less the cost, and it keeps gymnasium's contract."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from srd_edge.kernels.actions import SRD_TABLE, ActionTable
from srd_edge.training.environment import (
    ENVIRONMENT_ID,
    DefenceEnv,
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


def test_a_reset_without_a_seed_goes_on_through_the_pool(environment: DefenceVectorEnv) -> None:
    shown = which(environment.reset(seed=5)[0])
    while len(shown) < 21:
        shown += which(environment.reset()[0])
    assert [sorted(shown[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3


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


@pytest.fixture
def single(pool: Pool, table: ActionTable, fidelity: SemanticFidelity) -> gymnasium.Env[Any, Any]:
    register()
    return gymnasium.make(
        ENVIRONMENT_ID, pool=pool, table=table, fidelity=fidelity, action_cost=0.02
    )


def test_one_picture_keeps_the_rules_of_the_batch(
    single: gymnasium.Env[Any, Any], pool: Pool, table: ActionTable, fidelity: SemanticFidelity
) -> None:
    batch = DefenceVectorEnv(pool, table, fidelity, num_envs=1, action_cost=0.02)
    rng = np.random.default_rng(0)
    observation, info = single.reset(seed=4)
    observations, infos = batch.reset(seed=4)
    assert (info["score"], info["caption"]) == (infos["score"][0], infos["captions"][0])
    for _ in range(100):
        action = rng.choice([0, 4, RED_ALL_OVER, STOP])
        observation, reward, terminated, truncated, info = single.step(action)
        observations, rewards, ended, _, infos = batch.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], ended[0], False)
        assert (info["score"], info["caption"]) == (infos["score"][0], infos["captions"][0])
        if terminated:
            observation, info = single.reset()
            observations, _, _, _, infos = batch.step(np.array([STOP]))
            assert (info["score"], info["caption"]) == (infos["score"][0], infos["captions"][0])
        assert all((observation[name] == observations[name][0]).all() for name in observation)


def test_gymnasium_finds_nothing_wrong(
    single: gymnasium.Env[Any, Any], recwarn: pytest.WarningsRecorder
) -> None:
    assert isinstance(single.unwrapped, DefenceEnv)
    check_env(single.unwrapped)
    # Features have no bounds that could be told.
    assert [w for w in map(str, recwarn) if "infinity" not in w] == []


def test_stable_baselines3_learns_in_it(
    single: gymnasium.Env[Any, Any], pool: Pool, suspect: Any
) -> None:
    """To cover the one red cell, and to stop where there is none."""
    baselines = pytest.importorskip("stable_baselines3")
    learner = baselines.DQN(
        "MultiInputPolicy",
        single,
        learning_rate=3e-3,
        learning_starts=100,
        train_freq=1,
        gamma=0.9,
        target_update_interval=100,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [64]},
        seed=0,
        device="cpu",
    )
    learner.learn(600)
    observations = {
        "features": suspect.look(pool.canvases).features,
        "coverage": np.zeros((len(pool.canvases), 3, 3), np.float32),
    }
    actions, _ = learner.predict(observations, deterministic=True)
    assert actions.tolist() == [STOP, 1, STOP, 3, STOP, 5, STOP]
