"""LLaVA 1.5: a vision tower, a projector, and any causal text model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.family import Family, encoder
from srd_edge.export.families.prefix import (
    CausalDecoder,
    Embedding,
    chat_prompt,
    generated,
    prefix_components,
    prefix_spec,
    whole_prompt,
)
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Llava(Family):
    """See the module's text."""

    name = "llava"
    model_types: tuple[str, ...] = ("llava",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        return chat_prompt(tokenizer, model.config.image_token_id, text, self.name)

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        return prefix_spec(self.name, files, model.config.text_config)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec, inner = self.spec(model, {}), model.model
        return prefix_components(
            spec,
            encoder(spec, "vision_encoder", LlavaVision(inner, model.config), height, width),
            Embedding(inner.get_input_embeddings()),
            CausalDecoder(inner.language_model, model.lm_head),
        )

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        rows, columns = self.grid(model, *pixel_values.shape[2:])
        ids = whole_prompt(prompt, model.config.image_token_id, rows * columns, len(pixel_values))
        return generated(
            model,
            ids,
            pixel_values=pixel_values,
            **settings,
        )


class LlavaVision(nn.Module):
    """pixel_values (B, 3, H, W) -> features (B, N, C) and embeddings (B, N, D)."""

    def __init__(self, model: Any, config: Any) -> None:
        super().__init__()
        self.tower, self.project = model.vision_tower, model.multi_modal_projector
        layers = config.vision_feature_layer
        self.layers = [layers] if isinstance(layers, int) else list(layers)
        self.skip = 1 if config.vision_feature_select_strategy == "default" else 0

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.tower(pixel_values, output_hidden_states=True).hidden_states
        chosen = [hidden[layer][:, self.skip :] for layer in self.layers]
        features = chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=2)
        return features, self.project(features)
