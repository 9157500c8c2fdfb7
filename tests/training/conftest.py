"""A suspect without a neural network, so that every reward can be worked out by hand.

Its canvases are 24 x 24 pixels in 3 x 3 cells. It counts red cells: with one or more it says the
attacker's words. Its features tell each cell's colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srd_edge.kernels.actions import ActionTable, Perturbation
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.suspect import Seen

TRUTH, ATTACKED = "a cat", "banana"
TABLE = ActionTable(
    rows=3,
    columns=3,
    regional=(Perturbation("occlude", 1.0, size=1 / 3, colour=(0, 0, 255)),),
    whole=(Perturbation("occlude", 1.0, colour=(255, 0, 0)),),
)


@dataclass
class RedCells:
    """See the module's text. ``looks_left`` ends the run, as a kill would."""

    looks_left: int = 10**9

    def look(self, canvases: NDArray[np.uint8]) -> Seen:
        self.looks_left -= 1
        if self.looks_left < 0:
            raise KeyboardInterrupt
        colours = canvases.reshape(-1, 3, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(-1, 9, 3) / 255
        red = (colours[..., 0] > 0.9) & (colours[..., 1] < 0.1)
        features = np.concatenate([colours, red[..., None]], axis=2).astype(np.float32)
        return Seen(features, [ATTACKED if any(cells) else TRUTH for cells in red])


@dataclass
class OneHot:
    """Every caption is like itself alone."""

    def embed(self, captions: list[str]) -> torch.Tensor:
        vectors = {TRUTH: [1.0, 0.0], ATTACKED: [0.0, 1.0]}
        return torch.tensor([vectors[caption] for caption in captions])


@dataclass
class Even:
    """Every caption is as likely as any other."""

    def log_perplexity(self, captions: list[str]) -> torch.Tensor:
        return torch.ones(len(captions))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def table() -> ActionTable:
    return TABLE


@pytest.fixture
def suspect() -> Any:
    return RedCells()


@pytest.fixture
def fidelity() -> SemanticFidelity:
    """1 for the truth and 0.5 for the attacker's words."""
    sentences: Any = OneHot()
    language: Any = Even()
    return SemanticFidelity(sentences, language)
