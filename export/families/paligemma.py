"""PaliGemma: SigLIP, a linear projector and Gemma, which reads picture and prompt both ways."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families.family import Family, encoder
from srd_edge.export.families.prefix import (
    CausalDecoder,
    Embedding,
    generated,
    prefix_components,
    prefix_spec,
    whole_prompt,
    words_of,
)
from srd_edge.export.prompts import Prompt, task_prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec

_ROOM: Final = 512
"""Positions for words, beside the picture's."""


class PaliGemma(Family):
    """See the module's text."""

    name = "paligemma"
    model_types: tuple[str, ...] = ("paligemma",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        start = model.config.text_config.bos_token_id
        return task_prompt(text, start, words_of(tokenizer))

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        return prefix_spec(self.name, files, model.config.text_config)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        rows, columns = self.grid(model, height, width)
        text, inner = model.config.text_config, model.model
        window = getattr(text, "sliding_window", None)
        if window is not None and rows * columns + _ROOM > window:
            raise UsageError(
                expected=f"at most {window - _ROOM} patches, which Gemma sees at once",
                found=f"{rows} x {columns}",
                do="choose a checkpoint for smaller pictures",
            )
        spec = self.spec(model, {})
        return prefix_components(
            spec,
            encoder(spec, "vision_encoder", _Vision(inner), height, width),
            Embedding(inner.get_input_embeddings()),
            CausalDecoder(
                _EveryMask(inner.language_model) if window else inner.language_model,
                _Head(model.lm_head, getattr(text, "final_logit_softcapping", None)),
                both_ways=True,
                first=1,
            ),
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
            token_type_ids=torch.zeros_like(ids),
            pixel_values=pixel_values,
            **settings,
        )


class _Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.project = model.vision_tower, model.multi_modal_projector

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.tower(pixel_values).last_hidden_state
        return features, self.project(features)


class _EveryMask(nn.Module):
    """Gemma 2 with one mask for all layers; nothing here is longer than its sliding window."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, attention_mask: torch.Tensor, **inputs: Any) -> Any:
        masks = {"full_attention": attention_mask, "sliding_attention": attention_mask}
        return self.model(attention_mask=masks, **inputs)


class _Head(nn.Module):
    def __init__(self, head: Any, softcap: float | None) -> None:
        super().__init__()
        self.head, self.softcap = head, softcap

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(hidden)
        if self.softcap is None:
            return logits
        return torch.tanh(logits / self.softcap) * self.softcap
