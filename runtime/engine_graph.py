"""A TensorRT engine as a graph: what `runtime/engines.py` opens, fed from a GPU's memory.

Before each call an execution context is told the shapes of the inputs, says itself what shapes the
outputs have, and is told where everything lies. Whoever is given an output finds it written: calls
are waited for. One thread at a time. None of it has been run on TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from srd_edge.errors import BundleError, RunError, ShapeError
from srd_edge.runtime.engines import Engine
from srd_edge.runtime.gpu_memory import Gpu, GpuValue
from srd_edge.runtime.gpu_recording import Recording
from srd_edge.runtime.graphs import Value
from srd_edge.runtime.profiles import Dims
from srd_edge.runtime.tensorrt_api import IExecutionContext

ENGINE_DTYPES: Final[Mapping[str, DTypeLike]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "BOOL": np.bool_,
}
"""By the names of TensorRT's ``DataType``."""
_INPUT: Final = "INPUT"
_ON_THE_GPU: Final = "DEVICE"


class EngineGraph:
    """A graph that an engine runs.

    Args:
        opened: the engine.
        gpu: it runs there.
        name: of the graph's file, for messages.

    Raises:
        BundleError: a tensor of a type that is not known here, or one that is looked for on the
            host, because shapes depend on what is in it.
        RunError: there is no memory for it.
    """

    def __init__(self, opened: Engine, gpu: Gpu, name: str) -> None:
        self.provider: str = "tensorrt"
        self.fallback: str | None = None
        self._name, self._gpu, self._opened = name, gpu, opened
        engine = opened.engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        for tensor in names:
            if engine.get_tensor_location(tensor).name != _ON_THE_GPU:
                self._refuse(f"{tensor}, on which shapes depend")
        kinds = {tensor: self._dtype(tensor) for tensor in names}
        inputs = [tensor for tensor in names if engine.get_tensor_mode(tensor).name == _INPUT]
        self.types: Mapping[str, DTypeLike] = {tensor: kinds[tensor] for tensor in inputs}
        self._outputs = {tensor: kinds[tensor] for tensor in names if tensor not in self.types}
        self.widths: Mapping[str, int] = {
            tensor: _width(engine.get_tensor_shape(tensor)) for tensor in self._outputs
        }
        self._context = self._new_context()

    @property
    def layers(self) -> int:
        """How many the engine has, after TensorRT made several into one."""
        return self._opened.engine.num_layers

    def run(self, outputs: Sequence[str], feed: Mapping[str, Value]) -> list[Value]:
        inputs = {name: self.bring(value) for name, value in feed.items()}
        written = self._aim(self._context, inputs, {})
        self._launch(self._context)
        self._gpu.synchronise()
        return [written[name] for name in outputs]

    def room(self, shape: Sequence[int], dtype: DTypeLike) -> GpuValue:
        value = GpuValue(self._gpu, shape, dtype)
        self._gpu.clear(value.address, value.nbytes)
        return value

    def bring(self, value: Value) -> GpuValue:
        if isinstance(value, GpuValue) and value.gpu is self._gpu:
            return value
        array = value.numpy()
        brought = GpuValue(self._gpu, array.shape, array.dtype)
        brought.update_inplace(array)
        return brought

    def bind(
        self, feed: Mapping[str, Value], into: Mapping[str, Value], *, again: bool
    ) -> Callable[[], None]:
        inputs = {name: self.bring(value) for name, value in feed.items()}
        places = {name: value for name, value in into.items() if isinstance(value, GpuValue)}
        assert len(places) == len(into), "room for what an engine writes is made by it"
        if not again:
            return partial(self._call, inputs, places)
        # A context of its own: what TensorRT prepares for other shapes is not in a recording.
        context = self._new_context()
        written = self._aim(context, inputs, places)
        return Recording(self._gpu, partial(self._launch, context, inputs, written))

    def _call(self, inputs: Mapping[str, GpuValue], places: Mapping[str, GpuValue]) -> None:
        # Held until the call is done: with it go the outputs that nobody asked for.
        written = self._aim(self._context, inputs, places)
        self._launch(self._context, written)
        self._gpu.synchronise()

    def _launch(self, context: IExecutionContext, *_owned: Mapping[str, GpuValue]) -> None:
        if not context.execute_async_v3(int(self._gpu.stream)):
            self._fail("to run", "an error; what it printed says why")

    def _aim(
        self,
        context: IExecutionContext,
        inputs: Mapping[str, GpuValue],
        places: Mapping[str, GpuValue],
    ) -> dict[str, GpuValue]:
        """Tell a context where everything lies; all outputs, those in ``places`` among them."""
        if inputs.keys() != self.types.keys():
            self._fail(f"to be fed {', '.join(self.types)}", ", ".join(inputs) or "nothing")
        for name, value in inputs.items():
            self._refuse_dtype(name, value, self.types[name])
            if not context.set_input_shape(name, value.shape()):
                self._fail("to be fed shapes that it was built for", f"{name} {value.shape()}")
        written = {
            name: self._output(name, tuple(context.get_tensor_shape(name)), places.get(name))
            for name in self._outputs
        }
        for name, value in {**inputs, **written}.items():
            if not context.set_tensor_address(name, value.address):
                self._fail(f"to find {name}", f"that it refuses the address {value.address:#x}")
        return written

    def _output(self, name: str, shape: Dims, place: GpuValue | None) -> GpuValue:
        if any(length < 0 for length in shape):
            self._fail("to know what shapes its outputs have", f"{name} {shape}")
        if place is None:
            return GpuValue(self._gpu, shape, self._outputs[name])
        self._refuse_dtype(name, place, self._outputs[name])
        if place.shape() != shape:
            self._fail(f"to write {name} {shape}", f"room for {place.shape()}")
        return place

    def _new_context(self) -> IExecutionContext:
        context = self._opened.engine.create_execution_context()
        if context is None:
            self._fail("to find the memory that it runs in", "too little; what it printed says why")
        return context

    def _dtype(self, tensor: str) -> DTypeLike:
        kind = self._opened.engine.get_tensor_dtype(tensor).name
        if kind not in ENGINE_DTYPES:
            self._refuse(f"{tensor} of type {kind}")
        return ENGINE_DTYPES[kind]

    def _refuse_dtype(self, name: str, value: GpuValue, expected: DTypeLike) -> None:
        if value.dtype != expected:
            raise ShapeError(
                expected=f"{name} of {self._name} as {np.dtype(expected)}",
                found=str(value.dtype),
                do="give it what it takes",
            )

    def _refuse(self, found: str) -> NoReturn:
        raise BundleError(
            expected=f"{self._name} to take and give tensors of the GPU of usual types",
            found=found,
            do="leave it to CUDA",
        )

    def _fail(self, what: str, found: str) -> NoReturn:
        raise RunError(
            expected=f"TensorRT's engine of {self._name} {what}",
            found=found,
            do="use --provider cuda",
        )


def _width(shape: Sequence[int]) -> int:
    """The length of the last axis; 0 where there is none, or where it varies, which is a -1."""
    return max(shape[len(shape) - 1], 0) if len(shape) else 0
