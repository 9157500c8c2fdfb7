"""A GPU that is the host: CUDA's runtime, as far as srd-edge calls it.

Memory is handed out by address and looked at by address alone. A stream does nothing until it is
waited for, and while it is recorded nothing at all. What a real GPU answers with an error is an
error here; what it answers with nonsense or a crash, as memory that is not one's own, is a
``Fault``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
from cuda.bindings import runtime as real

SUCCESS = real.cudaError_t.cudaSuccess
WITH_OUTPUT = {
    *("cudaGetDeviceCount", "cudaMalloc", "cudaStreamCreateWithFlags", "cudaStreamEndCapture"),
    "cudaGraphInstantiate",
}
"""Of our functions, those that give more back than how they ended."""


class Fault(AssertionError):
    """What must never be asked of a GPU."""


class Stream:
    numbers = count(1000)

    def __init__(self) -> None:
        self.number = next(self.numbers)
        self.pending: list[Callable[[], None]] = []
        self.recorded: list[Callable[[], None]] | None = None
        self.spoilt = False

    def __int__(self) -> int:
        return self.number

    def push(self, work: Callable[[], None]) -> None:
        (self.pending if self.recorded is None else self.recorded).append(work)

    def work_off(self) -> None:
        while self.pending:
            self.pending.pop(0)()


def refusable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A call that ends as ``refuses`` says, and is counted in ``calls``."""
    name = function.__name__

    @wraps(function)
    def call(self: FakeCuda, *arguments: Any) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.refuses:
            # A GPU that failed does nothing more.
            for stream in self.streams.values():
                stream.pending.clear()
        given = self.refuses[name] if name in self.refuses else function(self, *arguments)
        failed = isinstance(given, real.cudaError_t)
        status, value = (given, None) if failed else (SUCCESS, given)
        return (status, value) if name in WITH_OUTPUT else (status,)

    return call


class FakeCuda:
    """The module ``cuda.bindings.runtime``.

    Args:
        gpus: how many there are.
        most_bytes: of memory.
    """

    cudaError_t = real.cudaError_t
    cudaMemcpyKind = real.cudaMemcpyKind
    cudaStreamCaptureMode = real.cudaStreamCaptureMode
    cudaStreamNonBlocking = real.cudaStreamNonBlocking

    def __init__(self, gpus: int = 1, most_bytes: int = 1 << 30) -> None:
        self.gpus, self.most_bytes = gpus, most_bytes
        self.blocks: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.recordings: set[int] = set()
        self.refuses: dict[str, Any] = {}
        self.calls: dict[str, int] = {}

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """The memory there, to be read and written."""
        bytes_ = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.owned(address, bytes_)
        raw = (ctypes.c_char * bytes_).from_address(address)
        return np.frombuffer(raw, np.uint8).view(dtype).reshape(shape)

    def owned(self, address: int, bytes_: int) -> None:
        for start, block in self.blocks.items():
            if start <= address and address + bytes_ <= start + len(block):
                return
        raise Fault(f"illegal address {address:#x} of {bytes_} bytes")

    @staticmethod
    def cudaGetErrorString(error: Any) -> Any:
        return real.cudaGetErrorString(error)

    @refusable
    def cudaGetDeviceCount(self) -> Any:
        return self.gpus or real.cudaError_t.cudaErrorNoDevice

    @refusable
    def cudaMalloc(self, size: int) -> Any:
        if sum(map(len, self.blocks.values())) + size > self.most_bytes:
            return real.cudaError_t.cudaErrorMemoryAllocation
        block = ctypes.create_string_buffer(b"\xab" * size, size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    @refusable
    def cudaFree(self, devPtr: int) -> Any:
        for stream in self.streams.values():
            stream.work_off()
        if devPtr not in self.blocks:
            raise Fault(f"{devPtr:#x} is freed, and is nobody's")
        del self.blocks[devPtr]

    @refusable
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Stream) -> Any:
        def copy() -> None:
            if kind != kinds.cudaMemcpyDeviceToHost:
                self.owned(dst, count)
            if kind != kinds.cudaMemcpyHostToDevice:
                self.owned(src, count)
            ctypes.memmove(dst, src, count)

        kinds = self.cudaMemcpyKind
        stream.push(copy)

    @refusable
    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: Stream) -> Any:
        def clear() -> None:
            self.owned(devPtr, count)
            ctypes.memset(devPtr, value, count)

        stream.push(clear)

    @refusable
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == real.cudaStreamNonBlocking
        stream = Stream()
        self.streams[int(stream)] = stream
        return stream

    @refusable
    def cudaStreamSynchronize(self, stream: Stream) -> Any:
        if stream.recorded is not None:
            stream.spoilt = True
            return real.cudaError_t.cudaErrorStreamCaptureUnsupported
        stream.work_off()
        return None

    @refusable
    def cudaStreamDestroy(self, stream: Stream) -> Any:
        del self.streams[int(stream)]

    @refusable
    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> Any:
        assert isinstance(mode, real.cudaStreamCaptureMode)
        stream.recorded, stream.spoilt = [], False

    @refusable
    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        recorded, stream.recorded = stream.recorded, None
        if stream.spoilt:
            return real.cudaError_t.cudaErrorStreamCaptureInvalidated
        return SimpleNamespace(work=recorded)

    @refusable
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        assert flags == 0
        recording = SimpleNamespace(work=tuple(graph.work))
        self.recordings.add(id(recording))
        return recording

    @refusable
    def cudaGraphDestroy(self, graph: Any) -> Any:
        graph.work = None

    @refusable
    def cudaGraphLaunch(self, graphExec: Any, stream: Stream) -> Any:
        if id(graphExec) not in self.recordings:
            raise Fault("a recording that was destroyed is played")
        for work in graphExec.work:
            stream.push(work)

    @refusable
    def cudaGraphExecDestroy(self, graphExec: Any) -> Any:
        self.recordings.remove(id(graphExec))
