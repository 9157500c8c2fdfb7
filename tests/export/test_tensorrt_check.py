"""What TensorRT refuses in a graph is named, one line a reason; our exports hold nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from srd_edge.export.graph_check import OPERATORS
from srd_edge.export.graphs import OPSET
from srd_edge.export.tensorrt_check import OPSETS, PARSED, check_for_tensorrt, empty_past
from srd_edge.runtime.bundle import BUILT_IN, read_bundle

SHAPE: list[str | int | None] = ["batch", 3, "past", 4]


def graph(folder: Path, *nodes: onnx.NodeProto, opset: int = 18, **weights: Any) -> Path:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, SHAPE)],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    path = folder / "graph.onnx"
    onnx.save(helper.make_model(body, opset_imports=opsets), path)
    return path


def node(kind: str, inputs: str = "x", output: str = "y", **more: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **more)


def found(path: Path) -> list[str]:
    return [finding.what for finding in check_for_tensorrt(path)]


def branch() -> onnx.GraphProto:
    return helper.make_graph([node("NonZero", "x", "z")], "inner", [], [])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Loop", "control flow"),
        ("Scan", "control flow"),
        ("NonZero", "as long as the values say"),
        ("Unique", "as long as the values say"),
        ("Compress", "as long as the values say"),
        ("NonMaxSuppression", "as long as the values say"),
        ("DynamicQuantizeLinear", "int8"),
        ("MatMulInteger", "int8"),
        ("ConvInteger", "int8"),
        ("BitShift", "does not document"),
        ("BitwiseAnd", "does not document"),
        ("Swish", "does not document"),
    ],
)
def test_an_operator_that_is_refused(tmp_path: Path, kind: str, words: str) -> None:
    (what,) = found(graph(tmp_path, node(kind)))
    assert what.startswith(f"{kind}, ")
    assert words in what


@pytest.mark.parametrize("kind", ["MatMulNBits", "MultiHeadAttention", "EPContext"])
def test_operators_of_others_are_refused(tmp_path: Path, kind: str) -> None:
    (what,) = found(graph(tmp_path, node(kind, domain="com.microsoft")))
    assert what.startswith(f"com.microsoft.{kind}, ")


def test_what_is_inside_of_a_branch_is_found_too(tmp_path: Path) -> None:
    path = graph(tmp_path, node("If", "c", then_branch=branch(), else_branch=branch()), c=True)
    control, inner = found(path)
    assert control.startswith("If, control flow")
    assert inner.startswith("NonZero, ")


@pytest.mark.parametrize(("opset", "refused"), [(8, True), (9, False), (24, False), (25, True)])
def test_opsets(tmp_path: Path, opset: int, refused: bool) -> None:
    whats = found(graph(tmp_path, node("Relu"), opset=opset))
    assert whats == ([f"opset {opset}, not 9 to 24"] if refused else [])


def test_our_opset_is_parsed_by_the_oldest_target() -> None:
    assert OPSET in OPSETS
    assert OPSET < 20


@pytest.mark.parametrize(
    ("zero", "refused"),
    [(np.int8(0), False), (np.int8(3), True), (np.uint8(0), True), (np.zeros(3, np.int8), False)],
)
def test_quantisation_is_symmetric(tmp_path: Path, zero: Any, refused: bool) -> None:
    scale, quantise = np.float32(1), node("QuantizeLinear", "x scale zero", "q")
    path = graph(
        tmp_path, quantise, node("DequantizeLinear", "q scale zero"), scale=scale, zero=zero
    )
    assert len(found(path)) == 2 * refused
    assert all("zero point other than 0" in what for what in found(path))


def test_a_zero_point_that_is_computed_is_refused(tmp_path: Path) -> None:
    (what,) = found(graph(tmp_path, node("QuantizeLinear", "x x x")))
    assert what == "QuantizeLinear with a zero point that is no constant"


def test_one_reason_is_one_finding(tmp_path: Path) -> None:
    path = graph(tmp_path, node("NonZero", output="a"), node("NonZero", output="y"))
    assert len(found(path)) == 1


def test_a_past_may_be_empty(tmp_path: Path) -> None:
    reason = empty_past(graph(tmp_path, node("Relu")))
    assert reason is not None
    assert reason.startswith("x and others may have length 0")
    assert empty_past(BUILT_IN / "encoder_model_int8.onnx") is None


def test_parsed_operators_are_onnxs(tmp_path: Path) -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert sorted(PARSED - known) == []
    # What our own check allows and TensorRT does not is known by name.
    assert sorted(OPERATORS[""] - PARSED) == [
        *("BitShift", "BitwiseAnd", "BitwiseOr", "ConvInteger", "DynamicQuantizeLinear"),
        *("MatMulInteger", "NonZero", "QLinearConv", "QLinearMatMul", "Swish"),
    ]


def test_our_fp32_export_is_taken_and_our_int8_ones_are_not(toy_bundle: Path) -> None:
    for entry in read_bundle(toy_bundle).manifest.files:
        if entry.path.endswith(".onnx"):
            assert found(toy_bundle / entry.path) == []
    assert any(
        "com.microsoft.MatMulNBits" in w for w in found(BUILT_IN / "decoder_model_int8.onnx")
    )
    assert any("zero point" in w for w in found(BUILT_IN / "encoder_model_int8.onnx"))
