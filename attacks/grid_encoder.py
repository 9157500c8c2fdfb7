"""GridEncoder: any convolutional backbone of transformers as the encoder of a captioner.

VisionEncoderDecoderModel wants a sequence of features; a convolutional backbone yields a grid.
Importing this module registers the encoder with transformers' AutoConfig and AutoModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from srd_edge.errors import DatasetError, UsageError


class GridEncoderConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Configuration of GridEncoder: a backbone's own configuration and the grid that it yields."""

    model_type = "srd_grid_encoder"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        hidden_size: int = 128,
        grid: Sequence[int] = (8, 8),
        image_size: int = 128,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone or {}
        self.hidden_size = hidden_size
        self.grid = list(grid)
        self.image_size = image_size
        super().__init__(**kwargs)


class GridEncoder(PreTrainedModel):  # type: ignore[misc]
    """A convolutional backbone whose (B, C, h, w) features become (B, h*w, C), row by row."""

    config_class = GridEncoderConfig
    main_input_name = "pixel_values"

    def __init__(self, config: GridEncoderConfig) -> None:
        super().__init__(config)
        settings = dict(config.backbone)
        backbone_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.backbone = AutoModel.from_config(backbone_config)
        rows, columns = config.grid
        self.position = nn.Parameter(torch.zeros(1, rows * columns, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, return_dict: bool = True, **_: Any
    ) -> BaseModelOutput | tuple[torch.Tensor]:
        sequence = self.to_sequence(self.backbone(pixel_values).last_hidden_state)
        return BaseModelOutput(last_hidden_state=sequence) if return_dict else (sequence,)

    def to_sequence(self, grid: torch.Tensor) -> torch.Tensor:
        """The backbone's last (B, C, h, w) features -> (B, h*w, C), normalised and placed."""
        placed: torch.Tensor = self.norm(grid.flatten(2).transpose(1, 2)) + self.position
        return placed

    def split(self, last_blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
        """The backbone in two: all but the ``last_blocks``, and those; MobileNetV2 only.

        Raises:
            UsageError: for a backbone that is no such chain of blocks.
        """
        backbone: Any = self.backbone
        if not hasattr(backbone, "conv_1x1"):
            raise UsageError(
                expected="a MobileNetV2 encoder, whose last blocks can be trained",
                found=f"trainable_blocks={last_blocks} for a {type(backbone).__name__}",
                do="leave trainable_blocks out",
            )
        blocks = [backbone.conv_stem, *backbone.layer, backbone.conv_1x1]
        first = max(len(blocks) - last_blocks, 0)
        return nn.Sequential(*blocks[:first]), nn.Sequential(*blocks[first:])


AutoConfig.register(GridEncoderConfig.model_type, GridEncoderConfig, exist_ok=True)
AutoModel.register(GridEncoderConfig, GridEncoder, exist_ok=True)


def load_folded_mobilenet(encoder: GridEncoder, weights: Path) -> None:
    """Start a MobileNetV2 GridEncoder from ImageNet weights with batch norm folded in.

    Args:
        weights: .npz of ``features.0``, ``features.{1..17}.{expand,dw,project}``, ``features.18``,
            each ``.weight`` (OIHW) and ``.bias``. The model's batch norms become the identity
            plus that bias.
    """
    if not weights.is_file():
        raise DatasetError(
            expected="an .npz of MobileNetV2 weights", found=f"no {weights}", do="check the path"
        )
    with np.load(weights) as arrays:
        for name, block in _folded_names(encoder.backbone).items():
            convolution, norm = block.convolution, block.normalization
            with torch.no_grad():
                convolution.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"].astype("f4")))
                norm.bias.copy_(torch.from_numpy(arrays[f"{name}.bias"].astype("f4")))
                norm.weight.fill_((1.0 + norm.eps) ** 0.5)
                norm.running_mean.zero_()
                norm.running_var.fill_(1.0)


def _folded_names(backbone: Any) -> dict[str, Any]:
    stem = backbone.conv_stem
    names = {
        "features.0": stem.first_conv,
        "features.1.dw": stem.conv_3x3,
        "features.1.project": stem.reduce_1x1,
        "features.18": backbone.conv_1x1,
    }
    for number, layer in enumerate(backbone.layer, start=2):
        names[f"features.{number}.expand"] = layer.expand_1x1
        names[f"features.{number}.dw"] = layer.conv_3x3
        names[f"features.{number}.project"] = layer.reduce_1x1
    return names
