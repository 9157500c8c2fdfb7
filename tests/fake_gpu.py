"""A GPU that is the host: CUDA's runtime and TensorRT, as far as srd-edge calls them.

Memory is handed out by address and looked at by address alone. A stream does nothing until it is
waited for, and while it is recorded nothing at all; an engine is the graph, run by onnxruntime on
the CPU, from and to addresses. What a real GPU answers with an error is an error here; what it
answers with nonsense or a crash (memory that is not one's own, a recording whose context is gone
or has gone on to other shapes) is a ``Fault``.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import wraps
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np
import onnx
import onnxruntime
from cuda.bindings import runtime as real

SUCCESS = real.cudaError_t.cudaSuccess
TYPES = {
    "tensor(float)": ("FLOAT", np.float32),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
}


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


class FakeTensorRt:
    """The module ``tensorrt``; an engine's plan says which graph it is of, and its profile.

    Args:
        cuda: whose memory engines read and write.
        version: it says it is.
    """

    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace()

    def __init__(self, cuda: FakeCuda, version: str = "11.4.0.106") -> None:
        self.cuda, self.__version__ = cuda, version
        self.built: list[str] = []
        self.on_host: tuple[str, ...] = ()
        self.refuses = ""
        self.contexts: list[Any] = []

    class Logger:
        ERROR = "error"

        def __init__(self, min_severity: object) -> None: ...

    def Builder(self, logger: Any) -> Any:
        return Builder(self)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        def parse(model: str) -> bool:
            network.model = model
            return self.refuses != "parse"

        said = SimpleNamespace(desc=lambda: "no importer")
        return SimpleNamespace(parse_from_file=parse, num_errors=1, get_error=lambda _: said)

    def Runtime(self, logger: Any) -> Any:
        return Runtime(self, logger)


class Builder:
    def __init__(self, api: FakeTensorRt) -> None:
        self.api = api

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << 1
        return SimpleNamespace()

    def create_builder_config(self) -> Any:
        profiles: list[Any] = []

        def add(profile: Any) -> int:
            profiles.append(profile.shapes)
            return len(profiles) - 1

        return SimpleNamespace(
            profiles=profiles,
            set_memory_pool_limit=lambda pool, pool_size: None,
            add_optimization_profile=add,
            create_timing_cache=lambda serialized_timing_cache: None,
            set_timing_cache=lambda cache, ignore_mismatch: True,
            get_timing_cache=lambda: None,
        )

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda n, *ends: shapes.update({n: ends}))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        if self.api.refuses == "build":
            return None
        self.api.built.append(Path(network.model).name)
        profile = config.profiles[0] if config.profiles else {}
        return json.dumps({"model": network.model, "profile": profile}).encode()


class Runtime:
    def __init__(self, api: FakeTensorRt, logger: Any) -> None:
        self.api, self.logger = api, ref(logger)
        self.engine_host_code_allowed = True

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        assert not self.engine_host_code_allowed
        return Engine(self, json.loads(serialized_engine))


class Engine:
    def __init__(self, runtime: Runtime, plan: dict[str, Any]) -> None:
        self.api, self.runtime = runtime.api, ref(runtime)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            plan["model"], options, providers=["CPUExecutionProvider"]
        )
        self.profile = plan["profile"]
        self.inputs: dict[str, Any] = {value.name: value for value in self.session.get_inputs()}
        self.outputs: dict[str, Any] = {value.name: value for value in self.session.get_outputs()}
        self.tensors = self.inputs | self.outputs
        self.num_io_tensors = len(self.tensors)
        self.num_layers = len(onnx.load(plan["model"], load_external_data=False).graph.node)
        self.known: dict[Any, dict[str, tuple[int, ...]]] = {}

    def get_tensor_name(self, index: int) -> str:
        return [*self.tensors][index]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name in self.inputs else "OUTPUT")

    def get_tensor_location(self, name: str) -> Any:
        return SimpleNamespace(name="HOST" if name in self.api.on_host else "DEVICE")

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=TYPES[self.tensors[name].type][0])

    def get_tensor_shape(self, name: str) -> Any:
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.tensors[name].shape)

    def create_execution_context(self) -> Any:
        if self.api.refuses == "context":
            return None
        context = Context(self)
        self.api.contexts.append(ref(context))
        return context

    def dtype(self, name: str) -> Any:
        return TYPES[self.tensors[name].type][1]

    def takes(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether an input may have that shape."""
        own = self.get_tensor_shape(name)
        least, _, most = self.profile.get(name, (own, own, own))
        return len(shape) == len(own) and all(
            low <= length <= high for low, length, high in zip(least, shape, most, strict=True)
        )

    def shapes(self, given: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Of the outputs."""
        key = tuple(sorted(given.items()))
        if key not in self.known:
            zeros = {name: np.zeros(shape, self.dtype(name)) for name, shape in given.items()}
            made = self.session.run(None, zeros)
            self.known[key] = {n: a.shape for n, a in zip(self.outputs, made, strict=True)}
        return self.known[key]


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = ref(engine)
        self.given: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.prepared: dict[str, tuple[int, ...]] = {}

    @property
    def engine(self) -> Engine:
        engine = self._engine()
        runtime = None if engine is None else engine.runtime()
        if engine is None or runtime is None or runtime.logger() is None:
            raise Fault("an engine, its runtime or its logger is gone before the context")
        return engine

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if type(shape) is not tuple or name not in self.engine.inputs:
            raise Fault(f"{name} {shape!r}")
        if not self.engine.takes(name, shape):
            return False
        self.given[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> Any:
        engine = self.engine
        if name in engine.inputs:
            return self.given.get(name, engine.get_tensor_shape(name))
        if self.given.keys() != engine.inputs.keys():
            return engine.get_tensor_shape(name)
        return engine.shapes(self.given)[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine.tensors:
            raise Fault(name)
        self.addresses[name] = memory
        return memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, given, addresses = self.engine, dict(self.given), dict(self.addresses)
        cuda = engine.api.cuda
        stream = cuda.streams[stream_handle]
        if engine.api.refuses == "run" or (
            engine.api.refuses == "record" and stream.recorded is not None
        ):
            return False
        if given.keys() != engine.inputs.keys() or addresses.keys() != engine.tensors.keys():
            return False
        recorded = stream.recorded is not None
        if recorded and self.prepared != given:
            raise Fault("recorded before it was called at these shapes")
        self.prepared = given
        itself = ref(self)

        def run() -> None:
            context = itself()
            if context is None:
                raise Fault("the context is gone")
            if recorded and context.prepared != given:
                raise Fault("the context has gone on to other shapes")
            feed = {
                n: cuda.array(addresses[n], s, engine.dtype(n)).copy() for n, s in given.items()
            }
            made = context.engine.session.run(None, feed)
            for name, array in zip(engine.outputs, made, strict=True):
                cuda.array(addresses[name], array.shape, array.dtype)[...] = array

        stream.push(run)
        return True
