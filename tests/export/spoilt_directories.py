"""Ways to spoil a directory of published graphs, and the words with which each is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.export.layouts import apart, tensors_of

Change = Callable[[Path], object]


def replaced(name: str, content: bytes) -> Change:
    def change(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return change


def rewritten(name: str, **fields: Any) -> Change:
    def change(directory: Path) -> None:
        read = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(read | fields))

    return change


def changed(stem: str, change: Callable[[onnx.ModelProto], None]) -> Change:
    def on_disk(directory: Path) -> None:
        path = directory / "onnx" / f"{stem}.onnx"
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return on_disk


def outside(directory: Path) -> None:
    place = directory / "onnx"
    apart(place / "decoder_model_merged.onnx", "weights.data")
    (place / "weights.data").rename(directory / "weights.data")
    model = onnx.load(place / "decoder_model_merged.onnx", load_external_data=False)
    for tensor in tensors_of(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.data"
    onnx.save(model, place / "decoder_model_merged.onnx")


def linked_outside(directory: Path) -> None:
    path = directory / "onnx" / "encoder_model.onnx"
    path.rename(directory.parent / "elsewhere.onnx")
    path.symlink_to(directory.parent / "elsewhere.onnx")


def of_a_vlm(directory: Path) -> None:
    place = directory / "onnx"
    (place / "encoder_model.onnx").rename(place / "vision_encoder.onnx")
    shutil.copy(place / "vision_encoder.onnx", place / "embed_tokens.onnx")


def another_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("lucky_number", TensorProto.FLOAT, [1]))


def chosen_by_the_picture(model: onnx.ModelProto) -> None:
    """The branch is taken by the flag or by how bright the picture's hidden states are."""
    (choice,) = model.graph.node
    nodes = [
        helper.make_node("ReduceMax", ["encoder_hidden_states"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["seen"], to=TensorProto.BOOL),
        helper.make_node("Or", ["use_cache_branch", "seen"], ["chosen"]),
    ]
    choice.input[0] = "chosen"
    kept = [*nodes, choice]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def chosen_within(model: onnx.ModelProto) -> None:
    """Inside of a branch stands a choice by a word."""
    for attribute in model.graph.node[0].attribute:
        graph = attribute.g
        last = next(n for n in graph.node if "logits" in n.output)
        last.output[list(last.output).index("logits")] = "honest"
        nodes = [
            helper.make_node("ReduceMax", ["input_ids"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["said"], to=TensorProto.BOOL),
            helper.make_node("Where", ["said", "honest", "honest"], ["logits"], name="hidden"),
        ]
        graph.node.extend(nodes)


def chosen_by_the_flag_again(model: onnx.ModelProto) -> None:
    outputs = model.graph.node[0].output
    outputs[0] = "honest"
    nodes = [helper.make_node("Where", ["use_cache_branch", "honest", "honest"], ["logits"])]
    model.graph.node.extend(nodes)


REFUSED: dict[str, tuple[Change, dict[str, Any], str]] = {
    "precision": (lambda _: None, {"precision": "int4"}, "int4 .* found those of fp32: .*fp32"),
    "weights": (outside, {}, "beside it, found '../weights.data'"),
    "link": (linked_outside, {}, "encoder_model.onnx inside of .* found a link"),
    "tokenizer": (lambda d: (d / "tokenizer.json").unlink(), {}, "a tokenizer.json in"),
    "input": (changed("decoder_model_merged", another_input), {}, "found lucky_number"),
    "architecture": (rewritten("config.json", model_type="blip"), {}, "found model_type 'blip'"),
    "embeddings": (
        of_a_vlm,
        {},
        "encoder_model and .* found decoder_model_merged.onnx, embed",
    ),
    "no json": (replaced("config.json", b"{"), {}, "config.json to be JSON"),
    "processor": (
        rewritten("preprocessor_config.json", image_processor_type="DonutImageProcessor"),
        {},
        "ViT, DeiT, .* found DonutImageProcessor",
    ),
    "picture": (
        rewritten("preprocessor_config.json", size={"height": 48, "width": 48}),
        {},
        "encoder_model.onnx to take pictures of 48 x 48",
    ),
    "setting": (rewritten("generation_config.json", num_beam_groups=2), {}, "num_beam_groups of 1"),
    "type": (rewritten("generation_config.json", num_beams="many"), {}, "types and ranges"),
    "end": (rewritten("generation_config.json", eos_token_id=None), {}, "found 1 and None"),
    "choice": (changed("decoder_model_merged", chosen_by_the_picture), {}, "the operator If"),
    "inner choice": (
        changed("decoder_model_merged", chosen_within),
        {},
        "by what is seen or said: Where hidden",
    ),
    "flag": (changed("decoder_model_merged", chosen_by_the_flag_again), {}, "findings"),
    "no graph": (
        replaced("onnx/encoder_model.onnx", b"\xff\x00"),
        {},
        "encoder_model.onnx to be an ONNX graph",
    ),
}
