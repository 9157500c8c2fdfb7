"""Graphs as onnx-community publishes them of captioners whose decoder reads embeddings.

Names, inputs and outputs are those of its exports: ``vision_encoder``, ``embed_tokens`` and
``decoder_model_merged``, with a mask and positions as inputs. What is inside are the models of
small_prefix.py.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past
from srd_edge.export.families.llava import LlavaVision
from srd_edge.export.families.paligemma import _EveryMask, _Head
from srd_edge.export.families.paligemma import _Vision as PaliGemmaVision
from srd_edge.export.families.prefix import Embedding
from srd_edge.export.families.qwen_vl import _attend
from srd_edge.export.families.qwen_vl import _Vision as QwenVision
from srd_edge.export.families.smolvlm import _Vision as TileVision
from srd_edge.export.source import Source, open_source

LOWEST = torch.finfo(torch.float32).min


class Sees(nn.Module):
    """pixel_values (B, 3, H, W) -> image_features (B, N, D)."""

    def __init__(self, look: nn.Module) -> None:
        super().__init__()
        self.look = look

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.look(pixel_values)[1]


class SeesTiles(TileVision):
    """pixel_values (1, tiles, 3, H, W) and their mask (1, tiles, H, W) -> (tiles, P, D)."""

    def forward(  # type: ignore[override]
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor
    ) -> Any:
        tiles, mask = pixel_values.flatten(0, 1), pixel_attention_mask.flatten(0, 1)
        look = self.vision.embeddings
        patches = look.patch_embedding(tiles).flatten(2).transpose(1, 2)
        side = look.patch_size
        there = mask[:, ::side, ::side].flatten(1)
        # What is padding has the first position, and is not looked at.
        hidden = patches + look.position_embedding(torch.where(there, self.positions, 0))
        blind = torch.where(there, 0.0, LOWEST)[:, None, None]
        seen = self.vision.encoder(inputs_embeds=hidden, attention_mask=blind)
        return self.connect(self.vision.post_layernorm(seen.last_hidden_state))


class SeesPatches(QwenVision):
    """pixel_values (P, values) and image_grid_thw (1, 3) -> image_features (N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.frames = nn.Parameter(model.patch_embed.proj.weight.detach().flatten(1))

    def forward(  # type: ignore[override]
        self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor
    ) -> Any:
        model, merge = self.model, self.config.spatial_merge_size
        number = torch.arange(pixel_values.shape[0])
        across = image_grid_thw[0, 2] // merge
        block, within = number // merge**2, number % merge**2
        row = block // across * merge + within // merge
        column = block % across * merge + within % merge
        bias = model.patch_embed.proj.bias
        hidden = functional.linear(pixel_values, self.frames, bias)[None]
        turned = model.rotary_pos_emb(hidden, torch.stack([row, column], dim=1))
        window = self._windows(row, column)
        for place, layer in enumerate(model.blocks):
            seen = window if place in self._windowed else None
            hidden = hidden + _attend(layer.attn, layer.norm1(hidden), turned, seen)
            hidden = hidden + layer.mlp(layer.norm2(hidden))
        return model.merger(hidden).flatten(0, -2)


class Reads(nn.Module):
    """What every such decoder does with its mask, positions and past.

    Args:
        text: inputs_embeds, a mask (B, 1, S, P + S), positions, a cache -> hidden states.
        head: hidden states -> logits.
        both_ways: whether several positions read at once see one another.
        keeps: whether the number of the last logits that are wanted is an input.
    """

    def __init__(self, text: Any, head: Any, *, both_ways: bool, keeps: bool) -> None:
        super().__init__()
        self.text, self.head = text, head
        self.both_ways, self.keeps = both_ways, keeps

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        *rest: torch.Tensor,
    ) -> Any:
        past, count = Past(rest[self.keeps :]), inputs_embeds.shape[1]
        keys = torch.arange(attention_mask.shape[1])
        allowed = keys[None] <= torch.arange(count)[:, None] + past.length
        if self.both_ways:
            allowed = allowed | (torch.zeros(1, 1, dtype=torch.int64) + count > 1)
        allowed = allowed[None] & (attention_mask[:, None] > 0)
        mask = torch.where(allowed, 0.0, LOWEST)[:, None]
        hidden = self.text(inputs_embeds, mask, position_ids, past.cache)
        if self.keeps:
            hidden = hidden[:, -rest[0].reshape(1) :]
        return (self.head(hidden), *past.present())


class Causal(nn.Module):
    """A causal text model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeds: Any, mask: Any, positions: Any, cache: Any) -> Any:
        return self.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state


class Turned(nn.Module):
    """Qwen's, whose positions are (3, B, S)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeds: Any, mask: Any, positions: Any, cache: Any) -> Any:
        turned = self.model.rotary_emb(embeds, positions)
        for layer in self.model.layers:
            embeds = layer(
                embeds,
                attention_mask=mask,
                position_embeddings=turned,
                past_key_values=cache,
                use_cache=True,
            )
        return self.model.norm(embeds)


def seeing(source: Source) -> Component:
    """The vision encoder of a model."""
    model, (height, width) = source.captioner.model, source.size
    family, inner = source.family.name, model.model
    inputs = {"pixel_values": torch.randn(2, 3, height, width)}
    dynamic: dict[str, dict[int, str]] = {"pixel_values": {0: "batch_size"}}
    module: nn.Module
    if family == "llava":
        module = Sees(LlavaVision(inner, model.config))
    elif family == "paligemma":
        module = Sees(PaliGemmaVision(inner))
    elif family == "smolvlm":
        module = SeesTiles(inner, height, width)
        inputs = {
            "pixel_values": torch.randn(1, 3, 3, height, width),
            "pixel_attention_mask": torch.ones(1, 3, height, width, dtype=torch.bool),
        }
        dynamic = {name: {1: "num_images"} for name in inputs}
    else:
        module = SeesPatches(inner.visual)
        inputs = {
            "pixel_values": torch.randn(24, 96),
            "image_grid_thw": torch.tensor([[1, 4, 6]]),
        }
        dynamic = {"pixel_values": {0: "patches"}, "image_grid_thw": {}}
    return Component("vision_encoder", module.eval(), inputs, ("image_features",), dynamic)


def reading(source: Source, *, keeps: bool) -> Component:
    """The decoder of a model."""
    model, family = source.captioner.model, source.family.name
    spec, config, inner = source.spec({}), model.config.text_config, model.model
    words = inner.text_model if family == "smolvlm" else inner.language_model
    head, windowed = model.lm_head, getattr(config, "sliding_window", None) is not None
    if family == "paligemma":
        head = _Head(head, getattr(config, "final_logit_softcapping", None))
        words = _EveryMask(words) if windowed else words
    text = Turned(words) if family == "qwen-vl" else Causal(words)
    places = torch.arange(4, 7).expand(2, 3).clone()
    inputs: dict[str, torch.Tensor] = {
        "inputs_embeds": torch.randn(2, 3, config.hidden_size),
        "attention_mask": torch.ones(2, 7, dtype=torch.int64),
        "position_ids": places.expand(3, 2, 3).clone() if family == "qwen-vl" else places,
    }
    along = {0: "batch_size", 1: "sequence_length"}
    dynamic: dict[str, dict[int, str]] = {
        "inputs_embeds": along,
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "position_ids": {1: "batch_size", 2: "sequence_length"} if family == "qwen-vl" else along,
    }
    if keeps:
        inputs["num_logits_to_keep"], dynamic["num_logits_to_keep"] = torch.tensor(2), {}
    for name in spec.kv_names("past_key_values", "decoder"):
        inputs[name] = torch.randn(2, spec.heads, 4, spec.head_dim)
        dynamic[name] = {0: "batch_size", 2: "past_sequence_length"}
    outputs = ("logits", *spec.kv_names("present", "decoder"))
    module = Reads(text, head, both_ways=family == "paligemma", keeps=keeps).eval()
    return Component("decoder_model_merged", module, inputs, outputs, dynamic)


def choose(model: onnx.ModelProto) -> None:
    """The same graph in either branch of an `If`, as older exports have it."""
    graph = model.graph
    branches = {
        name: helper.make_graph(graph.node, name, [], graph.output, graph.initializer)
        for name in ("then_branch", "else_branch")
    }
    chosen = [value.name for value in graph.output]
    flag = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    node = helper.make_node("If", [flag.name], chosen, **branches)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.append(node)
    graph.input.append(flag)


def halve_cache(model: onnx.ModelProto) -> None:
    """Keys and values go in and out in float16."""
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if "key" in value.name or "value" in value.name:
            value.type.tensor_type.elem_type = half
    taken = {v.name for v in graph.input if v.type.tensor_type.elem_type == half}
    given = {v.name for v in graph.output if v.type.tensor_type.elem_type == half}
    for node in graph.node:
        for names, changed in ((node.input, taken | given), (node.output, given)):
            names[:] = [f"{name}_single" if name in changed else name for name in names]
    before = [helper.make_node("Cast", [n], [f"{n}_single"], to=single) for n in sorted(taken)]
    after = [helper.make_node("Cast", [f"{n}_single"], [n], to=half) for n in sorted(given)]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def trace(component: Component, path: Path) -> None:
    """By PyTorch's older exporter, which published graphs are made with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            component.module,
            tuple(component.inputs.values()),
            path,
            dynamo=False,
            opset_version=17,
            input_names=list(component.inputs),
            output_names=list(component.outputs),
            dynamic_axes=component.dynamic,
        )


def publish(model: Path, folder: Path, *, keeps: bool = False, chooses: bool = False) -> Path:
    """The json files of ``model`` and its graphs in ``folder``.

    Args:
        model: a directory of transformers.
        folder: a new one.
        keeps: whether its decoder is told how many logits are wanted.
        chooses: whether it chooses between its first call and all others.
    """
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "onnx").mkdir()
    source = open_source(model)
    embedding = Component(
        "embed_tokens",
        Embedding(source.captioner.model.get_input_embeddings()).eval(),
        {"input_ids": torch.ones(2, 3, dtype=torch.int64)},
        ("inputs_embeds",),
        {"input_ids": {0: "batch_size", 1: "sequence_length"}},
    )
    decoder = reading(source, keeps=keeps)
    for component in (seeing(source), embedding, decoder):
        path = folder / "onnx" / f"{component.file_stem}.onnx"
        trace(component, path)
    if chooses:
        graph = onnx.load(path)
        choose(graph)
        onnx.save(graph, path)
    return folder
