"""What a captioner family has to say of itself, and what several of them share.

A family is one file beside this one. It takes a transformers model apart into graphs that one of
the runtime's two kinds of decoder can drive (`runtime/decoders.py`), and says how a prompt becomes
token ids. docs/families.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Growing
from srd_edge.export.generation import token_ids
from srd_edge.export.prompts import Prompt
from srd_edge.kernels.image_processor import read_image_processor
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.kernels.tiling import Layout
from srd_edge.runtime.bundle_specs import CaptionerSpec


class Family(Protocol):
    """How models of some types are exported; a family inherits what it does not say."""

    name: str
    model_types: tuple[str, ...]

    def prompt(self, model: Any, tokenizer: Any, text: str) -> Prompt:
        """The ids for a prompt in words, "" for the family's own.

        Args:
            model: a model of the family.
            tokenizer: transformers' tokenizer for it.
            text: what the caption is to go on from, or the question, as the family has it.
        """
        ...

    def settings(self, model: Any) -> GenerationConfig:
        """The generation settings that ``generate`` goes by."""
        return model.generation_config

    def end_tokens(self, model: Any) -> tuple[int, ...]:
        """The ids that end a caption."""
        return token_ids(self.settings(model).eos_token_id)

    def preprocessing(self, model: Any, image_processor: Any) -> Preprocessing:
        """What is done to a picture, by transformers' image processor for the model."""
        return read_image_processor(image_processor.to_dict())

    def bounded(self, model: Any, spec: Preprocessing, most_pixels: int) -> Preprocessing:
        """The same for pictures of so many pixels at most; the model is told if it has to know."""
        return spec.bounded(most_pixels)

    def grid(self, model: Any, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the features of a picture of so many pixels: square patches."""
        patch = model.config.vision_config.patch_size
        return height // patch, width // patch

    def spec(self, model: Any, files: dict[str, str]) -> CaptionerSpec:
        """The manifest's description of ``model``, whose graphs are ``files``."""
        ...

    def prompted(self, model: Any, prompt: Prompt, files: dict[str, str]) -> CaptionerSpec:
        """``spec`` with the prompt in it."""
        spec = self.spec(model, files)
        return replace(spec, before=prompt.before, after=prompt.after, tiles=prompt.tiles)

    def components(
        self, model: Any, prompt: Prompt, height: int, width: int
    ) -> dict[str, Component]:
        """The graphs to be; the encoder's first output is (B, rows * columns, C) features."""
        ...

    def generate(
        self,
        model: Any,
        pixel_values: torch.Tensor,
        layout: Layout,
        prompt: Prompt,
        settings: dict[str, Any],
    ) -> list[list[int]]:
        """The ids that transformers' own ``generate`` adds to the prompt, end tokens included.

        Args:
            model: in eval mode.
            pixel_values: (B, 3, H, W) float32, of B pictures or of what is seen of one.
            layout: of that one, or of each.
            prompt: what ``prompt`` gave.
            settings: for ``generate``.
        """
        ...


def split_heads(hidden: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, N, heads * D) -> (B, heads, N, D)."""
    return hidden.view(*hidden.shape[:2], heads, -1).transpose(1, 2)


def cross_attention_decoder(
    spec: CaptionerSpec, module: torch.nn.Module, memory: Sequence[torch.Tensor]
) -> Component:
    """The decoder graph of the cross-attention kind.

    Args:
        spec: of the model.
        module: input_ids, a ``Past``, and keys and values of cross-attention -> logits (B, S, V).
        memory: the cross-attention keys and values of two pictures, for example.
    """
    own = spec.kv_names("past_key_values", "decoder")
    cross = spec.kv_names("past_key_values", "encoder")
    # Sequence and past of at least 2: torch.export takes a length of 1 for a constant.
    inputs = {"input_ids": torch.ones(2, 2, dtype=torch.int64)}
    # A tensor each: torch.export takes one that is passed twice for one input.
    inputs |= {name: torch.randn(2, spec.heads, 3, spec.head_dim) for name in own}
    inputs |= {name: t.contiguous() for name, t in zip(cross, memory, strict=True)}
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    dynamic |= {name: {0: "batch", 2: "past"} for name in own}
    dynamic |= {name: {0: "batch", 2: "picture"} for name in cross}
    outputs = ("logits", *spec.kv_names("present", "decoder"))
    reading = Growing(module, 1, spec.layers).eval()
    return Component("decoder_model", reading, inputs, outputs, dynamic)


def cross_attention_components(
    spec: CaptionerSpec, look: torch.nn.Module, decode: torch.nn.Module, size: tuple[int, int]
) -> dict[str, Component]:
    """The two graphs of a captioner of the cross-attention kind.

    Args:
        spec: of the model.
        look: pixel_values (B, 3, H, W) -> features, then all cross-attention keys and values.
        decode: what ``cross_attention_decoder`` takes.
        size: height and width of the canvas.
    """
    seeing = encoder(spec, "encoder_model", look, *size)
    with torch.no_grad():
        _, *memory = look(seeing.inputs["pixel_values"])
    return {"encoder": seeing, "decoder": cross_attention_decoder(spec, decode, memory)}


def encoder(
    spec: CaptionerSpec, file_stem: str, module: torch.nn.Module, height: int, width: int
) -> Component:
    """The encoder graph: pixel_values -> features, and what the decoder needs of the picture."""
    return Component(
        file_stem,
        module.eval(),
        {"pixel_values": torch.randn(2, 3, height, width)},
        ("last_hidden_state", *spec.memory_names),
        {"pixel_values": {0: "batch"}},
    )
