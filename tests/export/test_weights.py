"""Weights in few bits: the graph computes what the stored values say, and stores them once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from srd_edge.export.packing import pack
from srd_edge.export.weights import BLOCK, Bits, quantise_weights, quantised
from srd_edge.runtime.sessions import open_session

WORDS, INNER, WIDE = 90, 72, 130  # neither is a multiple of the block


def restored(weights: NDArray[np.float32], bits: Bits) -> NDArray[np.float32]:
    """(N, K) as stored, value by value."""
    levels, scales = quantised(weights, bits)
    result = np.empty_like(weights)
    for (row, column), _ in np.ndenumerate(weights):
        block, place = divmod(column, BLOCK)
        if bits == 8:
            level = int(levels[row, block, place])
        else:
            level = int(levels[row, block, place // 2]) >> (4 * (place % 2)) & 15
        result[row, column] = (level - 2 ** (bits - 1)) * scales[row, block]
    return result


@pytest.mark.parametrize(("bits", "levels"), [(8, 127), (4, 7)])
def test_values_are_within_half_a_level(bits: Bits, levels: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(13, 70)).astype(np.float32)
    weights[3] = 0
    found = restored(weights, bits)
    assert not found[3].any()
    for start in range(0, 70, BLOCK):
        block = slice(start, min(start + BLOCK, 70))
        level = np.abs(weights[:, block]).max(axis=1, keepdims=True) / (levels + 1)
        # The end of the range that has one level less may be cut off by it.
        assert (np.abs(found[:, block] - weights[:, block]) <= level * 1.001).all()
        near = np.abs(weights[:, block]) <= level * levels
        error = np.abs(found[:, block] - weights[:, block])
        assert (error[near] <= (level / 2 * 1.001).repeat(error.shape[1], 1)[near]).all()


def small_decoder(path: Path) -> dict[str, NDArray[np.float32]]:
    """Embedding, Gemm (K, N), Gemm (N, K), MatMul, and a head shared with the embedding."""
    rng = np.random.default_rng(1)
    weights = {
        name: rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5
        for name, shape in {
            "table": (WORDS, INNER),
            "up": (INNER, WIDE),
            "up_bias": (WIDE,),
            "down": (INNER, WIDE),
            "down_bias": (INNER,),
            "mix": (INNER, INNER),
        }.items()
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Reshape", ["embedded", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "up", "up_bias"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["kept"]),
        helper.make_node("Gemm", ["kept", "down", "down_bias"], ["narrow"], transB=1),
        helper.make_node("MatMul", ["narrow", "mix"], ["mixed"]),
        helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        helper.make_node("MatMul", ["mixed", "head"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([-1, INNER], np.int64), "flat"))
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", WORDS])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return weights


@pytest.mark.parametrize("bits", [8, 4])
def test_the_graph_computes_with_the_stored_values(tmp_path: Path, bits: Bits) -> None:
    weights = small_decoder(tmp_path / "fp32.onnx")
    quantise_weights(tmp_path / "fp32.onnx", tmp_path / "small.onnx", bits)
    table = restored(weights["table"], 8)
    up = restored(weights["up"].T.copy(), bits).T
    down, mix = restored(weights["down"], bits), restored(weights["mix"].T.copy(), bits).T
    ids = np.array([[3, 0, 89, 41]], np.int64)
    wide = np.maximum(table[ids[0]] @ up + weights["up_bias"], 0)
    expected = (wide @ down.T + weights["down_bias"]) @ mix @ table.T
    found = open_session(tmp_path / "small.onnx", "cpu").session.run(None, {"ids": ids})[0]
    # Activations are rounded to 8 bits inside the products.
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_an_embedding_that_the_head_shares_is_stored_once_in_8_bits(tmp_path: Path) -> None:
    weights = small_decoder(tmp_path / "fp32.onnx")
    quantise_weights(tmp_path / "fp32.onnx", tmp_path / "small.onnx", 4)
    model = onnx.load(tmp_path / "small.onnx")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    assert not set(tensors) & {"table", "up", "down", "mix"}
    blocks = -(-INNER // BLOCK)
    sizes = {name: numpy_helper.to_array(tensor).nbytes for name, tensor in tensors.items()}
    assert sizes["table_q8"] == WORDS * blocks * BLOCK
    assert sum(size for name, size in sizes.items() if name.startswith("table")) < (
        0.42 * weights["table"].nbytes
    )
    types = [node.op_type for node in model.graph.node]
    assert types.count("MatMulNBits") == 4
    assert "Transpose" not in types
    bits = {
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    assert bits == {4, 8}


def test_what_is_small_or_not_constant_stays(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "small"], ["y"]),
            helper.make_node("MatMul", ["y", "other"], ["z"]),
            helper.make_node("Gemm", ["z", "large"], ["logits"], transA=1),
        ],
        "g",
        [value("x", TensorProto.FLOAT, [8, 8]), value("other", TensorProto.FLOAT, [8, 8])],
        [value("logits", TensorProto.FLOAT, [8, 800])],
        [
            numpy_helper.from_array(np.eye(8, dtype=np.float32), "small"),
            numpy_helper.from_array(np.ones((8, 800), np.float32), "large"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "fp32.onnx")
    quantise_weights(tmp_path / "fp32.onnx", tmp_path / "same.onnx", 8)
    feed: dict[str, Any] = {name: np.eye(8, dtype=np.float32) for name in ("x", "other")}
    runs = [
        open_session(tmp_path / name, "cpu").session.run(None, feed)[0]
        for name in ("fp32.onnx", "same.onnx")
    ]
    np.testing.assert_array_equal(*runs)
    types = [node.op_type for node in onnx.load(tmp_path / "same.onnx").graph.node]
    assert types == ["MatMul", "MatMul", "Gemm"]


def alone(
    path: Path, node: onnx.NodeProto, table: NDArray[np.float32], shapes: list[list[str | int]]
) -> Path:
    """A graph of one node and its table, with the shapes of what it takes and gives."""
    gathers = node.op_type == "Gather"
    kind = TensorProto.INT64 if gathers else TensorProto.FLOAT
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(node.input[gathers], kind, shapes[0])],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("bits", [8, 4])
def test_an_embedding_and_a_head_in_two_graphs_are_stored_once(tmp_path: Path, bits: Bits) -> None:
    table = np.random.default_rng(2).normal(size=(9000, 128)).astype(np.float32)
    gather = helper.make_node("Gather", ["table", "input_ids"], ["inputs_embeds"])
    head = helper.make_node("Gemm", ["hidden", "table"], ["logits"], transB=1)
    graphs = {
        "embed_tokens": alone(tmp_path / "e.onnx", gather, table, [["b", "s"], ["b", "s", 128]]),
        "decoder": alone(tmp_path / "d.onnx", head, table, [["b", 128], ["b", 9000]]),
    }
    folder = tmp_path / "bundle"
    folder.mkdir()
    files = [folder / f"{name}.onnx" for name in graphs]
    for source, target in zip(graphs.values(), files, strict=True):
        quantise_weights(source, target, bits)
    shared = folder / "weights.onnx_data"
    assert pack(files, shared)
    levels, scales = quantised(table, 8)
    assert levels.nbytes + scales.nbytes <= shared.stat().st_size < 1.01 * levels.nbytes * 1.125
    ids = np.array([[3, 8999], [0, 3]])
    embedded = open_session(files[0], "cpu").session.run(None, {"input_ids": ids})[0]
    np.testing.assert_allclose(embedded, restored(table[ids.ravel()], 8).reshape(2, 2, 128), 1e-6)
