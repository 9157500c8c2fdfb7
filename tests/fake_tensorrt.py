"""TensorRT on a GPU that is the host, as far as srd-edge calls it.

An engine is the graph, run by onnxruntime on the CPU, from and to addresses. What the real one
answers with an error is an error here; what it answers with nonsense or a crash (a recording whose
context is gone or has gone on to other shapes) is a ``Fault``.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np
import onnx
import onnxruntime

from tests.fake_cuda import FakeCuda, Fault

TYPES = {
    "tensor(float)": ("FLOAT", np.float32),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
}


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
