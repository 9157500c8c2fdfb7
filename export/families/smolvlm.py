"""Idefics3 and SmolVLM: tiles of the picture and the whole, each a few tokens of a text model."""

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
    whole_ids,
    words_of,
)
from srd_edge.export.prompts import Prompt, among_tiles
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class SmolVlm(Family):
    """See the module's text."""

    name = "smolvlm"
    model_types: tuple[str, ...] = ("idefics3", "smolvlm")

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        said = chat_prompt(tokenizer, model.config.image_token_id, text, self.name)
        return among_tiles(said, words_of(tokenizer))

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        return prefix_spec(self.name, files, model.config.text_config)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec, inner = self.spec(model, {}), model.model
        return prefix_components(
            spec,
            encoder(spec, "vision_encoder", _Vision(inner, height, width), height, width),
            Embedding(inner.get_input_embeddings()),
            CausalDecoder(inner.text_model, model.lm_head),
        )

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        config = model.config
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        features = layout.seen * patches // config.scale_factor**2
        ids = whole_ids(self.prompted(model, prompt, {}), layout, features, config.image_token_id)
        return generated(
            model,
            ids,
            pixel_values=pixel_values[None],
            **settings,
        )


class _Vision(nn.Module):
    def __init__(self, model: Any, height: int, width: int) -> None:
        super().__init__()
        self.vision, self.connect = model.vision_model, model.connector
        self.positions = nn.Buffer(_positions(self.vision.embeddings, height, width))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        look = self.vision.embeddings
        patches = look.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        hidden = patches + look.position_embedding(self.positions)
        seen = self.vision.encoder(inputs_embeds=hidden, attention_mask=None).last_hidden_state
        features = self.vision.post_layernorm(seen)
        return features, self.connect(features)


@torch.no_grad()
def _positions(embeddings: Any, height: int, width: int) -> torch.Tensor:
    """(1, N) which learned position each patch of a full tile has, as the model itself finds it."""
    asked: list[torch.Tensor] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        asked.append(inputs[0])

    patch = embeddings.patch_size
    hook = embeddings.position_embedding.register_forward_pre_hook(note)
    try:
        seen = torch.ones(1, height // patch, width // patch, dtype=torch.bool)
        embeddings(torch.zeros(1, 3, height, width), seen)
    finally:
        hook.remove()
    return asked[0]
