"""Engines as graphs: the same numbers as onnxruntime's, and every wrong use of one an error.

The engines are those of `tests/fake_tensorrt.py`: the graph itself, run from and to addresses.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from srd_edge.errors import BundleError, RunError, ShapeError
from srd_edge.runtime.engine_graph import ENGINE_DTYPES, EngineGraph
from srd_edge.runtime.engines import Engine
from srd_edge.runtime.gpu_memory import Gpu, GpuValue
from srd_edge.runtime.graphs import OnnxGraph, host_value
from srd_edge.runtime.sessions import open_session
from tests import fake_tensorrt
from tests.fake_cuda import Fault

FLOAT, HALF, LONG, BOOL = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16),
    *(TensorProto.INT64, TensorProto.BOOL),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``y`` (B, N) float16 is ``x`` where ``keep``, plus ``start``; ``most`` () is its largest."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Cast", ["start"], ["begin"], to=HALF),
            helper.make_node("Where", ["keep", "x", "begin"], ["kept"]),
            helper.make_node("Add", ["kept", "begin"], ["y"]),
            helper.make_node("Cast", ["y"], ["wide"], to=FLOAT),
            helper.make_node("ReduceMax", ["wide"], ["most"], keepdims=0),
        ],
        "g",
        [
            value("x", HALF, ["batch", "n"]),
            value("keep", BOOL, ["batch", "n"]),
            value("start", LONG, []),
        ],
        [value("y", HALF, ["batch", "n"]), value("most", FLOAT, [])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


PROFILE = {name: ([1, 1], [2, 3], [4, 8]) for name in ("x", "keep")}


@pytest.fixture
def opened(fake_gpu: Any, model: Path) -> Engine:
    logger = fake_gpu.Logger("error")
    runtime = fake_tensorrt.Runtime(fake_gpu, logger)
    engine: Any = fake_tensorrt.Engine(runtime, {"model": str(model), "profile": PROFILE})
    return Engine(engine, runtime, logger)


@pytest.fixture
def graph(fake_gpu: Any, opened: Engine) -> EngineGraph:
    return EngineGraph(opened, Gpu(fake_gpu.cuda), "model.onnx")


def arrays(batch: int = 2, n: int = 3, start: int = 5) -> dict[str, Any]:
    random = np.random.default_rng(batch * n)
    return {
        "x": random.normal(size=(batch, n)).astype(np.float16),
        "keep": random.integers(0, 2, (batch, n)).astype(np.bool_),
        "start": np.array(start),
    }


def values(**more: Any) -> dict[str, Any]:
    return {name: graph_value(array) for name, array in (arrays() | more).items()}


def graph_value(array: Any) -> Any:
    """As a value of the host, whose numbers without axes keep none."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.array(array))


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


def test_a_bound_call_reads_and_writes_where_it_was_told_to(graph: EngineGraph) -> None:
    places = {name: graph.room(array.shape, array.dtype) for name, array in arrays().items()}
    y = graph.room((2, 3), np.float16)
    for again in (False, True):
        call = graph.bind(places, {"y": y}, again=again)
        for start in (5, 6, 7):
            for name, array in arrays(start=start).items():
                places[name].update_inplace(array)
            call()
            (expected,) = graph.run(["y"], values(start=np.array(start)))
            np.testing.assert_array_equal(y.numpy(), expected.numpy())


def test_a_recording_owns_all_that_it_reads_and_writes(graph: EngineGraph, fake_gpu: Any) -> None:
    places = {name: graph.room(array.shape, array.dtype) for name, array in arrays().items()}
    for name, array in arrays().items():
        places[name].update_inplace(array)
    y = graph.room((2, 3), np.float16)
    call = graph.bind(places, {"y": y}, again=True)
    (expected,) = graph.run(["y"], values())
    call()
    taken = fake_gpu.cuda.calls["cudaMalloc"]
    del places, graph
    gc.collect()
    others = [GpuValue(y.gpu, (2, 3), np.float16) for _ in range(20)]
    for other in others:
        other.update_inplace(np.full((2, 3), 3, np.float16))
    assert fake_gpu.cuda.calls["cudaMalloc"] > taken
    y.update_inplace(np.zeros((2, 3), np.float16))
    call()
    assert fake_gpu.cuda.calls["cudaGraphLaunch"] == 1
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    assert all((other.numpy() == 3).all() for other in others)


def test_recordings_of_several_shapes_live_side_by_side(graph: EngineGraph) -> None:
    calls = {}
    for batch, n in ((2, 3), (1, 8), (4, 2)):
        feed = arrays(batch, n)
        places = {name: graph.room(array.shape, array.dtype) for name, array in feed.items()}
        for name, array in feed.items():
            places[name].update_inplace(array)
        most = graph.room((), np.float32)
        calls[batch, n] = graph.bind(places, {"most": most}, again=True), most
    for _ in range(3):
        for (batch, n), (call, most) in calls.items():
            call()
            feed = {name: graph_value(array) for name, array in arrays(batch, n).items()}
            np.testing.assert_array_equal(most.numpy(), graph.run(["most"], feed)[0].numpy())


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


def test_an_engine_that_cannot_be_recorded_is_called_every_time(
    graph: EngineGraph, fake_gpu: Any
) -> None:
    fake_gpu.refuses = "record"
    places = {name: graph.room(array.shape, array.dtype) for name, array in arrays().items()}
    y = graph.room((2, 3), np.float16)
    call = graph.bind(places, {"y": y}, again=True)
    for start in (5, 6, 7):
        places["start"].update_inplace(np.array(start))
        call()
        assert y.numpy()[0, 0] == 2 * start
    assert "cudaGraphLaunch" not in fake_gpu.cuda.calls


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


def shape(context: Any, *lengths: int) -> None:
    assert all(context.set_input_shape(name, lengths) for name in ("x", "keep"))


def test_the_stand_in_refuses_what_a_gpu_would_not_survive(fake_gpu: Any, opened: Engine) -> None:
    gpu = Gpu(fake_gpu.cuda)
    stream = int(gpu.stream)
    context: Any = opened.engine.create_execution_context()
    assert not context.execute_async_v3(stream), "nothing is set"
    feed = {name: GpuValue(gpu, array.shape, array.dtype) for name, array in arrays().items()}
    for name, value in feed.items():
        assert context.set_input_shape(name, value.shape())
        context.set_tensor_address(name, value.address)
    assert not context.set_input_shape("x", (5, 3))
    assert not context.execute_async_v3(stream), "the outputs have no places"
    context.set_tensor_address("most", feed["x"].address)
    context.set_tensor_address("y", 12345)
    assert context.execute_async_v3(stream)
    with pytest.raises(Fault, match="illegal address"):
        gpu.synchronise()
    context.set_tensor_address("y", feed["x"].address)
    mode = fake_gpu.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
    shape(context, 2, 1)
    fake_gpu.cuda.cudaStreamBeginCapture(gpu.stream, mode)
    with pytest.raises(Fault, match="recorded before it was called"):
        context.execute_async_v3(stream)
    shape(context, 2, 3)
    assert context.execute_async_v3(stream)
    _, recorded = fake_gpu.cuda.cudaStreamEndCapture(gpu.stream)
    _, executable = fake_gpu.cuda.cudaGraphInstantiate(recorded, 0)
    shape(context, 2, 1)
    assert context.execute_async_v3(stream)
    gpu.synchronise()
    fake_gpu.cuda.cudaGraphLaunch(executable, gpu.stream)
    with pytest.raises(Fault, match="other shapes"):
        gpu.synchronise()
    del context
    fake_gpu.cuda.cudaGraphLaunch(executable, gpu.stream)
    with pytest.raises(Fault, match="context is gone"):
        gpu.synchronise()
