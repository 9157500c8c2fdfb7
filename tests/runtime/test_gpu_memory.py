"""Values in a GPU's memory, on a stand-in whose streams do nothing until they are waited for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import ProviderError, RunError, ShapeError
from srd_edge.runtime.gpu_memory import Gpu, GpuValue, open_gpu
from srd_edge.runtime.gpu_recording import Recording
from srd_edge.runtime.graphs import host_value
from tests.fake_cuda import FakeCuda, Fault


@pytest.fixture
def cuda() -> Any:
    return FakeCuda()


@pytest.fixture
def gpu(cuda: Any) -> Gpu:
    return open_gpu(cuda)


def put(gpu: Gpu, array: np.ndarray[Any, Any]) -> GpuValue:
    value = GpuValue(gpu, array.shape, array.dtype)
    value.update_inplace(array)
    return value


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4), (2, 0, 4), (1000,)])
def test_what_is_put_there_comes_back(gpu: Gpu, dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    value = put(gpu, array)
    found = value.numpy()
    assert (found.shape, found.dtype) == (shape, np.dtype(dtype)) == (value.shape(), value.dtype)
    np.testing.assert_array_equal(found, array)


def test_an_array_may_be_changed_at_once(gpu: Gpu) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    value = put(gpu, array)
    array[:] = 0
    np.testing.assert_array_equal(value.numpy(), [[0, 3], [1, 4], [2, 5]])


def test_a_value_is_overwritten_by_values_of_all_devices(gpu: Gpu) -> None:
    value = put(gpu, np.zeros(3, np.int64))
    value.update_inplace(put(gpu, np.arange(3)))
    np.testing.assert_array_equal(value.numpy(), [0, 1, 2])
    value.update_inplace(host_value(np.arange(3, 6)))
    np.testing.assert_array_equal(value.numpy(), [3, 4, 5])
    value.update_inplace(put(Gpu(FakeCuda()), np.arange(6, 9)))
    np.testing.assert_array_equal(value.numpy(), [6, 7, 8])


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((1, 3), np.int64)])
def test_another_shape_or_type_is_refused(gpu: Gpu, array: np.ndarray[Any, Any]) -> None:
    value = put(gpu, np.zeros(3, np.int64))
    for data in (array, host_value(array), put(gpu, array)):
        with pytest.raises(ShapeError, match=r"\(3,\) int64"):
            value.update_inplace(data)


def test_memory_is_used_again_and_goes_back_in_the_end(cuda: Any) -> None:
    gpu = open_gpu(cuda)
    assert open_gpu(cuda) is gpu
    for number in range(9):
        value = put(gpu, np.full(7, number))
        assert value.numpy()[0] == number
    assert cuda.calls["cudaMalloc"] == 2  # the new value is there before the old one is dropped
    assert value.gpu is gpu
    del gpu
    assert len(cuda.blocks) == 2
    del value
    gc.collect()
    assert (cuda.blocks, cuda.streams) == ({}, {})
    assert open_gpu(cuda).stream is not None


def test_a_dropped_value_is_read_before_its_memory_is_another_ones(gpu: Gpu, cuda: Any) -> None:
    first, copy = put(gpu, np.arange(4)), put(gpu, np.zeros(4, np.int64))
    copy.update_inplace(first)
    place = first.address
    del first
    second = put(gpu, np.full(4, 9))
    assert second.address == place
    np.testing.assert_array_equal(copy.numpy(), np.arange(4))
    assert cuda.calls["cudaMalloc"] == 2


def test_what_lies_spare_is_given_up_for_what_is_needed() -> None:
    cuda = FakeCuda(most_bytes=4096)
    gpu = Gpu(cuda)
    kept, dropped = put(gpu, np.zeros(1)), put(gpu, np.zeros(256))
    del dropped
    large = put(gpu, np.ones(400))
    assert large.numpy().all()
    assert kept.numpy() == 0
    with pytest.raises(RunError, match=r"find 8192 bytes on the GPU, found cudaErrorMemory") as no:
        put(gpu, np.zeros(1024))
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("refused", "words", "use"),
    [
        ("cudaMalloc", "find 512 bytes", lambda value: put(value.gpu, np.zeros(1))),
        ("cudaMemcpyAsync", "copy 8 bytes", lambda value: value.numpy()),
        ("cudaMemsetAsync", "clear 8 bytes", lambda value: value.gpu.clear(value.address, 8)),
        ("cudaStreamSynchronize", "finish what", lambda value: value.numpy()),
        ("cudaStreamCreateWithFlags", "make a stream", lambda value: Gpu(value.gpu.cuda)),
    ],
)
def test_what_cuda_refuses_is_one_line(
    gpu: Gpu, cuda: Any, refused: str, words: str, use: Callable[[GpuValue], object]
) -> None:
    value = put(gpu, np.zeros(1))
    cuda.refuses[refused] = cuda.cudaError_t.cudaErrorIllegalAddress
    error = ProviderError if refused == "cudaStreamCreateWithFlags" else RunError
    with pytest.raises(error, match=f"CUDA to {words}.* found cudaErrorIllegalAddress") as caught:
        use(value)
    assert "\n" not in str(caught.value)
    cuda.refuses.clear()


def test_the_stand_in_finds_memory_that_is_not_ones_own(gpu: Gpu, cuda: Any) -> None:
    value = put(gpu, np.zeros(64))
    gpu.copy(value.address, value.address, 513)
    with pytest.raises(Fault, match="illegal address"):
        gpu.synchronise()
    place = value.address
    cuda.cudaFree(place)
    with pytest.raises(Fault, match="illegal address"):
        value.numpy()
    cuda.blocks[place] = b"x" * 512  # or it would be freed a second time


class Adding:
    """Adds ``more`` to a total, each time that the stream comes to it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.total, self.made = gpu, 0, 0
        self.more = 1

    def __call__(self) -> None:
        self.made += 1
        stream: Any = self.gpu.stream
        stream.push(self.add)

    def add(self) -> None:
        self.total += self.more


def test_a_call_is_made_once_and_then_played(gpu: Gpu, cuda: Any) -> None:
    call = Adding(gpu)
    recording = Recording(gpu, call)
    assert call.made == 0
    for times in range(1, 6):
        recording()
        assert call.total == times
        assert call.made == 2, "once as it is, once for the recording"
    assert cuda.calls["cudaGraphLaunch"] == 4
    assert len(cuda.recordings) == 1
    del recording
    assert not cuda.recordings


@pytest.mark.parametrize("refused", ["cudaGraphInstantiate", "synchronise", "call"])
def test_what_cannot_be_recorded_is_made_every_time(gpu: Gpu, cuda: Any, refused: str) -> None:
    call = Adding(gpu)

    def make() -> None:
        call()
        if call.made == 2 and refused == "synchronise":
            gpu.synchronise()
        if call.made == 2 and refused == "call":
            raise RunError(expected="no recording", found="one", do="nothing")

    if refused.startswith("cuda"):
        cuda.refuses[refused] = cuda.cudaError_t.cudaErrorStreamCaptureUnsupported
    recording = Recording(gpu, make)
    for times in range(1, 5):
        recording()
        assert call.total == times
    assert "cudaGraphLaunch" not in cuda.calls
    assert not cuda.recordings


def test_a_recording_that_cannot_be_played_is_one_line(gpu: Gpu, cuda: Any) -> None:
    recording = Recording(gpu, Adding(gpu))
    recording()
    cuda.refuses["cudaGraphLaunch"] = cuda.cudaError_t.cudaErrorLaunchFailure
    with pytest.raises(RunError, match="play a recorded call, found cudaErrorLaunchFailure"):
        recording()
