"""Calls that are recorded and played again: CUDA graphs.

A call of a small decoder takes longer to launch, kernel by kernel, than to run. Recorded, it is
launched at once. A recording knows tensors by their addresses and shapes and nothing else: who
makes one keeps both. None of it has been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import finalize

from srd_edge.errors import RunError
from srd_edge.runtime.cuda_api import done
from srd_edge.runtime.gpu_memory import Gpu

_NO_FLAGS: Final = 0


class Recording:
    """A call that is made as it is the first time, recorded then, and played from there on.

    Where it cannot be recorded, it is made as it is every time.

    Args:
        gpu: on whose stream.
        call: gives the stream its work and does not wait; it owns all that the work reads and
            writes, and neither changes while the recording lives.
    """

    def __init__(self, gpu: Gpu, call: Callable[[], None]) -> None:
        self._gpu, self._call = gpu, call
        self._called = False
        self._recorded: object | None = None

    def __call__(self) -> None:
        """Make or play it, and wait for it.

        Raises:
            RunError: it fails.
        """
        cuda, stream = self._gpu.cuda, self._gpu.stream
        if self._recorded is not None:
            done(cuda, cuda.cudaGraphLaunch(self._recorded, stream), "play a recorded call")
        else:
            self._call()
        self._gpu.synchronise()
        if not self._called:
            # Only now: TensorRT ends its preparations for new shapes in the first call of them.
            self._called = True
            self._record()

    def _record(self) -> None:
        cuda, stream = self._gpu.cuda, self._gpu.stream
        # Relaxed: a destructor that Python runs in between may free memory.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        done(cuda, cuda.cudaStreamBeginCapture(stream, mode), "record a call")
        recordable = False
        # Not every graph can be recorded.
        try:
            with suppress(RunError):
                self._call()
                recordable = True
        finally:
            status, graph = cuda.cudaStreamEndCapture(stream)
        success = cuda.cudaError_t.cudaSuccess
        if status != success:
            return
        if recordable:
            status, recorded = cuda.cudaGraphInstantiate(graph, _NO_FLAGS)
            if status == success:
                self._recorded = recorded
                finalize(self, cuda.cudaGraphExecDestroy, recorded)
        done(cuda, cuda.cudaGraphDestroy(graph), "drop what a recording was made of")
