"""Weights within graphs, or in one file that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from srd_edge.export import packing
from srd_edge.export.packing import bytes_of, pack, save_graph, weights_path

SIZE = 1024


def table(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(SIZE, SIZE)).astype(np.float32)


def graph(path: Path, *weights: np.ndarray[Any, Any]) -> Path:
    """x (1, SIZE) times each of the weights, added up; saved as graphs are while they are made."""
    names = [f"w{number}" for number in range(len(weights))]
    nodes = [helper.make_node("MatMul", ["x", name], [f"y_{name}"]) for name in names]
    nodes.append(helper.make_node("Sum", [f"y_{name}" for name in names], ["y"]))
    shape = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "g",
        [shape("x", TensorProto.FLOAT, [1, SIZE])],
        [shape("y", TensorProto.FLOAT, [1, SIZE])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save_graph(model, path)
    return path


def outside(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    return [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]


def answer(path: Path) -> np.ndarray[Any, Any]:
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)[None]
    result: np.ndarray[Any, Any] = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    return result


def test_what_nobody_shares_stays_within(tmp_path: Path) -> None:
    paths = [graph(tmp_path / "a.onnx", table(1)), graph(tmp_path / "b.onnx", table(2))]
    before = [answer(path) for path in paths]
    assert outside(paths[0]) == ["w0"], "while it is made, its weights are beside it"
    assert bytes_of(paths[0]) > 4 * SIZE**2 > paths[0].stat().st_size
    assert not pack(paths, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()
    for path, expected in zip(paths, before, strict=True):
        weights_path(path).unlink()
        assert outside(path) == []
        np.testing.assert_array_equal(answer(path), expected)


def test_what_two_graphs_hold_alike_is_stored_once(tmp_path: Path) -> None:
    paths = [
        graph(tmp_path / "a.onnx", table(1), table(2)),
        graph(tmp_path / "b.onnx", table(3), table(1)),
    ]
    before = [answer(path) for path in paths]
    shared = tmp_path / "weights.onnx_data"
    assert pack(paths, shared)
    assert shared.stat().st_size == 4 * SIZE**2
    assert [outside(path) for path in paths] == [["w0"], ["w1"]]
    for path, expected in zip(paths, before, strict=True):
        weights_path(path).unlink()
        np.testing.assert_array_equal(answer(path), expected)


def test_the_same_bytes_of_another_shape_are_other_weights(tmp_path: Path) -> None:
    flat = table(1).reshape(SIZE // 2, SIZE * 2)
    paths = [graph(tmp_path / "a.onnx", table(1)), tmp_path / "b.onnx"]
    made = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(flat.shape))],
        [numpy_helper.from_array(flat, "w")],
    )
    save_graph(helper.make_model(made), paths[1])
    assert not pack(paths, tmp_path / "shared")


def test_a_graph_that_is_too_large_holds_its_weights_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGEST_GRAPH", 6 * SIZE**2)
    paths = [
        graph(tmp_path / "a.onnx", table(1), table(2)),
        graph(tmp_path / "b.onnx", table(3)),
    ]
    before = [answer(path) for path in paths]
    assert pack(paths, tmp_path / "shared")
    assert [outside(path) for path in paths] == [["w0", "w1"], []]
    for path, expected in zip(paths, before, strict=True):
        weights_path(path).unlink()
        np.testing.assert_array_equal(answer(path), expected)


def test_a_graph_saved_twice_has_its_weights_once(tmp_path: Path) -> None:
    size = bytes_of(graph(tmp_path / "a.onnx", table(1)))
    assert bytes_of(graph(tmp_path / "a.onnx", table(1))) == size
