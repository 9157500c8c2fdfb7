"""Calls of an engine that are bound once and recorded: they own what they read and write."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.runtime.engine_graph import EngineGraph
from srd_edge.runtime.engines import Engine
from srd_edge.runtime.gpu_memory import Gpu, GpuValue
from tests.fake_cuda import Fault
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
