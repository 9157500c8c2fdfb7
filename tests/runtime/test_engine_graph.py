"""Engines as graphs: the same numbers as onnxruntime's, and every wrong use of one an error.

The engines are those of `tests/fake_tensorrt.py`: the graph itself, run from and to addresses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import BundleError, RunError, ShapeError
from srd_edge.runtime.engine_graph import ENGINE_DTYPES, EngineGraph
from srd_edge.runtime.engines import Engine
from srd_edge.runtime.gpu_memory import Gpu
from srd_edge.runtime.graphs import OnnxGraph, host_value
from srd_edge.runtime.sessions import open_session
from tests import fake_tensorrt
from tests.runtime.small_engine import arrays, graph_value, open_engine, values, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def opened(fake_gpu: Any, model: Path) -> Engine:
    return open_engine(fake_gpu, model)


@pytest.fixture
def graph(fake_gpu: Any, opened: Engine) -> EngineGraph:
    return EngineGraph(opened, Gpu(fake_gpu.cuda), "model.onnx")


@pytest.mark.parametrize(("batch", "n"), [(2, 3), (4, 8), (1, 1)])
def test_an_engine_gives_what_onnxruntime_gives(
    graph: EngineGraph, model: Path, batch: int, n: int
) -> None:
    feed = arrays(batch, n)
    cpu = OnnxGraph(open_session(model, "cpu"))
    assert (graph.types, graph.provider, graph.fallback) == (cpu.types, "tensorrt", None)
    assert graph.widths == {"y": 0, "most": 0}
    assert graph.layers == 5
    held = {name: graph_value(array) for name, array in feed.items()}
    for name in (["y", "most"], ["most", "y"], ["most"]):
        found = [value.numpy() for value in graph.run(name, held)]
        for one, other in zip(found, cpu.run(name, held), strict=True):
            assert (one.shape, one.dtype) == (other.numpy().shape, other.numpy().dtype)
            np.testing.assert_array_equal(one, other.numpy())


def test_what_a_run_gives_nothing_else_writes_to(graph: EngineGraph) -> None:
    first, second = (graph.run(["y"], values(start=np.array(n)))[0] for n in (5, 6))
    assert not np.array_equal(first.numpy(), second.numpy())
    (again,) = graph.run(["y"], values())
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    assert graph.bring(first) is first
    np.testing.assert_array_equal(graph.bring(host_value(np.arange(3))).numpy(), [0, 1, 2])


def test_all_of_it_goes_back(fake_gpu: Any, opened: Engine) -> None:
    cuda = fake_gpu.cuda
    graph = EngineGraph(opened, Gpu(cuda), "model.onnx")
    places = {name: graph.room(array.shape, array.dtype) for name, array in arrays().items()}
    call = graph.bind(places, {}, again=True)
    for _ in range(3):
        call()
    (kept,) = graph.run(["y"], values())
    assert (len(fake_gpu.contexts), len(cuda.recordings)) == (2, 1)
    del call
    assert [context() is None for context in fake_gpu.contexts] == [False, True]
    assert not cuda.recordings
    del graph, places
    assert fake_gpu.contexts[0]() is None
    assert cuda.blocks, "a value is left"
    del kept
    assert (cuda.blocks, cuda.streams) == ({}, {})


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"x": np.zeros((5, 3), np.float16)}, RunError, r"was built for, found x \(5, 3\)"),
        ({"x": np.zeros((0, 3), np.float16)}, RunError, r"was built for, found x \(0, 3\)"),
        ({"x": np.zeros((2, 3, 1), np.float16)}, RunError, r"found x \(2, 3, 1\)"),
        ({"start": np.zeros(1, np.int64)}, RunError, r"found start \(1,\)"),
        ({"x": np.zeros((2, 3), np.float32)}, ShapeError, "x of model.onnx as float16, found floa"),
        ({"start": np.array(5, np.int32)}, ShapeError, "start of model.onnx as int64, found int32"),
        ({"y": np.array(5)}, RunError, "to be fed x, keep, start, found x, keep, start, y"),
    ],
)
def test_what_an_engine_does_not_take_is_one_line(
    graph: EngineGraph, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        graph.run(["y"], values(**more))
    assert "\n" not in str(caught.value)
    graph.run(["y"], values())


def test_an_input_that_is_left_out_is_said(graph: EngineGraph) -> None:
    for left in (["x"], []):
        with pytest.raises(RunError, match=f"start, found {', '.join(left) or 'nothing'}: use"):
            graph.run(["y"], {name: values()[name] for name in left})


def test_room_of_another_shape_or_type_is_not_written_to(graph: EngineGraph) -> None:
    places = {name: graph.room(array.shape, array.dtype) for name, array in arrays().items()}
    with pytest.raises(RunError, match=r"to write y \(2, 3\), found room for \(3, 2\)"):
        graph.bind(places, {"y": graph.room((3, 2), np.float16)}, again=True)
    with pytest.raises(ShapeError, match=r"y of model\.onnx as float16, found float32"):
        graph.bind(places, {"y": graph.room((2, 3), np.float32)}, again=False)()


def test_an_engine_that_does_not_run_is_one_line(graph: EngineGraph, fake_gpu: Any) -> None:
    fake_gpu.refuses = "run"
    with pytest.raises(RunError, match=r"engine of model\.onnx to run, found an error") as caught:
        graph.run(["y"], values())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tensor", ["start", "y"])
def test_an_engine_that_looks_on_the_host_is_left_to_others(
    fake_gpu: Any, opened: Engine, tensor: str
) -> None:
    fake_gpu.on_host = (tensor,)
    with pytest.raises(BundleError, match=f"{tensor}, on which shapes depend"):
        EngineGraph(opened, Gpu(fake_gpu.cuda), "model.onnx")


def test_a_type_that_is_not_known_here(
    fake_gpu: Any, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_tensorrt.TYPES, "tensor(bool)", ("BF16", np.bool_))
    with pytest.raises(BundleError, match="keep of type BF16"):
        EngineGraph(opened, Gpu(fake_gpu.cuda), "model.onnx")


def test_an_output_whose_shape_nobody_knows(
    graph: EngineGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_tensorrt.Engine, "shapes", lambda *_: {"y": (2, -1), "most": ()})
    with pytest.raises(RunError, match=r"what shapes its outputs have, found y \(2, -1\)"):
        graph.run(["most"], values())


def test_no_memory_to_run_in(fake_gpu: Any, opened: Engine) -> None:
    fake_gpu.refuses = "context"
    with pytest.raises(RunError, match="memory that it runs in"):
        EngineGraph(opened, Gpu(fake_gpu.cuda), "model.onnx")


@pytest.mark.parametrize("version", ["tensorrt_10_16", "tensorrt_11_4"])
def test_the_names_of_types_places_and_ways_are_tensorrts(recorded: Any, version: str) -> None:
    classes = recorded(version)["classes"]
    assert set(ENGINE_DTYPES) <= set(classes["DataType"])
    assert {"INPUT", "OUTPUT"} <= set(classes["TensorIOMode"])
    assert {"DEVICE", "HOST"} <= set(classes["TensorLocation"])
