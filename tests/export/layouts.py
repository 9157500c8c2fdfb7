"""ONNX directories as others publish them: the graphs of a ViT-GPT2, in both layouts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from srd_edge.export.component import Component
from srd_edge.export.families.cache import Past
from srd_edge.export.families.family import split_heads
from srd_edge.export.graphs import export_graph

LAYERS, HEADS, HEAD_DIM = 2, 2, 8
OWN = [f"{layer}.decoder.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]
CROSS = [name.replace("decoder", "encoder") for name in OWN]
PLAIN = [name.replace("decoder.", "") for name in OWN]
IDS = {0: "batch_size", 1: "decoder_sequence_length"}
SEEN = {0: "batch_size", 1: "encoder_sequence_length"}
CACHED = {0: "batch_size", 2: "past_sequence_length"}


class Looks(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.encoder(pixel_values).last_hidden_state


class Begins(nn.Module):
    """The first call: no past, and every key and value comes out of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.project = model.decoder, model.enc_to_dec_proj

    def forward(self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        seen = self.project(encoder_hidden_states)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        out = self.decoder(input_ids, encoder_hidden_states=seen, past_key_values=cache)
        own, cross = cache.self_attention_cache, cache.cross_attention_cache
        return (out.logits, *present(own), *present(cross))


def present(cache: Any) -> list[torch.Tensor]:
    """The (key, value) pairs of a cache, layer by layer."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


class GoesOn(nn.Module):
    """A later call that looks at the cross-attention keys and values of the first."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, input_ids: torch.Tensor, *flat: torch.Tensor) -> Any:
        batch, heads, length, head_dim = flat[-1].shape
        seen = torch.zeros(batch, length, heads * head_dim)
        cache = Past(flat[: 2 * LAYERS]).beside(flat[2 * LAYERS :])
        places = torch.arange(input_ids.shape[1]) + flat[0].shape[2]
        out = self.decoder(
            input_ids,
            position_ids=places[None],
            encoder_hidden_states=seen,
            past_key_values=cache,
        )
        return (out.logits, *present(cache.self_attention_cache))


class GoesOnAnew(nn.Module):
    """A later call as optimum's of GPT-2: the picture is read anew in each."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.project = model.decoder, model.enc_to_dec_proj

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        *own: torch.Tensor,
    ) -> Any:
        seen = self.project(encoder_hidden_states)
        cross: list[torch.Tensor] = []
        for block in self.decoder.transformer.h:
            parts = block.crossattention.c_attn(seen).chunk(2, dim=2)
            cross += [split_heads(part, HEADS) for part in parts]
        cache = Past(own).beside(cross)
        out = self.decoder(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            encoder_hidden_states=seen,
            past_key_values=cache,
        )
        return (out.logits, *present(cache.self_attention_cache))


class BeginsAnew(Begins):
    """The first call of such a decoder, which gives no cross-attention keys and values."""

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
    ) -> Any:
        seen = self.project(encoder_hidden_states)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        out = self.decoder(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            encoder_hidden_states=seen,
            past_key_values=cache,
        )
        return (out.logits, *present(cache.self_attention_cache))


def graph_of(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: list[str],
    dynamic: dict[str, dict[int, str]],
    path: Path,
) -> onnx.ModelProto:
    export_graph(Component("", module.eval(), inputs, tuple(outputs), dynamic), path)
    return onnx.load(path)


def parts_of(model: Any, folder: Path, *, keeps: bool) -> dict[str, onnx.ModelProto]:
    """Encoder, first and later decoder as optimum names them; ``keeps`` cross-attention's cache."""
    ids, hidden = torch.ones(2, 2, dtype=torch.int64), torch.randn(2, 5, 24)
    past = [torch.randn(2, HEADS, 3, HEAD_DIM) for _ in OWN]
    own, cross = (OWN, CROSS) if keeps else (PLAIN, [])
    gives = ["logits", *(f"present.{name}" for name in own)]
    begins = {"input_ids": ids, "encoder_hidden_states": hidden}
    goes_on = {"input_ids": ids} if keeps else dict(begins)
    first, later = (Begins, GoesOn) if keeps else (BeginsAnew, GoesOnAnew)
    if not keeps:
        places = torch.arange(2)[None].repeat(2, 1)
        begins |= {"attention_mask": torch.ones(2, 2, dtype=torch.int64), "position_ids": places}
        goes_on |= {
            "attention_mask": torch.ones(2, 5, dtype=torch.int64),
            "position_ids": places + 3,
        }
    goes_on |= {f"past_key_values.{name}": tensor for name, tensor in zip(own, past, strict=True)}
    kept = torch.randn(2, HEADS, 5, HEAD_DIM)
    goes_on |= {f"past_key_values.{name}": kept.clone() for name in cross}
    axes = {"encoder_hidden_states": SEEN}
    axes |= {f"past_key_values.{name}": CACHED for name in own}
    axes |= {f"past_key_values.{name}": {0: "batch_size", 2: "seen"} for name in cross}
    axes |= dict.fromkeys(("input_ids", "position_ids"), IDS)
    whole = axes | {"attention_mask": IDS}
    after = axes | {"attention_mask": {0: "batch_size", 1: "total_sequence_length"}}
    crossed = [f"present.{name}" for name in cross]
    pixels = {"pixel_values": torch.randn(2, 3, 32, 32)}
    return {
        "encoder_model": graph_of(
            Looks(model),
            pixels,
            ["last_hidden_state"],
            {"pixel_values": {0: "batch_size"}},
            folder / "e.onnx",
        ),
        "decoder_model": graph_of(
            first(model),
            begins,
            gives + crossed,
            {name: whole[name] for name in begins},
            folder / "f.onnx",
        ),
        "decoder_with_past_model": graph_of(
            later(model),
            goes_on,
            gives,
            {name: after[name] for name in goes_on},
            folder / "l.onnx",
        ),
    }


def merged(first: onnx.ModelProto, later: onnx.ModelProto) -> onnx.ModelProto:
    """One graph of both, as optimum's ``merge_decoders`` makes it."""
    outputs = list(first.graph.output)
    there = {value.name for value in later.graph.output}
    types = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
    dummies = [
        helper.make_node(
            "Constant",
            [],
            [value.name],
            value=numpy_helper.from_array(
                np.empty((0, HEADS, 1, HEAD_DIM), types[value.type.tensor_type.elem_type])
            ),
        )
        for value in outputs
        if value.name not in there
    ]
    branches = {
        "then_branch": helper.make_graph(
            [*later.graph.node, *dummies], "with_past", [], outputs, later.graph.initializer
        ),
        "else_branch": helper.make_graph(
            first.graph.node, "no_past", [], outputs, first.graph.initializer
        ),
    }
    inputs = {value.name: value for model in (first, later) for value in model.graph.input}
    flag = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    chosen = helper.make_node("If", [flag.name], [value.name for value in outputs], **branches)
    graph = helper.make_graph([chosen], "merged", [*inputs.values(), flag], outputs)
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


def directory_of(model: Path, parts: dict[str, onnx.ModelProto], folder: Path, layout: str) -> Path:
    """The json files of ``model``, and graphs: transformers.js's merged, or optimum's two."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    place = folder
    graphs = dict(parts)
    if layout == "transformers.js":
        place = folder / "onnx"
        place.mkdir()
        later = graphs.pop("decoder_with_past_model")
        graphs["decoder_model_merged"] = merged(graphs.pop("decoder_model"), later)
    for name, graph in graphs.items():
        onnx.save(graph, place / f"{name}.onnx")
    return folder


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The weights of a graph and of its branches."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from tensors_of(attribute.g)


def apart(path: Path, location: str) -> None:
    """Keep the weights of the graph in ``path`` in a file beside it."""
    model = onnx.load(path)
    for tensor in list(tensors_of(model.graph)):
        if len(tensor.dims) > 1:
            onnx.external_data_helper.set_external_data(tensor, location)
    onnx.save(model, path)
