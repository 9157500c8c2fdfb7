"""BLIP-2 with a causal text model: a ViT and a Q-Former before OPT."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families.family import Prompt, token_ids
from srd_edge.export.families.prefix import (
    CausalDecoder,
    Embedding,
    prefix_components,
    prefix_spec,
    whole_prompt,
)
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Blip2:
    """See the module's text."""

    name = "blip-2"
    model_types: tuple[str, ...] = ("blip-2",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        return Prompt(after=tuple(tokenizer(text).input_ids))

    def end_tokens(self, model: Any) -> tuple[int, ...]:
        return token_ids(self.settings(model).eos_token_id)

    def settings(self, model: Any) -> Any:
        return model.language_model.generation_config

    def grid(self, model: Any, height: int, width: int) -> tuple[int, int]:
        patch = model.config.vision_config.patch_size
        return height // patch, width // patch

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        config = model.config
        if not config.use_decoder_only_language_model:
            raise UsageError(
                expected=f"a {self.name} captioner with a causal text model, such as OPT",
                found=f"one with {config.text_config.model_type}",
                do="choose such a checkpoint",
            )
        return prefix_spec(self.name, files, config.text_config)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec = self.spec(model, {})
        language = model.language_model
        decoder = CausalDecoder(language.base_model, language.get_output_embeddings())
        return prefix_components(
            spec,
            _Vision(model),
            Embedding(model.get_input_embeddings()),
            decoder,
            (height, width),
        )

    def generate(
        self, model: Any, pixel_values: torch.Tensor, prompt: Prompt, settings: dict[str, Any]
    ) -> list[list[int]]:
        config = model.config
        ids = whole_prompt(
            prompt, config.image_token_index, config.num_query_tokens, len(pixel_values)
        )
        tokens = model.generate(pixel_values, input_ids=ids, **settings)
        made: list[list[int]] = tokens[:, ids.shape[1] :].tolist()
        return made


class _Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model.get_image_features(pixel_values)
        return found.last_hidden_state[:, 1:], found.pooler_output
