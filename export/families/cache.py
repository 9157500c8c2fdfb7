"""Keys and values of what a decoder has read, as its graph is given them.

A *growing* cache is as long as what was read, and every call gives one that is longer: nothing is
computed in vain, and no two calls have the same shapes. A *fixed* one has room for so many
positions, of which ``past_length`` count, and every call gives it back with what was read written
in: shapes stay, which TensorRT and CUDA graphs want.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from srd_edge.export.component import Component

PAST_LENGTH: Final = "past_length"
_ROOM: Final = 12
"""Positions of the cache that a graph is traced with."""


class Past:
    """What has been read.

    Args:
        flat: (key, value) pairs (B, heads, P, head_dim), layer by layer.
        length: (1,) int64, how many of P count; None for all.
    """

    def __init__(self, flat: Sequence[torch.Tensor], length: torch.Tensor | None = None) -> None:
        self.fixed = length is not None
        self.length: Any = flat[0].shape[2] if length is None else length
        self.cache = DynamicCache() if length is None else _FixedCache(length)
        for layer in range(len(flat) // 2):
            DynamicCache.update(self.cache, flat[2 * layer], flat[2 * layer + 1], layer)

    def beside(self, memory: Sequence[torch.Tensor]) -> EncoderDecoderCache:
        """With the keys and values of cross-attention, layer by layer."""
        cross = DynamicCache()
        for layer in range(len(memory) // 2):
            cross.update(memory[2 * layer], memory[2 * layer + 1], layer)
        return EncoderDecoderCache(self.cache, cross)

    def positions(self, count: int) -> torch.Tensor:
        """(1, count) int64, of what is read next."""
        positions: torch.Tensor = torch.arange(count) + self.length
        return positions[None]

    def mask(self, count: int, *, both_ways: bool = False) -> torch.Tensor:
        """(1, 1, count, P') float32, 0 where what is read next may look.

        Args:
            count: how much that is.
            both_ways: whether what is read first, with nothing in the cache, looks ahead too.
        """
        held = self.cache.layers[0].keys.shape[2]
        keys = torch.arange(held if self.fixed else held + count)[None]
        allowed = keys <= torch.arange(count)[:, None] + self.length
        if both_ways:
            nothing = torch.zeros(1, 1, dtype=torch.int64) + self.length == 0
            allowed = allowed | (nothing & (keys < count))
        return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]

    def present(self) -> list[torch.Tensor]:
        """The (key, value) pairs with what was read, layer by layer."""
        return [tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values)]


class Growing(nn.Module):
    """A decoder whose cache grows.

    Args:
        decoder: takes ``count`` tensors, a ``Past``, and perhaps the keys and values of
            cross-attention; gives logits. ``grows_only`` of it says that it counts by the length
            of its cache, so that it can have no other.
        count: see there.
        layers: how many have a cache.
    """

    def __init__(self, decoder: nn.Module, count: int, layers: int) -> None:
        super().__init__()
        self.decoder, self.count, self.layers = decoder, count, layers

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._read(tensors[: self.count], None, tensors[self.count :])

    def _read(
        self,
        inputs: tuple[torch.Tensor, ...],
        length: torch.Tensor | None,
        flat: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:
        past, memory = Past(flat[: 2 * self.layers], length), flat[2 * self.layers :]
        logits = self.decoder(*inputs, past, memory) if memory else self.decoder(*inputs, past)
        return (logits, *past.present())


class Fixed(Growing):
    """A decoder whose cache has a fixed size; ``past_length`` comes after its ``count`` tensors."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._read(tensors[: self.count], tensors[self.count], tensors[self.count + 1 :])


def with_fixed_cache(decoder: Component) -> Component | None:
    """The same decoder with a cache of fixed size; None where its cache can only grow."""
    growing = decoder.module
    if not isinstance(growing, Growing) or getattr(growing.decoder, "grows_only", False):
        return None
    fixed = Fixed(growing.decoder, growing.count, growing.layers).eval()
    inputs, dynamic = {}, {}
    for number, (name, tensor) in enumerate(decoder.inputs.items()):
        if number == growing.count:
            inputs[PAST_LENGTH] = torch.tensor([3])
        axes = decoder.dynamic.get(name, {})
        if "past" in axes.values():
            tensor = torch.randn(*tensor.shape[:2], _ROOM, tensor.shape[3])
            axes = {axis: "capacity" if label == "past" else label for axis, label in axes.items()}
        inputs[name], dynamic[name] = tensor, axes
    return replace(decoder, module=fixed, inputs=inputs, dynamic=dynamic)


def remembered(memory: Sequence[torch.Tensor], width: int | None = None) -> torch.Tensor:
    """What stands for a picture whose keys and values of cross-attention are in the cache.

    Only its shape is looked at: (B, N, width), the width that of all heads if none is given.
    """
    batch, heads, length, head_dim = memory[-1].shape
    return memory[-1].new_zeros((batch, length, width or heads * head_dim))


class _FixedCache(DynamicCache):  # type: ignore[misc]
    """transformers' cache that writes into the room it has.

    Args:
        length: (1,) int64, where.
    """

    def __init__(self, length: torch.Tensor) -> None:
        super().__init__()
        self.length = length

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self.layers[layer_idx]
        layer.keys = _written(layer.keys, key_states, self.length)
        layer.values = _written(layer.values, value_states, self.length)
        return layer.keys, layer.values


def _written(room: torch.Tensor, read: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """(B, heads, P, D) with (B, heads, S, D) from ``length`` on."""
    slots = torch.arange(room.shape[2])
    place = slots - length
    inside = (place >= 0) & (place < read.shape[2])
    source = torch.where(inside, place + room.shape[2], slots)
    return torch.cat([room, read], dim=2).index_select(2, source)
