"""DQN (Mnih et al., Nature 2015) over the defence environment, with Double Q by default.

What else may be switched on is in ``DqnConfig``, and in ``QNetworkConfig`` for a duelling network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from srd_edge.attacks.progress import bar
from srd_edge.training.environment import DefenceVectorEnv, Observations
from srd_edge.training.qnetwork import QNetwork
from srd_edge.training.replay import MultiStep, PrioritisedReplay, Replay, Transition

_STATE: Final = "dqn.pt"
_LOG: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class DqnConfig:
    """How the Q-network learns.

    Args:
        steps: environment steps, all sub-environments counted.
        batch: transitions in a gradient step.
        updates: gradient steps after every step of the vector environment.
        replay: transitions kept.
        warm_up: transitions in the replay before the first gradient step; a resumed run, whose
            replay is empty, waits for them again.
        learning_rate: of Adam.
        discount: of the next step's value.
        epsilon_first, epsilon_last: share of random actions at the start, and from half-way on.
        target_every: gradient steps between copies into the target network.
        checkpoint_every: environment steps between checkpoints and lines of the log.
        seed: fixes exploration, replay and the order of pictures.
        double: the online network chooses the next action and the target network values it (van
            Hasselt et al., arXiv 1509.06461); without it the target network does both.
        n_step: rewards that are summed before the next value is looked up. From the environment's
            ``max_steps`` on, no value is looked up at all: returns are Monte Carlo.
        prioritised: transitions are drawn by their errors, and not evenly.
    """

    steps: int = 16_000
    batch: int = 128
    updates: int = 8
    replay: int = 16_000
    warm_up: int = 1_000
    learning_rate: float = 5e-4
    discount: float = 0.9
    epsilon_first: float = 1.0
    epsilon_last: float = 0.1
    target_every: int = 200
    checkpoint_every: int = 2_000
    seed: int = 0
    double: bool = True
    n_step: int = 1
    prioritised: bool = False

    def epsilon(self, step: int) -> float:
        share = min(step / (self.steps / 2), 1.0)
        return self.epsilon_first + share * (self.epsilon_last - self.epsilon_first)


def train_policy(
    network: QNetwork,
    environment: DefenceVectorEnv,
    config: DqnConfig,
    output: Path,
    *,
    identity: str = "",
) -> list[dict[str, float]]:
    """Train ``network`` in place; state and metrics go to ``output``, and a killed run resumes.

    Args:
        identity: of everything that the environment was made of; a state saved under another one
            is not gone on from.

    Returns:
        The logged metrics; docs/training.md says what each means.
    """
    torch.manual_seed(config.seed)
    output.mkdir(parents=True, exist_ok=True)
    agent = _Agent(network, config, identity)
    log = agent.resume(output / _STATE)
    done = int(log[-1]["step"]) if log else 0
    rng = np.random.default_rng([config.seed, done])
    observations, _ = environment.reset(seed=config.seed + done)
    restarted = np.zeros(environment.num_envs, np.bool_)
    window = _Window()
    with bar() as progress:
        task = progress.add_task("training the policy", total=config.steps, completed=done)
        while done < config.steps:
            epsilon = config.epsilon(done)
            actions = agent.act(observations, epsilon, rng)
            following, rewards, terminated, _, info = environment.step(actions)
            live = np.flatnonzero(~restarted)
            agent.remember(observations, actions, rewards, terminated, following, live)
            window.add(actions[live], rewards[live], info["score"][terminated], environment)
            observations, restarted = following, terminated
            done += len(live)
            if len(agent.replay) >= min(config.warm_up, config.replay):
                window.losses += [agent.learn(done, rng) for _ in range(config.updates)]
            progress.update(task, completed=done)
            if done // config.checkpoint_every > (done - len(live)) // config.checkpoint_every:
                log.append({"step": float(done), "epsilon": epsilon} | window.summary())
                window = _Window()
                agent.save(output / _STATE, log)
                _write_log(output, log)
    network.eval()
    _write_log(output, log)
    (output / _STATE).unlink(missing_ok=True)
    return log


def _write_log(output: Path, log: list[dict[str, float]]) -> None:
    (output / _LOG).write_text("".join(json.dumps(r) + "\n" for r in log), encoding="utf-8")


class _Window:
    """Metrics since the last line of the log."""

    def __init__(self) -> None:
        self.rewards: list[float] = []
        self.scores: list[float] = []
        self.stops: list[float] = []
        self.losses: list[float] = []

    def add(
        self,
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        scores: NDArray[np.float32],
        environment: DefenceVectorEnv,
    ) -> None:
        self.rewards += rewards.tolist()
        self.scores += scores.tolist()
        self.stops += (actions == environment.table.stop_index).tolist()

    def summary(self) -> dict[str, float]:
        means = {
            "reward": self.rewards,
            "final_fidelity": self.scores,
            "stop_share": self.stops,
            "loss": self.losses,
        }
        return {name: float(np.mean(v)) for name, v in means.items() if v}


class _Agent:
    """Online and target network, replay and optimiser."""

    def __init__(self, network: QNetwork, config: DqnConfig, identity: str) -> None:
        self.online, self.config, self.identity = network, config, identity
        self.target = QNetwork(network.config, network.table)
        self.target.load_state_dict(network.state_dict())
        self.optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.replay = (PrioritisedReplay if config.prioritised else Replay)(config.replay)
        self.multi_step = MultiStep(config.n_step, config.discount)
        self.updates = 0

    @torch.inference_mode()
    def act(
        self, observations: Observations, epsilon: float, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        values = self.online(
            torch.from_numpy(observations["features"]), torch.from_numpy(observations["coverage"])
        )
        greedy: NDArray[np.int64] = values.argmax(dim=1).numpy()
        random = rng.integers(values.shape[1], size=len(greedy))
        return np.where(rng.random(len(greedy)) < epsilon, random, greedy)

    def remember(
        self,
        before: Observations,
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        after: Observations,
        rows: NDArray[np.int64],
    ) -> None:
        for i in rows:
            over = bool(terminated[i])
            step = Transition(
                features=before["features"][i].astype(np.float16),
                coverage=before["coverage"][i],
                action=int(actions[i]),
                reward=float(rewards[i]),
                next_features=None if over else after["features"][i].astype(np.float16),
                next_coverage=None if over else after["coverage"][i],
            )
            for transition in self.multi_step.add(int(i), step):
                self.replay.add(transition)

    def learn(self, done: int, rng: np.random.Generator) -> float:
        config = self.config
        drawn = self.replay.sample(config.batch, done / config.steps, rng)
        batch = drawn.transitions
        actions = torch.tensor([t.action for t in batch])
        targets = torch.tensor([t.reward for t in batch], dtype=torch.float32)
        targets += config.discount**config.n_step * self._next_values(batch)
        features = torch.from_numpy(np.stack([t.features for t in batch])).float()
        coverage = torch.from_numpy(np.stack([t.coverage for t in batch]))
        values = self.online(features, coverage).gather(1, actions[:, None])[:, 0]
        losses = functional.smooth_l1_loss(values, targets, beta=0.1, reduction="none")
        loss = (torch.from_numpy(drawn.weights) * losses).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.online.parameters(), 1.0)
        self.optimiser.step()
        self.replay.learned(drawn, (values - targets).detach().abs().numpy())
        self.updates += 1
        if self.updates % config.target_every == 0:
            self.target.load_state_dict(self.online.state_dict())
        return float(loss.item())

    @torch.no_grad()
    def _next_values(self, batch: Sequence[Transition]) -> torch.Tensor:
        """(B,) what the next observations are worth by ``DqnConfig.double``; 0 where it ended."""
        values = torch.zeros(len(batch))
        following = [
            (i, t.next_features, t.next_coverage)
            for i, t in enumerate(batch)
            if t.next_features is not None and t.next_coverage is not None
        ]
        if following:
            rows = [i for i, _, _ in following]
            features = torch.from_numpy(np.stack([f for _, f, _ in following])).float()
            coverage = torch.from_numpy(np.stack([c for _, _, c in following]))
            chooser = self.online if self.config.double else self.target
            chosen = chooser(features, coverage).argmax(dim=1, keepdim=True)
            values[rows] = self.target(features, coverage).gather(1, chosen)[:, 0]
        return values

    def save(self, path: Path, log: list[dict[str, float]]) -> None:
        state = {
            "config": asdict(self.config),
            "identity": self.identity,
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "log": log,
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> list[dict[str, float]]:
        """Take up a saved state of the same configuration; the replay is filled anew."""
        if not path.is_file():
            return []
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if (state["config"], state["identity"]) != (asdict(self.config), self.identity):
            return []
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates = int(state["updates"])
        log: list[dict[str, float]] = state["log"]
        return log
