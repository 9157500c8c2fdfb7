"""The part of NVIDIA's cuda-bindings that is used here: ``cuda.bindings.runtime``.

As in `runtime/tensorrt_api.py`, each protocol has the name of what it stands for. Every function
gives back a tuple, with a status first. mypy holds our use against these protocols, and a test
holds names, parameters and the length of the tuples against the installed package, which imports
without a GPU. None of this has been run on a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, SupportsInt, TypeAlias, TypeVar

from srd_edge.errors import ProviderError, RunError, SrdEdgeError
from srd_edge.runtime.sessions import INSTALL

_T = TypeVar("_T")


class Status(Protocol):
    """A member of ``cudaError_t``."""

    name: str


class cudaError_t(Protocol):
    """What a call can end with."""

    cudaSuccess: Status


class cudaMemcpyKind(Protocol):
    """Ways to copy."""

    cudaMemcpyHostToDevice: Any
    cudaMemcpyDeviceToHost: Any
    cudaMemcpyDeviceToDevice: Any


class cudaStreamCaptureMode(Protocol):
    """What is forbidden while a stream is recorded."""

    cudaStreamCaptureModeRelaxed: Any


Statuses: TypeAlias = cudaError_t
CopyKinds: TypeAlias = cudaMemcpyKind
CaptureModes: TypeAlias = cudaStreamCaptureMode
Stream: TypeAlias = SupportsInt
"""A ``cudaStream_t``; its number is its address."""


class CudaRuntime(Protocol):
    """The module. Addresses are numbers."""

    cudaError_t: Statuses
    cudaMemcpyKind: CopyKinds
    cudaStreamCaptureMode: CaptureModes
    cudaStreamNonBlocking: int

    def cudaGetErrorString(self, error: Status) -> tuple[Status, bytes]: ...

    def cudaGetDeviceCount(self) -> tuple[Status, int]: ...

    def cudaMalloc(self, size: int) -> tuple[Status, int]: ...

    def cudaFree(self, devPtr: int) -> tuple[Status]: ...

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: object, stream: Stream
    ) -> tuple[Status]: ...

    def cudaMemsetAsync(
        self, devPtr: int, value: int, count: int, stream: Stream
    ) -> tuple[Status]: ...

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, Stream]: ...

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Status]: ...

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Status]: ...

    def cudaStreamBeginCapture(self, stream: Stream, mode: object) -> tuple[Status]: ...

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Status, object]: ...

    def cudaGraphInstantiate(self, graph: object, flags: int) -> tuple[Status, object]: ...

    def cudaGraphDestroy(self, graph: object) -> tuple[Status]: ...

    def cudaGraphLaunch(self, graphExec: object, stream: Stream) -> tuple[Status]: ...

    def cudaGraphExecDestroy(self, graphExec: object) -> tuple[Status]: ...


def load_cuda() -> CudaRuntime:
    """The installed cuda-bindings, where CUDA sees a GPU.

    Raises:
        ProviderError: there are none, they do not load, or there is no driver or no GPU.
    """
    try:
        module: Any = import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise ProviderError(
            expected="the cuda-bindings package", found=str(error), do=INSTALL["tensorrt-native"]
        ) from error
    cuda: CudaRuntime = module
    if not given(cuda, cuda.cudaGetDeviceCount(), "count the GPUs", ProviderError):
        raise ProviderError(
            expected="a GPU that CUDA sees",
            found="none",
            do="look with `srd-edge doctor`, or use --provider cpu",
        )
    return cuda


def done(
    cuda: CudaRuntime,
    returned: tuple[Status],
    what: str,
    error: type[SrdEdgeError] = RunError,
) -> None:
    """A call that gives nothing back but how it ended.

    Args:
        cuda: the module.
        returned: by the call.
        what: it was to do, as the rest of "expected CUDA to ...".
        error: to raise.

    Raises:
        RunError: or ``error``, where it failed.
    """
    (status,) = returned
    if status != cuda.cudaError_t.cudaSuccess:
        raise error(
            expected=f"CUDA to {what}",
            found=_described(cuda, status),
            do="look with `srd-edge doctor`, or use --provider cpu",
        )


def given(
    cuda: CudaRuntime,
    returned: tuple[Status, _T],
    what: str,
    error: type[SrdEdgeError] = RunError,
) -> _T:
    """What a call gives back beside how it ended; otherwise as ``done``."""
    status, value = returned
    done(cuda, (status,), what, error)
    return value


def _described(cuda: CudaRuntime, status: Status) -> str:
    _, words = cuda.cudaGetErrorString(status)
    return f"{status.name}, {words.decode(errors='replace')}"
