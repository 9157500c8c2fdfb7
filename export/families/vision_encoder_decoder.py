"""VisionEncoderDecoder with a GPT-2 decoder: ``tiny``, ViT-GPT2.

The cross-attention keys and values depend on the picture alone: the encoder graph computes them
once. A ViT's class token is kept for the decoder and left out of the features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.attacks.captioner import encoder_grid
from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past, remembered
from srd_edge.export.families.family import Family, cross_attention_components, split_heads
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class VisionEncoderDecoder(Family):
    """See the module's text."""

    name = "vision-encoder-decoder"
    model_types: tuple[str, ...] = ("vision-encoder-decoder",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        start = model.generation_config.decoder_start_token_id
        ids = tokenizer(text, add_special_tokens=False).input_ids if text else []
        return Prompt((start, *ids))

    def grid(self, model: Any, height: int, width: int) -> tuple[int, int]:
        return encoder_grid(model, height, width)

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        config = model.decoder.config
        if config.model_type != "gpt2":
            raise UsageError(
                expected="a VisionEncoderDecoder model with a GPT-2 decoder",
                found=f"a {config.model_type} decoder",
                do="choose such a model",
            )
        return CaptionerSpec(
            family=self.name,
            decoding="cross-attention",
            components=files,
            layers=config.n_layer,
            heads=config.n_head,
            head_dim=config.n_embd // config.n_head,
        )

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        rows, columns = self.grid(model, height, width)
        parts = _Encoder(model, rows * columns), _Decoder(model)
        return cross_attention_components(self.spec(model, {}), *parts, (height, width))

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        given = torch.tensor([prompt.ids]).expand(len(pixel_values), -1)
        tokens = model.generate(pixel_values, decoder_input_ids=given, **settings)
        rows: list[list[int]] = tokens[:, given.shape[1] :].tolist()
        return rows


class _Encoder(nn.Module):
    """The picture's features and every decoder layer's cross-attention keys and values."""

    def __init__(self, model: Any, features: int) -> None:
        super().__init__()
        self.encoder: Any = model.encoder
        self.features = features
        self.project: nn.Module = getattr(model, "enc_to_dec_proj", nn.Identity())
        self.cross = nn.ModuleList(block.crossattention for block in model.decoder.transformer.h)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = self.encoder(pixel_values).last_hidden_state
        projected = self.project(hidden)
        outputs = [hidden[:, hidden.shape[1] - self.features :]]
        attention: Any
        for attention in self.cross:
            keys_values = attention.c_attn(projected).chunk(2, dim=2)
            outputs += [split_heads(part, attention.num_heads) for part in keys_values]
        return tuple(outputs)


class _Decoder(nn.Module):
    """One call of GPT-2."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder

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
        ).logits
        return logits
