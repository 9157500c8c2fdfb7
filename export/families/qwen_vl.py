"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: one canvas of any size, positions by row and column.

The encoder's graph is the model's own layers over its own order of patches, with the arithmetic of
positions and windows done by row and column: transformers does it by lists that no graph can hold.
Attention within a window is attention under a mask, so that nothing has to be sorted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past
from srd_edge.export.families.family import Family
from srd_edge.export.families.prefix import (
    Embedding,
    chat_prompt,
    generated,
    prefix_components,
    prefix_spec,
    whole_ids,
)
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class QwenVl(Family):
    """See the module's text."""

    name = "qwen-vl"
    model_types: tuple[str, ...] = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        return chat_prompt(tokenizer, model.config.image_token_id, text, self.name)

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        text = model.config.text_config
        if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
            raise UsageError(
                expected="a text model that sees all of what it has read",
                found="layers with a sliding window",
                do="switch use_sliding_window off in the model's config.json",
            )
        return prefix_spec(self.name, files, text, positions="grid")

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        spec, inner = self.spec(model, {}), model.model
        seeing = Component(
            "vision_encoder",
            _Vision(inner.visual).eval(),
            {"pixel_values": torch.randn(2, 3, 2 * height, 3 * width)},
            ("last_hidden_state", *spec.memory_names),
            {"pixel_values": {0: "batch", 2: "height", 3: "width"}},
        )
        extra = len(getattr(inner.visual, "deepstack_merger_list", ()))
        embedding = _Embedding(inner.get_input_embeddings(), extra)
        decoder = _Decoder(inner.language_model, model.lm_head, extra)
        return prefix_components(spec, seeing, embedding, decoder)

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        config = model.config
        count = layout.rows * layout.columns
        ids = whole_ids(self.prompted(model, prompt, {}), layout, count, config.image_token_id)
        merge = config.vision_config.spatial_merge_size
        return generated(
            model,
            ids,
            mm_token_type_ids=(ids == config.image_token_id).int(),
            pixel_values=_patches(pixel_values, config.vision_config, frames=True)[0],
            image_grid_thw=torch.tensor([[1, layout.rows * merge, layout.columns * merge]]),
            **settings,
        )


class _Vision(nn.Module):
    """pixel_values (B, 3, H, W) -> features (B, N, C) and embeddings (B, N / merge², D).

    Qwen3-VL's embeddings are as wide as its decoder's first layers together: see ``_Decoder``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        # A still picture is so many frames of a video, all the same.
        frames = model.patch_embed.proj.weight.detach()
        self.weight = nn.Parameter(frames.sum(dim=2).flatten(1), requires_grad=False)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.model
        row, column = _places(pixel_values, self.config)
        patches = _patches(pixel_values, self.config)
        hidden = functional.linear(patches, self.weight, model.patch_embed.proj.bias)
        if hasattr(model, "pos_embed"):
            hidden = hidden + self._learned(row, column)
        turned = model.rotary_pos_emb(hidden, torch.stack([row, column], dim=1))
        window = self._windows(row, column)
        taken = []
        for number, block in enumerate(model.blocks):
            within = window if number in self._windowed else None
            hidden = hidden + _attend(block.attn, block.norm1(hidden), turned, within)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if number in self._deep:
                taken.append(model.deepstack_merger_list[self._deep.index(number)](hidden))
        embeddings = torch.cat([model.merger(hidden), *taken], dim=-1)
        return hidden, embeddings.reshape(hidden.shape[0], -1, embeddings.shape[-1])

    @property
    def _deep(self) -> list[int]:
        """Layers whose features the text model's first layers are given."""
        return list(getattr(self.model, "deepstack_visual_indexes", ()))

    @property
    def _windowed(self) -> set[int]:
        """Layers that look within a window only."""
        whole = getattr(self.model, "fullatt_block_indexes", None)
        return set() if whole is None else set(range(len(self.model.blocks))) - set(whole)

    def _windows(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor | None:
        """(N, N) float32, 0 where two patches lie in the same window."""
        if not self._windowed:
            return None
        merge = self.config.spatial_merge_size
        side = self.config.window_size // merge // self.config.patch_size * merge
        down, across = row // side, column // side
        same = (down[:, None] == down[None]) & (across[:, None] == across[None])
        return torch.where(same, 0.0, torch.finfo(torch.float32).min)

    def _learned(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """(N, C): the learned grid of positions, stretched to the picture's."""
        side = self.model.num_grid_per_side
        (top, bottom, down), (left, right, across) = (_stretched(at, side) for at in (row, column))
        table = self.model.pos_embed
        upper = table(top * side + left) * (1 - across) + table(top * side + right) * across
        lower = table(bottom * side + left) * (1 - across) + table(bottom * side + right) * across
        learned: torch.Tensor = upper * (1 - down) + lower * down
        return learned


class _Embedding(Embedding):
    """Words, with nothing for the layers that are given features of a picture."""

    def __init__(self, tokens: Any, extra: int) -> None:
        super().__init__(tokens)
        self.extra = extra

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        embedded = super().forward(input_ids)
        nothing = torch.zeros_like(embedded)
        return torch.cat([embedded] + [nothing] * self.extra, dim=-1)


class _Decoder(nn.Module):
    """One call of the text model.

    What it reads is as wide as the embeddings and, one after the other, what is added behind each
    of its first ``extra`` layers (DeepStack).
    """

    def __init__(self, model: Any, head: Any, extra: int) -> None:
        super().__init__()
        self.model, self.head, self.extra = model, head, extra

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        logits_to_keep: torch.Tensor,
        position_ids: torch.Tensor,
        past: Past,
    ) -> torch.Tensor:
        hidden, *added = inputs_embeds.chunk(1 + self.extra, dim=-1)
        mask = past.mask(hidden.shape[1])
        turned = self.model.rotary_emb(hidden, position_ids)
        for number, layer in enumerate(self.model.layers):
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=turned,
                past_key_values=past.cache,
                use_cache=True,
            )
            if number < len(added):
                hidden = hidden + added[number]
        kept = self.model.norm(hidden).index_select(1, logits_to_keep)
        logits: torch.Tensor = self.head(kept)
        return logits


def _attend(
    attention: Any,
    hidden: torch.Tensor,
    turned: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """(B, N, C) -> (B, N, C), by an attention layer's own weights."""
    parts = attention.qkv(hidden).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    query, key = apply_rotary_pos_emb_vision(*parts[:2], *turned)
    query, key, value = (part.transpose(1, 2) for part in (query, key, parts[2]))
    scores = query @ key.transpose(2, 3) * attention.scaling
    if mask is not None:
        scores = scores + mask
    mixed = torch.softmax(scores, dim=-1) @ value
    out: torch.Tensor = attention.proj(mixed.transpose(1, 2).flatten(2))
    return out


def _patches(pixel_values: torch.Tensor, config: Any, *, frames: bool = False) -> torch.Tensor:
    """(B, 3, H, W) -> (B, N, values): patches in blocks of merge x merge, blocks row by row.

    Args:
        pixel_values: the canvases.
        config: of the vision model.
        frames: whether each patch is repeated as the frames of a video.
    """
    patch, merge = config.patch_size, config.spatial_merge_size
    batch, channels, height, width = pixel_values.shape
    rows, columns = height // (patch * merge), width // (patch * merge)
    cells = pixel_values.reshape(batch, channels, rows, merge, patch, columns, merge, patch)
    ordered = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)
    if frames:
        ordered = ordered[:, :, :, :, :, :, None].expand(
            *(-1 for _ in range(6)), config.temporal_patch_size, -1, -1
        )
    return ordered.reshape(batch, rows * columns * merge**2, -1)


def _places(pixel_values: torch.Tensor, config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) int64 row and (N,) column of each patch, in the order of ``_patches``."""
    merge = config.spatial_merge_size
    cell = config.patch_size * merge
    rows, columns = pixel_values.shape[2] // cell, pixel_values.shape[3] // cell
    shape = rows, columns, merge, merge
    row = torch.arange(rows * merge).reshape(rows, 1, merge, 1).expand(shape)
    column = torch.arange(columns * merge).reshape(1, columns, 1, merge).expand(shape)
    return row.flatten(), column.flatten()


def _stretched(at: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where places 0..n-1 lie among ``side`` learned ones: (N,), (N,) between which two, (N, 1) how
    far towards the second."""
    place = at.float() * (side - 1) / at.max().clamp(min=1)
    low = place.floor().long()
    return low, (low + 1).clamp(max=side - 1), (place - low)[:, None]
