"""Florence-2: DaViT and a BART that reads the picture and the task, and is asked for words.

The task's ids are constants of the encoder graph, which runs BART's encoder too.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past, remembered
from srd_edge.export.families.family import Family, cross_attention_components, split_heads
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec

_TASK: Final = "What does the image describe?"
"""What the task <CAPTION> stands for."""


class Florence2(Family):
    """See the module's text."""

    name = "florence2"
    model_types: tuple[str, ...] = ("florence2",)

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        start = model.generation_config.decoder_start_token_id
        if start is None:
            start = model.config.text_config.decoder_start_token_id
        return Prompt((start,), built_in=tuple(tokenizer(text or _TASK).input_ids))

    def grid(self, model: Any, height: int, width: int) -> tuple[int, int]:
        for stride in model.config.vision_config.patch_stride:
            height, width = -(-height // stride), -(-width // stride)
        return height, width

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        text = model.config.text_config
        return CaptionerSpec(
            family=self.name,
            decoding="cross-attention",
            components=files,
            layers=text.decoder_layers,
            heads=text.decoder_attention_heads,
            head_dim=text.d_model // text.decoder_attention_heads,
        )

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        parts = _Encoder(model, prompt.built_in), _Decoder(model)
        return cross_attention_components(self.spec(model, {}), *parts, (height, width))

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        with torch.no_grad():
            features = model.get_image_features(pixel_values[:1]).pooler_output
        picture = [model.config.image_token_id] * features.shape[1]
        ids = torch.tensor([[*picture, *prompt.built_in]]).repeat(len(pixel_values), 1)
        tokens = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixel_values,
            **settings,
        )
        made: list[list[int]] = tokens[:, len(prompt.ids) :].tolist()
        return made


class _Encoder(nn.Module):
    """DaViT's features and every decoder layer's keys and values of picture and task."""

    task: torch.Tensor

    def __init__(self, model: Any, task: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model.model
        self.register_buffer("task", torch.tensor([task]), persistent=False)
        layers = model.model.language_model.decoder.layers
        self.cross = nn.ModuleList(layer.encoder_attn for layer in layers)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen = self.model.get_image_features(pixel_values)
        task = self.model.get_input_embeddings()(self.task)
        task = task.expand(pixel_values.shape[0], -1, -1)
        read = torch.cat([seen.pooler_output, task], dim=1)
        hidden = self.model.language_model.encoder(inputs_embeds=read).last_hidden_state
        outputs = [seen.last_hidden_state.flatten(2).transpose(1, 2)]
        attention: Any
        for attention in self.cross:
            parts = attention.k_proj(hidden), attention.v_proj(hidden)
            outputs += [split_heads(part, attention.num_heads) for part in parts]
        return tuple(outputs)


class _Decoder(nn.Module):
    """One call of BART's decoder."""

    grows_only = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.head = model.model.language_model.decoder, model.lm_head

    def forward(
        self, input_ids: torch.Tensor, past: Past, memory: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        out = self.decoder(
            input_ids=input_ids,
            encoder_hidden_states=remembered(memory),
            past_key_values=past.beside(memory),
            use_cache=True,
        )
        logits: torch.Tensor = self.head(out.last_hidden_state)
        return logits
