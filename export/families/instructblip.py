"""InstructBLIP: BLIP-2 whose Q-Former reads the question too, before Vicuna or T5.

The question's ids are constants of the graph that holds the Q-Former.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from srd_edge.export.component import Component
from srd_edge.export.families.blip2 import Blip2, said, text_components, text_ids, text_prompt
from srd_edge.export.prompts import QUESTION, Prompt
from srd_edge.kernels.tiling import Layout


class InstructBlip(Blip2):
    """See the module's text."""

    name = "instructblip"
    model_types: tuple[str, ...] = ("instructblip",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        folder = {"subfolder": "qformer_tokenizer", "trust_remote_code": False}
        own = AutoTokenizer.from_pretrained(tokenizer.name_or_path, **folder)
        question = text or QUESTION
        read = text_prompt(model, tuple(tokenizer(question).input_ids))
        return replace(read, question=tuple(own(question).input_ids))

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        vision = _Vision(model, prompt.question)
        return text_components(self.spec(model, {}), vision, model, prompt, (height, width))

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        rows = len(pixel_values)
        ids = text_ids(model, prompt, rows)
        question = torch.tensor([prompt.question]).repeat(rows, 1)
        tokens = model.generate(pixel_values, qformer_input_ids=question, input_ids=ids, **settings)
        return said(model, tokens, ids)


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
