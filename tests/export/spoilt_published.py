"""Ways to spoil what onnx-community publishes, and the words with which each is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.export.spoilt_directories import Change, changed, rewritten


def written(name: str, text: str) -> Change:
    return lambda directory: (directory / name).write_text(text)


def takes(name: str, dims: list[int]) -> Callable[[onnx.ModelProto], None]:
    value = helper.make_tensor_value_info(name, TensorProto.INT64, dims)
    return lambda model: model.graph.input.append(value)


def renamed(model: onnx.ModelProto) -> None:
    (value,) = model.graph.output
    model.graph.node.append(helper.make_node("Identity", [value.name], ["embeddings"]))
    value.name = "embeddings"


def chosen_by_the_picture(model: onnx.ModelProto) -> None:
    """Features are swapped for others where the picture is bright."""
    (value,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["honest" if name == value.name else name for name in node.output]
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["pixel_values"], ["brightest"], keepdims=0),
            helper.make_node("Cast", ["brightest"], ["seen"], to=TensorProto.BOOL),
            helper.make_node("Where", ["seen", "honest", "honest"], [value.name], name="hidden"),
        ]
    )


def linked_outside(directory: Path) -> None:
    path = directory / "onnx" / "embed_tokens.onnx"
    path.rename(directory.parent / "elsewhere.onnx")
    path.symlink_to(directory.parent / "elsewhere.onnx")


def weights_outside(directory: Path) -> None:
    path = directory / "onnx" / "embed_tokens.onnx"
    model = onnx.load(path)
    (largest,) = sorted(model.graph.initializer, key=lambda t: len(t.raw_data))[-1:]
    onnx.external_data_helper.set_external_data(largest, "../weights.data")
    (directory / "weights.data").write_bytes(largest.raw_data)
    largest.ClearField("raw_data")
    largest.data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())


REFUSED: dict[str, tuple[Change, str]] = {
    "graph": (
        lambda d: (d / "onnx" / "embed_tokens.onnx").unlink(),
        "vision_encoder and embed_tokens and decoder_model_merged, in .* found decoder_model",
    ),
    "input": (changed("decoder_model_merged", takes("lucky_number", [1])), "found lucky_number"),
    "count": (
        changed("decoder_model_merged", takes("num_logits_to_keep", [1])),
        "num_logits_to_keep to be one number",
    ),
    "embedder": (
        changed("embed_tokens", takes("position_ids", [1, 1])),
        "embed_tokens from input_",
    ),
    "encoder": (changed("vision_encoder", renamed), "to image_features, found pixel_values"),
    "sizes": (changed("vision_encoder", takes("image_grid_thw", [1, 3])), "found pixel_values of"),
    "choice": (changed("vision_encoder", chosen_by_the_picture), "seen or said: Where hidden"),
    "link": (linked_outside, "embed_tokens.onnx inside of .* found a link"),
    "weights": (weights_outside, "beside it, found '../weights.data'"),
    "two pictures": (written("chat_template.jinja", "<image> and <image>"), "found 2 in '<image>"),
    "no picture": (written("chat_template.jinja", "w1 w2"), "found 0 in 'w1 w2'"),
    "template": (
        written("chat_template.jinja", "{{ raise_exception('no pictures') }}"),
        "found TemplateError: no pictures",
    ),
    "token": (rewritten("config.json", image_token_index=999, image_token_id=999), "found 999"),
    "florence": (rewritten("config.json", model_type="florence2"), "text encoder is a graph"),
    "resolution": (rewritten("config.json", model_type="llava_onevision"), "lack the feature"),
    "nearest": (rewritten("config.json", model_type="gemma3"), "paligemma is the nearest"),
    "next": (rewritten("config.json", model_type="llava_next"), "llava is the nearest"),
    "none": (rewritten("config.json", model_type="kosmos-2"), "PyTorch weights; docs/families.md"),
    "end": (rewritten("generation_config.json", eos_token_id=None), "found 1 and None"),
}
