"""BLIP-2: a ViT and a Q-Former before OPT (prefix) or T5 (cross-attention)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.family import Family, encoder
from srd_edge.export.families.prefix import (
    CausalDecoder,
    Embedding,
    prefix_components,
    prefix_spec,
    whole_prompt,
)
from srd_edge.export.families.t5 import t5_components, t5_spec
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Blip2(Family):
    """See the module's text."""

    name = "blip-2"
    model_types: tuple[str, ...] = ("blip-2",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        return text_prompt(model, tuple(tokenizer(text).input_ids))

    def settings(self, model: Any) -> Any:
        return model.language_model.generation_config

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        return text_spec(self.name, files, model)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        return text_components(self.spec(model, {}), _Vision(model), model, prompt, (height, width))

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        ids = text_ids(model, prompt, len(pixel_values))
        tokens = model.generate(pixel_values, input_ids=ids, **settings)
        return said(model, tokens, ids)


def text_prompt(model: Any, ids: tuple[int, ...]) -> Prompt:
    """The prompt of a text model that reads ``ids`` after the picture."""
    if model.config.use_decoder_only_language_model:
        return Prompt(after=ids)
    return Prompt(ids=(model.config.text_config.decoder_start_token_id,), built_in=ids)


def text_spec(family: str, files: dict[str, str], model: Any) -> CaptionerSpec:
    """The manifest's description, by the kind of the text model."""
    config = model.config
    describe = prefix_spec if config.use_decoder_only_language_model else t5_spec
    return describe(family, files, config.text_config)


def text_components(
    spec: CaptionerSpec, vision: nn.Module, model: Any, prompt: Prompt, size: tuple[int, int]
) -> dict[str, Component]:
    """The graphs, by the kind of the text model.

    Args:
        spec: of the model.
        vision: pixel_values (B, 3, H, W) -> features (B, N, C) and embeddings (B, P, D).
        model: a model with a Q-Former.
        prompt: what the text model is given.
        size: height and width of the canvas.
    """
    language = model.language_model
    if spec.decoding == "cross-attention":
        return t5_components(spec, vision, language, prompt.built_in, size)
    decoder = CausalDecoder(language.base_model, language.get_output_embeddings())
    seeing = encoder(spec, "vision_encoder", vision, *size)
    return prefix_components(spec, seeing, Embedding(model.get_input_embeddings()), decoder)


def text_ids(model: Any, prompt: Prompt, rows: int) -> torch.Tensor:
    """(rows, length) ids for ``generate``: a place for each query of the Q-Former, the prompt."""
    config = model.config
    read = Prompt(after=prompt.after or prompt.built_in)
    return whole_prompt(read, config.image_token_index, config.num_query_tokens, rows)


def said(model: Any, tokens: torch.Tensor, ids: torch.Tensor) -> list[list[int]]:
    """What ``generate`` gave without what it repeats: the ids, or T5's start token."""
    repeated = ids.shape[1] if model.config.use_decoder_only_language_model else 1
    made: list[list[int]] = tokens[:, repeated:].tolist()
    return made


class _Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model.get_image_features(pixel_values)
        return found.last_hidden_state[:, 1:], found.pooler_output
