"""InstructBLIP with a causal text model: BLIP-2 whose Q-Former reads the question too.

The question's ids are constants of the vision graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families.family import Prompt, token_ids
from srd_edge.export.families.prefix import (
    QUESTION,
    CausalDecoder,
    Embedding,
    prefix_components,
    prefix_spec,
    whole_prompt,
)
from srd_edge.runtime.bundle_specs import CaptionerSpec


class InstructBlip:
    """See the module's text."""

    name = "instructblip"
    model_types: tuple[str, ...] = ("instructblip",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        folder = {"subfolder": "qformer_tokenizer", "trust_remote_code": False}
        own = AutoTokenizer.from_pretrained(tokenizer.name_or_path, **folder)
        question = text or QUESTION
        return Prompt(
            after=tuple(tokenizer(question).input_ids), built_in=tuple(own(question).input_ids)
        )

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
                expected="an InstructBLIP captioner with a causal text model, such as Vicuna",
                found=f"one with {config.text_config.model_type}",
                do="choose such a checkpoint",
            )
        return prefix_spec(self.name, files, config.text_config)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        language = model.language_model
        return prefix_components(
            self.spec(model, {}),
            _Vision(model, prompt.built_in),
            Embedding(model.get_input_embeddings()),
            CausalDecoder(language.base_model, language.get_output_embeddings()),
            (height, width),
        )

    def generate(
        self, model: Any, pixel_values: torch.Tensor, prompt: Prompt, settings: dict[str, Any]
    ) -> list[list[int]]:
        config, rows = model.config, len(pixel_values)
        ids = whole_prompt(prompt, config.image_token_index, config.num_query_tokens, rows)
        question = torch.tensor([prompt.built_in]).repeat(rows, 1)
        tokens = model.generate(pixel_values, qformer_input_ids=question, input_ids=ids, **settings)
        made: list[list[int]] = tokens[:, ids.shape[1] :].tolist()
        return made


class _Vision(nn.Module):
    question: torch.Tensor

    def __init__(self, model: Any, question: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("question", torch.tensor([question]), persistent=False)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        question = self.question.expand(pixel_values.shape[0], -1)
        found = self.model.get_image_features(pixel_values, question)
        return found.last_hidden_state[:, 1:], found.pooler_output
