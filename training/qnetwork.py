"""The Q-network: a small head on what the captioner's encoder has already computed.

It is convolutional over the encoder's grid, so that what it learns of a trigger in one corner holds
in the others; regional actions read their own cell, whole-frame actions the pooled features.

Q(stop) is the constant 0, not an output to be learned: the reward is a difference of scores, so
stopping is worth exactly nothing, and every other value is an advantage over stopping.

A duelling network (Wang et al., arXiv 1511.06581) splits the values of the perturbations alone:

    Q(s, a) = V(s) + A(s, a) - mean over perturbations of A(s, .),   Q(s, stop) = 0

V is then not the value of the state, which is max(0, max Q), but what the average perturbation of
this picture gains over leaving it: about whether to act. A says where and how.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from srd_edge.kernels.actions import ActionTable


@dataclass(frozen=True, slots=True)
class QNetworkConfig:
    """Shapes of a Q-network.

    Args:
        rows, columns, channels: the encoder's grid of features.
        hidden: width of the head.
        duelling: the value of the picture and the advantages of the perturbations apart.
    """

    rows: int
    columns: int
    channels: int
    hidden: int = 64
    duelling: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class QNetwork(nn.Module):
    """(B, N, C) features and (B, rows, columns) coverage -> (B, A) Q-values."""

    to_cells: torch.Tensor
    to_grid: torch.Tensor

    def __init__(self, config: QNetworkConfig, table: ActionTable) -> None:
        super().__init__()
        self.config, self.table = config, table
        hidden = config.hidden
        self.normalise = nn.LayerNorm(config.channels)
        self.reduce = nn.Linear(config.channels, hidden)
        self.mix = nn.Conv2d(hidden + 1, hidden, 3, padding=1)
        self.deepen = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.regional = nn.Conv2d(2 * hidden, max(len(table.regional), 1), 1)
        self.whole = _head(hidden, max(len(table.whole), 1))
        grid, cells = (config.rows, config.columns), (table.rows, table.columns)
        self.register_buffer("to_cells", _area_matrix(grid, cells), persistent=False)
        self.register_buffer("to_grid", _area_matrix(cells, grid), persistent=False)
        for last in (self.regional.weight, self.whole[-1].weight):
            nn.init.normal_(last, std=0.01)  # type: ignore[arg-type]
        if config.duelling:
            self.value = _head(hidden, 1)

    def forward(self, features: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
        config, table = self.config, self.table
        reduced = functional.relu(self.reduce(self.normalise(features))).transpose(1, 2)
        mixed = functional.relu(self._mixed(reduced, coverage.flatten(1) @ self.to_grid.T))
        mixed = mixed + functional.relu(self.deepen(mixed))
        flat = mixed.flatten(2)
        peak, mean = flat.amax(dim=2), flat.mean(dim=2)
        pooled = torch.cat([peak, mean], dim=1)
        parts = []
        if table.regional:
            parts.append(self._regional(flat, mean).flatten(1))
        if table.whole:
            parts.append(self.whole(pooled))
        values = torch.cat(parts, dim=1)
        if config.duelling:
            values = self.value(pooled) + values - values.mean(dim=1, keepdim=True)
        return functional.pad(values, (0, 1)) if table.stop else values

    # The next two apply one layer to the parts of its input and add, where its definition lays the
    # parts side by side first: onnxruntime has a fast way for ``hidden`` channels, and none for one
    # more (docs/log.md, 2026-11-30).

    def _mixed(self, reduced: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
        """(B, hidden, N) features and (B, N) coverage through ``mix``: (B, hidden, *grid)."""
        grid, hidden = (self.config.rows, self.config.columns), self.config.hidden
        of_features, of_coverage = self.mix.weight[:, :hidden], self.mix.weight[:, hidden:]
        seen = functional.conv2d(
            reduced.reshape(-1, hidden, *grid), of_features, self.mix.bias, padding=1
        )
        return seen + functional.conv2d(covered.reshape(-1, 1, *grid), of_coverage, padding=1)

    def _regional(self, flat: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """(B, hidden, N) and its mean (B, hidden) through ``regional``: (B, operators, cells)."""
        weight, hidden = self.regional.weight.flatten(1), self.config.hidden
        of_cells, of_mean = weight[:, :hidden], weight[:, hidden:]
        context = functional.linear(mean, of_mean, self.regional.bias)
        return of_cells @ flat @ self.to_cells.T + context[:, :, None]


def _head(hidden: int, outputs: int) -> nn.Sequential:
    """(B, 2 * hidden) pooled features -> (B, outputs)."""
    return nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _area_matrix(source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """(target cells, source cells) weights of an area average from one grid to another."""
    rows = _overlaps(source[0], target[0])
    columns = _overlaps(source[1], target[1])
    return torch.from_numpy(np.kron(rows, columns).astype(np.float32))


def _overlaps(source: int, target: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    edges_in = np.linspace(0, 1, source + 1)
    edges_out = np.linspace(0, 1, target + 1)
    low = np.maximum(edges_out[:-1, None], edges_in[None, :-1])
    high = np.minimum(edges_out[1:, None], edges_in[None, 1:])
    overlap = np.clip(high - low, 0, None)
    weights: np.ndarray[tuple[int, int], np.dtype[np.float64]] = overlap / overlap.sum(
        axis=1, keepdims=True
    )
    return weights
