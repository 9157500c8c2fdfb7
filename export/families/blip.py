"""BLIP for captioning: a ViT, and a BERT-like decoder with cross-attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past, remembered
from srd_edge.export.families.family import Family, cross_attention_components, split_heads
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Blip(Family):
    """See the module's text."""

    name = "blip"
    model_types: tuple[str, ...] = ("blip",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        # As ``generate`` has it: the class token gives way to the start token, and the separator
        # at the end goes.
        ids = tokenizer(text).input_ids[1:-1] if text else []
        return Prompt((model.config.text_config.bos_token_id, *ids))

    def end_tokens(self, model: Any) -> tuple[int, ...]:
        return (model.config.text_config.sep_token_id,)

    def settings(self, model: Any) -> Any:
        return model.text_decoder.generation_config

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        config = model.config.text_config
        return CaptionerSpec(
            family=self.name,
            decoding="cross-attention",
            components=files,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
        )

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        parts = _Encoder(model), _Decoder(model)
        return cross_attention_components(self.spec(model, {}), *parts, (height, width))

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        separator = model.config.text_config.sep_token_id
        given = torch.tensor([[*prompt.ids, separator]]).repeat(len(pixel_values), 1)
        tokens = model.generate(pixel_values, input_ids=given, **settings)
        rows: list[list[int]] = tokens[:, len(prompt.ids) :].tolist()
        return rows


class _Encoder(nn.Module):
    """The patches' features and every decoder layer's cross-attention keys and values."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision: Any = model.vision_model
        layers = model.text_decoder.bert.encoder.layer
        self.cross = nn.ModuleList(layer.crossattention.self for layer in layers)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = self.vision(pixel_values).last_hidden_state
        outputs = [hidden[:, 1:]]
        attention: Any
        for attention in self.cross:
            heads = attention.num_attention_heads
            outputs += [
                split_heads(part(hidden), heads) for part in (attention.key, attention.value)
            ]
        return tuple(outputs)


class _Decoder(nn.Module):
    """One call of the text decoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.text_decoder

    def forward(
        self, input_ids: torch.Tensor, past: Past, memory: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        count = input_ids.shape[1]
        logits: torch.Tensor = self.decoder(
            input_ids=input_ids,
            position_ids=past.positions(count),
            attention_mask=past.mask(count),
            encoder_hidden_states=remembered(memory),
            past_key_values=past.beside(memory),
            use_cache=True,
            is_decoder=True,
        ).logits
        return logits
