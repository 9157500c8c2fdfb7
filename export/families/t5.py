"""T5 as the text model behind a Q-Former: the cross-attention kind, for BLIP-2 and InstructBLIP.

T5's encoder reads the picture's embeddings and the prompt, whose ids are constants of its graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past, remembered
from srd_edge.export.families.family import (
    cross_attention_components,
    split_heads,
)
from srd_edge.runtime.bundle_specs import CaptionerSpec


def t5_spec(family: str, files: dict[str, str], text: Any) -> CaptionerSpec:
    """The manifest's description of a captioner with such a text model."""
    return CaptionerSpec(
        family=family,
        decoding="cross-attention",
        components=files,
        layers=text.num_decoder_layers,
        heads=text.num_heads,
        head_dim=text.d_kv,
    )


def t5_components(
    spec: CaptionerSpec,
    vision: nn.Module,
    language: Any,
    prompt: tuple[int, ...],
    size: tuple[int, int],
) -> dict[str, Component]:
    """The two graphs of a captioner.

    Args:
        spec: of the model.
        vision: pixel_values (B, 3, H, W) -> features (B, N, C) and embeddings (B, P, D).
        language: a T5ForConditionalGeneration.
        prompt: ids that T5 reads after the picture.
        size: height and width of the canvas.
    """
    look = _Encoder(vision, language, prompt)
    return cross_attention_components(spec, look, _Decoder(language), size)


class _Encoder(nn.Module):
    """The patches' features and every decoder layer's keys and values of picture and prompt."""

    prompt: torch.Tensor

    def __init__(self, vision: nn.Module, language: Any, prompt: tuple[int, ...]) -> None:
        super().__init__()
        self.vision, self.encoder = vision, language.encoder
        self.embed = language.get_input_embeddings()
        self.register_buffer("prompt", torch.tensor([prompt]), persistent=False)
        blocks = language.decoder.block
        self.cross = nn.ModuleList(block.layer[1].EncDecAttention for block in blocks)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, picture = self.vision(pixel_values)
        text = self.embed(self.prompt).expand(pixel_values.shape[0], -1, -1)
        read = torch.cat([picture, text], dim=1)
        hidden = self.encoder(inputs_embeds=read).last_hidden_state
        outputs = [features]
        attention: Any
        for attention in self.cross:
            parts = attention.k(hidden), attention.v(hidden)
            outputs += [split_heads(part, attention.n_heads) for part in parts]
        return tuple(outputs)


class _Decoder(nn.Module):
    """One call of T5's decoder."""

    grows_only = True

    def __init__(self, language: Any) -> None:
        super().__init__()
        self.decoder, self.head = language.decoder, language.lm_head
        config = language.config
        self.width = config.d_model
        # Where head and embedding were one from the start, the head takes scaled states.
        self.scale = self.width**-0.5 if config.scale_decoder_outputs else 1.0

    def forward(
        self, input_ids: torch.Tensor, past: Past, memory: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        out = self.decoder(
            input_ids=input_ids,
            encoder_hidden_states=remembered(memory, self.width),
            past_key_values=past.beside(memory),
            use_cache=True,
        )
        logits: torch.Tensor = self.head(out.last_hidden_state * self.scale)
        return logits
