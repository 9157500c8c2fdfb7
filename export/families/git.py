"""GIT: a CLIP vision model whose features stand before the words in one decoder.

The picture's tokens attend to each other both ways and nothing but each other; the words, whose
positions are counted from 0, attend to the picture and backwards. The decoder graph takes a first
call, with nothing in its cache, for the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past
from srd_edge.export.families.family import Family, encoder
from srd_edge.export.families.prefix import prefix_components
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Git(Family):
    """See the module's text."""

    name = "git"
    model_types: tuple[str, ...] = ("git",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        ids = tokenizer(text, add_special_tokens=False).input_ids if text else []
        return Prompt((model.config.bos_token_id, *ids))

    def end_tokens(self, model: Any) -> tuple[int, ...]:
        return (model.config.eos_token_id,)

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        config = model.config
        return CaptionerSpec(
            family=self.name,
            decoding="prefix",
            components=files,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
        )

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec = self.spec(model, {})
        seeing = encoder(spec, "vision_encoder", _Vision(model), height, width)
        return prefix_components(spec, seeing, _Embedding(model), _Decoder(model), positions=True)

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        given = torch.tensor([prompt.ids]).expand(len(pixel_values), -1)
        tokens = model.generate(pixel_values=pixel_values, input_ids=given, **settings)
        rows: list[list[int]] = tokens[:, given.shape[1] :].tolist()
        return rows


class _Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.project = model.git.image_encoder, model.git.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.vision(pixel_values).last_hidden_state
        return hidden[:, 1:], self.project(hidden)


class _Embedding(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embeddings = model.git.embeddings

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.embeddings(input_ids=input_ids, position_ids=position_ids)
        return embedded


class _Decoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.output = model.git.encoder, model.output

    def forward(
        self, inputs_embeds: torch.Tensor, logits_to_keep: torch.Tensor, past: Past
    ) -> torch.Tensor:
        mask = past.mask(inputs_embeds.shape[1], both_ways=True)
        out = self.encoder(inputs_embeds, attention_mask=mask, past_key_values=past.cache)
        logits: torch.Tensor = self.output(out.last_hidden_state.index_select(1, logits_to_keep))
        return logits
