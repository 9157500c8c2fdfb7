"""The VisionEncoderDecoder family with a GPT-2 decoder (``tiny``): two graphs out of one model.

``encoder_model``: pixel_values (B, 3, H, W) -> last_hidden_state (B, N, C) and, for every decoder
layer i, present.{i}.encoder.key / .value (B, heads, N, head_dim): the cross-attention cache, which
depends on the picture alone and is therefore computed once.

``decoder_model``: input_ids (B, S), past_key_values.{i}.decoder.key / .value
(B, heads, P, head_dim) and past_key_values.{i}.encoder.key / .value -> logits (B, S, V),
present.{i}.decoder.key / .value (B, heads, P + S, head_dim). B, S, P and N are dynamic, P may be 0,
and there is no ``If``.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.runtime.bundle_specs import CaptionerSpec

FAMILY: Final = "vision-encoder-decoder"


class _Encoder(nn.Module):
    """The picture's features and every decoder layer's cross-attention keys and values."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder: Any = model.encoder
        self.project: nn.Module = getattr(model, "enc_to_dec_proj", nn.Identity())
        self.cross = nn.ModuleList(block.crossattention for block in model.decoder.transformer.h)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = self.encoder(pixel_values).last_hidden_state
        projected = self.project(hidden)
        outputs = [hidden]
        attention: Any
        for attention in self.cross:
            key, value = attention.c_attn(projected).chunk(2, dim=2)
            for tensor in (key, value):
                heads = tensor.unflatten(2, (attention.num_heads, attention.head_dim))
                outputs.append(heads.transpose(1, 2))
        return tuple(outputs)


class _Decoder(nn.Module):
    """One call of the decoder with flat caches; see the module's text for the order."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.layers = len(model.decoder.transformer.h)

    def forward(self, input_ids: torch.Tensor, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own, cross = DynamicCache(), DynamicCache()
        own_flat, cross_flat = flat[: 2 * self.layers], flat[2 * self.layers :]
        for layer in range(self.layers):
            own.update(own_flat[2 * layer], own_flat[2 * layer + 1], layer)
            cross.update(cross_flat[2 * layer], cross_flat[2 * layer + 1], layer)
        cache = EncoderDecoderCache(own, cross)
        # Only its length is used: the cross-attention cache is already filled.
        batch, heads, length, head_dim = cross_flat[0].shape
        picture = input_ids.new_zeros((batch, length, heads * head_dim), dtype=torch.float32)
        past = own_flat[0].shape[2]
        positions = torch.arange(input_ids.shape[1], device=input_ids.device) + past
        out = self.decoder(
            input_ids=input_ids,
            position_ids=positions[None],
            encoder_hidden_states=picture,
            past_key_values=cache,
            use_cache=True,
        )
        present = [
            tensor
            for layer in out.past_key_values.self_attention_cache.layers
            for tensor in (layer.keys, layer.values)
        ]
        return (out.logits, *present)


def captioner_spec(model: Any, components: dict[str, str]) -> CaptionerSpec:
    """The manifest's description of ``model``, whose graphs are the files ``components``."""
    _check(model)
    config = model.decoder.config
    return CaptionerSpec(
        family=FAMILY,
        decoding="cross-attention",
        components=components,
        layers=config.n_layer,
        heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
    )


def components(model: Any, height: int, width: int) -> dict[str, Component]:
    """The encoder and the decoder of ``model``, ready to be exported."""
    spec = captioner_spec(model, {})
    pixel_values = torch.randn(2, 3, height, width)
    encoder = _Encoder(model).eval()
    with torch.no_grad():
        _, *cross = encoder(pixel_values)
    own_past = spec.kv_names("past_key_values", "decoder")
    cross_past = spec.kv_names("past_key_values", "encoder")
    # Sequence and past of at least 2: torch.export takes a length of 1 for a constant.
    inputs = {"input_ids": torch.ones(2, 2, dtype=torch.int64)}
    # A tensor each: torch.export takes one that is passed twice for one input.
    inputs |= {name: torch.randn(2, spec.heads, 3, spec.head_dim) for name in own_past}
    inputs |= {n: t.contiguous() for n, t in zip(cross_past, cross, strict=True)}
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    dynamic |= {name: {0: "batch", 2: "past"} for name in own_past}
    dynamic |= {name: {0: "batch", 2: "picture"} for name in cross_past}
    return {
        "encoder": Component(
            "encoder_model",
            encoder,
            {"pixel_values": pixel_values},
            ("last_hidden_state", *spec.kv_names("present", "encoder")),
            {"pixel_values": {0: "batch"}},
        ),
        "decoder": Component(
            "decoder_model",
            _Decoder(model).eval(),
            inputs,
            ("logits", *spec.kv_names("present", "decoder")),
            dynamic,
        ),
    }


def _check(model: Any) -> None:
    if model.decoder.config.model_type != "gpt2":
        raise UsageError(
            expected="a VisionEncoderDecoder model with a GPT-2 decoder",
            found=f"a {model.decoder.config.model_type} decoder",
            do="choose such a model",
        )
