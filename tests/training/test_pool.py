"""A pool of several suspects: each picture is shown to its own, whatever the order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srd_edge.kernels.actions import ActionTable
from srd_edge.training.environment import DefenceVectorEnv, Pool
from srd_edge.training.fidelity import Reference, SemanticFidelity
from srd_edge.training.suspect import Seen

OWNERS = np.array([2, 0, 1, 1, 0, 2, 2])
REFERENCE = Reference(torch.tensor([[1.0, 0.0]]), 1.0)


@dataclass
class Named:
    """Says its name and what it sees; its features say the same."""

    name: int
    batches: list[list[int]] = field(default_factory=list)

    def look(self, canvases: NDArray[np.uint8]) -> Seen:
        marks = canvases[:, 0, 0, 1].tolist()
        self.batches.append(marks)
        features = np.zeros((len(canvases), 9, 4), np.float32)
        features[:, 0, 0], features[:, 0, 1] = self.name, marks
        return Seen(features, [f"{self.name} sees {mark}" for mark in marks])


@pytest.fixture
def suspects() -> tuple[Any, ...]:
    return tuple(Named(name) for name in range(3))


def pool_of(suspects: tuple[Any, ...], owners: NDArray[np.int64] | None = OWNERS) -> Pool:
    canvases = np.zeros((len(OWNERS), 24, 24, 3), np.uint8)
    canvases[..., 1] = np.arange(len(OWNERS))[:, None, None]
    return Pool(canvases, [REFERENCE] * len(canvases), suspects, owners)


@pytest.mark.parametrize(
    "order", [range(7), range(6, -1, -1), [3], [1, 1, 4, 1], [5, 0, 6, 0], [2, 4, 0, 3, 1]]
)
def test_every_picture_goes_to_its_own_suspect(suspects: tuple[Any, ...], order: Any) -> None:
    pool = pool_of(suspects)
    pictures = np.array(order)
    # What is looked at are states of the pictures, not the pictures themselves.
    states = pool.canvases[pictures] + np.uint8(100)
    seen = pool.look(pictures, states)
    assert seen.captions == [f"{OWNERS[i]} sees {i + 100}" for i in pictures]
    assert seen.features.shape == (len(pictures), 9, 4)
    assert seen.features.dtype == np.float32
    assert seen.features[:, 0, 0].tolist() == OWNERS[pictures].tolist()
    assert seen.features[:, 0, 1].tolist() == (pictures + 100).tolist()
    assert [len(s.batches) for s in suspects] == [int(i in OWNERS[pictures]) for i in range(3)]


@pytest.mark.parametrize("owners", [None, np.zeros(7, np.int64)])
def test_one_suspect_sees_everything_in_one_batch(
    suspects: tuple[Any, ...], owners: NDArray[np.int64] | None
) -> None:
    seen = pool_of(suspects[:1], owners).look(np.array([4, 2]), pool_of(suspects).canvases[[4, 2]])
    assert seen.captions == ["0 sees 4", "0 sees 2"]
    assert suspects[0].batches == [[4, 2]]


def test_the_environment_asks_each_pictures_own_suspect(
    suspects: tuple[Any, ...], table: ActionTable
) -> None:
    class Even:
        def embed(self, captions: list[str]) -> torch.Tensor:
            return torch.ones(len(captions), 2)

        def log_perplexity(self, captions: list[str]) -> torch.Tensor:
            return torch.ones(len(captions))

    even: Any = Even()
    environment = DefenceVectorEnv(
        pool_of(suspects), table, SemanticFidelity(even, even), num_envs=3
    )
    stop = np.full(3, table.stop_index)
    observations, info = environment.reset(seed=0)
    shown = set()
    for _ in range(8):
        for row, caption in enumerate(info["captions"]):
            name, mark = observations["features"][row, 0, :2].astype(int)
            if caption is not None:
                assert caption == f"{name} sees {mark}"
                assert name == OWNERS[mark]
                shown.add(int(mark))
        observations, _, _, _, info = environment.step(stop)
    assert shown == set(range(7))
