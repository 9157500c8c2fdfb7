"""Graphs behind the seam: real ones on the CPU, a stand-in for a session on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from srd_edge.runtime.graphs import RECORDING_KEY, OnnxGraph, host_value
from srd_edge.runtime.sessions import RECORDING, Session, open_session

X = np.array([[1, -2, 3]], np.float32)


@pytest.fixture
def doubling() -> bytes:
    """y = x + x of (rows, 3), and z = x transposed, of a width that varies."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 3]) for n in "xy")
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, "rows"])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"]),
        helper.make_node("Transpose", ["x"], ["z"]),
    ]
    body = helper.make_graph(nodes, "graph", [x], [y, z])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_what_a_graph_takes_and_how_wide_its_outputs_are(doubling: bytes) -> None:
    graph = OnnxGraph(open_session(doubling, "cpu"))
    assert dict(graph.types) == {"x": np.float32}
    assert dict(graph.widths) == {"y": 3, "z": 0}
    y, z = graph.run(["y", "z"], {"x": host_value(X)})
    np.testing.assert_array_equal(y.numpy(), 2 * X)
    np.testing.assert_array_equal(z.numpy(), X.T)


@pytest.mark.parametrize("again", [False, True])
def test_a_bound_call_reads_and_writes_the_same_places(doubling: bytes, again: bool) -> None:
    graph = OnnxGraph(open_session(doubling, "cpu"))
    x, y = graph.room((2, 3), np.float32), graph.room((2, 3), np.float32)
    call = graph.bind({"x": x}, {"y": y}, again=again)
    for factor in (1, 5):
        rows = factor * np.concatenate([X, X + 1])
        x.update_inplace(rows)
        call()
        np.testing.assert_array_equal(y.numpy(), 2 * rows)
    x.update_inplace(host_value(np.zeros((2, 3), np.float32)))
    call()
    assert not y.numpy().any()


class Bindings:
    """A session on a GPU, as far as its bindings go."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.keys: list[str | None] = []

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", type="tensor(float16)", shape=["rows", 3])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y", type="tensor(float)", shape=["rows", 3])]

    def io_binding(self) -> Any:
        return SimpleNamespace(
            bind_ortvalue_input=self.inputs.__setitem__,
            bind_ortvalue_output=self.outputs.__setitem__,
            bind_output=self.outputs.__setitem__,
            get_outputs=lambda: list(self.outputs.values()),
        )

    def run_with_iobinding(self, _: Any, options: Any) -> None:
        self.keys.append(options and options.get_run_config_entry(RECORDING_KEY))


def test_on_a_gpu_outputs_stay_there() -> None:
    bindings = Bindings()
    graph = OnnxGraph(Session(bindings, "cuda"))
    x = host_value(X)
    assert graph.run(["y"], {"x": x}) == ["cuda"]
    assert bindings.inputs == {"x": x}
    assert bindings.keys == [None]
    assert dict(graph.types) == {"x": np.float16}


def test_each_call_that_is_made_again_has_a_recording_of_its_own() -> None:
    bindings = Bindings()
    graph = OnnxGraph(Session(bindings, "cuda", records=True))
    x, y = host_value(X), host_value(X)
    calls: list[Callable[[], None]] = [
        graph.bind({"x": x}, {"y": y}, again=again) for again in (True, False, True)
    ]
    for call in (*calls, calls[0]):
        call()
    graph.run(["y"], {"x": x})
    assert bindings.keys == ["1", "-1", "2", "1", "-1"]


def unknown(read: dict[str, Any], options: list[str], keys: list[str]) -> list[str]:
    return sorted(({*options} - {*read["cuda_options"]}) | ({*keys} - {*read["run_keys"]}))


def test_recording_is_asked_for_by_names_that_the_library_has(recorded: Any) -> None:
    read = recorded("onnxruntime_gpu_1_31_1")
    assert unknown(read, list(RECORDING), [RECORDING_KEY]) == []
    assert unknown(read, ["enable_cuda_graphs"], ["gpu_graph"]) == [
        "enable_cuda_graphs",
        "gpu_graph",
    ]
