"""Memory of a GPU: values that lie there, and the one stream that all work goes through.

Everything is done in the order in which it was asked for, so that a copy finds what the graph
before it wrote, and a block of memory can be the next value's as soon as a value is dropped: what
still reads it comes first. Only ``synchronise`` waits. Blocks are kept for values of the same size
and go back to CUDA with the last value, graph or recording of the GPU.

Nothing here may be used by two threads at a time, and none of it has been run on a GPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod
from typing import Any, Final
from weakref import WeakValueDictionary, finalize

import numpy as np
from numpy.typing import DTypeLike, NDArray

from srd_edge.errors import ProviderError, ShapeError
from srd_edge.runtime.cuda_api import CudaRuntime, Stream, done, given

_BLOCK_BYTES: Final = 512
"""Sizes are rounded up to this. An empty value has a block too: TensorRT wants an address."""


class Gpu:
    """The GPU that CUDA puts first, and a stream of its own.

    Args:
        cuda: NVIDIA's bindings.

    Raises:
        ProviderError: CUDA makes no stream.
    """

    def __init__(self, cuda: CudaRuntime) -> None:
        self.cuda = cuda
        # Not blocking: the default stream, which others in the process use, waits for nobody.
        made = cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)
        self.stream: Stream = given(cuda, made, "make a stream", ProviderError)
        self._blocks: list[int] = []
        self._spare: defaultdict[int, list[int]] = defaultdict(list)
        self._read_from: list[NDArray[Any]] = []
        finalize(self, _close, cuda, self.stream, self._blocks)

    def take(self, nbytes: int) -> int:
        """The address of a block of at least ``nbytes``, whatever is in it.

        Raises:
            RunError: there is no memory left.
        """
        size = _rounded(nbytes)
        if self._spare[size]:
            return self._spare[size].pop()
        returned = self.cuda.cudaMalloc(size)
        if returned[0] != self.cuda.cudaError_t.cudaSuccess and any(self._spare.values()):
            self._free_spare()
            returned = self.cuda.cudaMalloc(size)
        address = given(self.cuda, returned, f"find {size} bytes on the GPU")
        self._blocks.append(address)
        return address

    def give_back(self, address: int, nbytes: int) -> None:
        """A block that is nobody's any more."""
        self._spare[_rounded(nbytes)].append(address)

    def clear(self, address: int, nbytes: int) -> None:
        """Zeros."""
        done(
            self.cuda,
            self.cuda.cudaMemsetAsync(address, 0, nbytes, self.stream),
            f"clear {nbytes} bytes",
        )

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to the GPU; it may be changed at once."""
        source = np.array(array, order="C")
        # A GPU that reads the host's memory itself does so later.
        self._read_from.append(source)
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, source.ctypes.data, source.nbytes, kind)

    def copy(self, address: int, source: int, nbytes: int) -> None:
        """Copy from one place on the GPU to another."""
        self._copy(address, source, nbytes, self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def read(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the GPU, when everything before is done."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)
        self.synchronise()

    def synchronise(self) -> None:
        """Wait until all that was asked for is done.

        Raises:
            RunError: some of it failed.
        """
        done(
            self.cuda, self.cuda.cudaStreamSynchronize(self.stream), "finish what the GPU was given"
        )
        self._read_from.clear()

    def _copy(self, to: int, source: int, nbytes: int, kind: object) -> None:
        done(
            self.cuda,
            self.cuda.cudaMemcpyAsync(to, source, nbytes, kind, self.stream),
            f"copy {nbytes} bytes",
        )

    def _free_spare(self) -> None:
        """Give CUDA the blocks that no value has."""
        self.synchronise()
        for addresses in self._spare.values():
            while addresses:
                address = addresses.pop()
                self._blocks.remove(address)
                done(self.cuda, self.cuda.cudaFree(address), "free memory")


_OPEN: Final[WeakValueDictionary[CudaRuntime, Gpu]] = WeakValueDictionary()


def open_gpu(cuda: CudaRuntime) -> Gpu:
    """The GPU that is in use, so that all graphs share its stream and memory, or else a new one.

    Raises:
        ProviderError: as ``Gpu``.
    """
    gpu = _OPEN.get(cuda)
    if gpu is None:
        gpu = _OPEN[cuda] = Gpu(cuda)
    return gpu


class GpuValue:
    """A tensor in a GPU's memory; what is in it at first is anybody's guess.

    Args:
        gpu: where.
        shape: its own; () for a single number.
        dtype: of its elements.

    Raises:
        RunError: there is no memory left.
    """

    def __init__(self, gpu: Gpu, shape: Sequence[int], dtype: DTypeLike) -> None:
        self.gpu, self.dtype = gpu, np.dtype(dtype)
        self._shape = tuple(map(int, shape))
        self.nbytes = prod(self._shape) * self.dtype.itemsize
        self.address = gpu.take(self.nbytes)
        finalize(self, gpu.give_back, self.address, self.nbytes)

    def numpy(self) -> NDArray[Any]:
        """A copy on the host."""
        array = np.empty(self._shape, self.dtype)
        self.gpu.read(array, self.address)
        return array

    def shape(self) -> tuple[int, ...]:
        return self._shape

    def update_inplace(self, data: Any) -> None:
        """Overwrite it with an array, or a value of any device, of its own shape and dtype.

        Raises:
            ShapeError: it has another.
            RunError: CUDA does not copy it.
        """
        if isinstance(data, GpuValue) and data.gpu is self.gpu:
            self._refuse_other(data.shape(), data.dtype)
            self.gpu.copy(self.address, data.address, self.nbytes)
            return
        array = data if isinstance(data, np.ndarray) else data.numpy()
        self._refuse_other(array.shape, array.dtype)
        self.gpu.write(self.address, array)

    def _refuse_other(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        if (tuple(shape), dtype) != (self._shape, self.dtype):
            raise ShapeError(
                expected=f"{self._shape} {self.dtype}",
                found=f"{tuple(shape)} {dtype}",
                do="give it what was there before",
            )


def _rounded(nbytes: int) -> int:
    return max(-(-nbytes // _BLOCK_BYTES), 1) * _BLOCK_BYTES


def _close(cuda: CudaRuntime, stream: Stream, blocks: list[int]) -> None:
    # Statuses are not looked at: nobody is left to be told, and at the end of the process the
    # driver may be gone.
    cuda.cudaStreamSynchronize(stream)
    for address in blocks:
        cuda.cudaFree(address)
    cuda.cudaStreamDestroy(stream)
