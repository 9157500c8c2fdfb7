"""What may not be in a graph is found, and what our exports hold is not complained of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srd_edge.export.graph_check import branches, check_graph
from srd_edge.export.inspection import inspect_bundle, verify_bundle
from srd_edge.export.node_order import sort_nodes
from srd_edge.runtime.bundle import Bundle, read_bundle, write_bundle

SHAPE = (1, 3, 4, 4)


def model_of(nodes: Sequence[onnx.NodeProto], **settings: Any) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("pixel_values", TensorProto.FLOAT, SHAPE)],
        [value("y", TensorProto.FLOAT, SHAPE)],
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
            numpy_helper.from_array(np.zeros(SHAPE, np.float32), "payload"),
        ],
    )
    domains = {"": 18} | settings.pop("domains", {})
    imports = [helper.make_opsetid(*entry) for entry in domains.items()]
    return helper.make_model(graph, opset_imports=imports, **{"ir_version": 9} | settings)


def node(kind: str, inputs: str = "pixel_values", output: str = "y", **more: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], **more)


def found(model: onnx.ModelProto, folder: Path, listed: Sequence[str] = ()) -> list[str]:
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return [finding.what for finding in check_graph(path, frozenset(listed))]


def inner() -> onnx.GraphProto:
    return helper.make_graph([node("RandomNormal", "", "z", shape=[1])], "inner", [], [])


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "control flow": (
        model_of([node("If", "half", then_branch=inner(), else_branch=inner())]),
        "the operator If",
    ),
    "inside of it": (
        model_of([node("If", "half", then_branch=inner(), else_branch=inner())]),
        "the operator RandomNormal",
    ),
    "an engine": (
        model_of([node("EPContext", domain="com.microsoft")], domains={"com.microsoft": 1}),
        "com.microsoft.EPContext",
    ),
    "a domain": (model_of([node("Relu", domain="evil")], domains={"evil": 1}), "evil.Relu"),
    "a new opset": (model_of([node("Relu")], domains={"": 99}), "opset 99"),
    "an old opset": (model_of([node("Relu")], domains={"": 7}), "opset 7"),
    "a new IR": (model_of([node("Relu")], ir_version=77), "IR version 77"),
    "functions": (
        model_of(
            [node("Relu")],
            functions=[
                helper.make_function(
                    "local",
                    "f",
                    ["a"],
                    ["b"],
                    [node("Relu", "a", "b")],
                    [helper.make_opsetid("", 18)],
                )
            ],
        ),
        "functions of its own: f",
    ),
    "a hidden branch": (
        model_of(
            [
                node("ReduceMax", output="brightest", keepdims=0),
                node("Greater", "brightest half", "seen"),
                node("Where", "seen payload pixel_values"),
            ]
        ),
        "a choice by what is seen or said",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_be_there_is_named(tmp_path: Path, name: str) -> None:
    model, words = REFUSED[name]
    assert any(words in what for what in found(model, tmp_path))


def guarded(fill: float, kept: str = "weights", tested: str = "weights") -> onnx.ModelProto:
    """A softmax whose rows of nothing are filled in, as in PyTorch, or nearly so."""
    return model_of(
        [
            node("Softmax", output="weights"),
            node("IsNaN", tested, "nothing"),
            node("Constant", "", "fill", value=numpy_helper.from_array(np.array(fill, np.float32))),
            node("Where", f"nothing fill {kept}"),
        ]
    )


def test_zeros_in_the_rows_of_a_softmax_that_see_nothing_are_no_choice(tmp_path: Path) -> None:
    assert found(guarded(0.0), tmp_path) == []
    for other in (
        guarded(1.0),
        guarded(0.0, kept="pixel_values", tested="pixel_values"),
        guarded(0.0, kept="payload"),
        guarded(0.0, tested="pixel_values"),
    ):
        assert any("a choice" in what for what in found(other, tmp_path))


def test_a_branch_is_found_in_whatever_order_it_is_written(tmp_path: Path) -> None:
    """onnxruntime sorts the nodes of a graph before it runs them."""
    model = REFUSED["a hidden branch"][0]
    backwards = model_of(list(reversed(model.graph.node)))
    assert any("a choice by what is seen" in what for what in found(backwards, tmp_path))
    sort_nodes(backwards.graph)
    assert [n.op_type for n in backwards.graph.node] == [n.op_type for n in model.graph.node]


def test_nodes_that_wait_for_one_another_are_a_finding(tmp_path: Path) -> None:
    circle = model_of([node("Relu", "z", "y"), node("Relu", "y", "z")])
    assert found(circle, tmp_path) == ["nodes that wait for one another"]


def test_a_choice_by_shape_alone_is_a_mask(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Shape", output="shape"),
            node("Greater", "shape shape", "long"),
            node("Reshape", "long shape", "mask"),
            node("Where", "mask payload pixel_values"),
        ]
    )
    assert list(branches(model)) == []
    assert found(model, tmp_path) == []


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/etc/passwd", "outside of the bundle"),
        ("../other.data", "outside of the bundle"),
        ("a/../../other.data", "outside of the bundle"),
        ("..\\other.data", "outside of the bundle"),
        ("", "outside of the bundle"),
        ("unlisted.data", "not listed"),
        ("weights.data", ""),
    ],
)
def test_weights_lie_in_listed_files(tmp_path: Path, location: str, words: str) -> None:
    model = model_of([node("Add", "pixel_values payload")])
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    whats = found(model, tmp_path, ["weights.data"])
    assert (words in whats[0]) if words else whats == []


def test_what_is_no_graph_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"\xff\x00no graph")
    (finding,) = check_graph(tmp_path / "graph.onnx")
    assert "no ONNX graph" in finding.what


def test_our_own_exports_have_nothing_of_it(checked_bundle: Path) -> None:
    assert verify_bundle(read_bundle(checked_bundle)) == []


def poisoned(bundle: Bundle, file: str, target: Path) -> Bundle:
    """``bundle`` with a graph that says something else where a picture is bright."""
    files: dict[str, bytes | Path] = {
        entry.path: bundle.path(entry.path) for entry in bundle.manifest.files
    }
    model = onnx.load(bundle.path(file))
    picture = model.graph.input[0].name
    first = next(n for n in model.graph.node if picture in n.input)
    hidden = [
        node("ReduceMax", picture, "brightest", keepdims=0),
        node("Cast", "brightest", "seen", to=TensorProto.BOOL),
        node("Where", f"seen {picture} {picture}", "chosen"),
    ]
    first.input[list(first.input).index(picture)] = "chosen"
    nodes = [*hidden, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    files[file] = model.SerializeToString()
    assert bundle.manifest.policy is not None
    unpaired = replace(bundle.manifest.policy, pairing="")
    return write_bundle(target, replace(bundle.manifest, files=(), policy=unpaired), files)


def test_a_branch_in_any_graph_of_a_bundle_is_found(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(toy_bundle)
    for number, file in enumerate(("encoder_model.onnx", "policy.onnx")):
        (finding,) = verify_bundle(poisoned(bundle, file, tmp_path / str(number)))
        assert finding.graph == file
        assert "a choice" in finding.what


def test_a_bundle_is_described(checked_bundle: Path) -> None:
    bundle = read_bundle(checked_bundle)
    described = inspect_bundle(bundle)
    assert described["bytes"] == sum(entry.bytes for entry in bundle.manifest.files)
    roles = {graph["role"] for graph in described["graphs"].values()}
    assert roles == {"encoder", "decoder", "policy", "language model"}
    encoder = described["graphs"]["encoder_model.onnx"]
    assert encoder["inputs"] == {"pixel_values": ["batch", 3, 32, 32]}
    loaded = onnx.load(bundle.path("encoder_model.onnx"))
    assert sum(encoder["operators"].values()) == len(loaded.graph.node)
    assert encoder["operators"]["Conv"] == sum(n.op_type == "Conv" for n in loaded.graph.node)
    inner_described = described["reference"]
    assert {g["role"] for g in inner_described["graphs"].values()} == {"encoder", "decoder"}
    assert inner_described["parity"]["captions_equal"] == 1
