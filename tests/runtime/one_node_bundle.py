"""A bundle of graphs that have one node each, and the manifest that it is written with."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.bundle_specs import CaptionerSpec, ObservationSpec, PolicySpec
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.manifest import Manifest

MANIFEST = Manifest(
    captioner=CaptionerSpec(
        "vision-encoder-decoder",
        "cross-attention",
        {"encoder": "encoder_model.onnx", "decoder": "decoder_model.onnx"},
        layers=1,
        heads=1,
        head_dim=4,
    ),
    preprocessing=Preprocessing(8, 6, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)),
    generation=GenerationDefaults(prompt=(1,), end_tokens=(2,), max_new_tokens=7),
    actions=DEFAULT_TABLE,
    observation=ObservationSpec(rows=2, columns=2, channels=4),
    policy=PolicySpec("policy.onnx", "", max_steps=2, temperature=1.0),
    precision="fp32",
    opset=18,
)


def graph(op: str) -> bytes:
    """A one-node ONNX graph over (1, 4) float32."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    body = helper.make_graph([helper.make_node(op, ["x"], ["y"])], op, value[:1], value[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


FILES: dict[str, bytes | Path] = {
    "encoder_model.onnx": graph("Relu"),
    "decoder_model.onnx": graph("Sigmoid"),
    "policy.onnx": graph("Tanh"),
    "tokenizer.json": b"{}",
}
