"""A part of a model that becomes one ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Component:
    """A graph to be exported.

    Args:
        file_stem: transformers.js' name for it.
        module: takes ``inputs`` by position.
        inputs: example tensors by name, in order.
        outputs: names, in order.
        dynamic: for each input, the names of its dynamic axes.
    """

    file_stem: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]
