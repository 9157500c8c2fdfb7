"""The part of TensorRT's Python API that is used here, in versions 10 and 11.

Each protocol stands for the class of its name and has the members that both versions have; what
only one of them has is asked for by name where it is used. mypy holds our use against these
protocols, and a test holds their members and parameters against lists that were read out of the
packages. None of this has been run on TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from srd_edge.errors import ProviderError
from srd_edge.runtime.profiles import Dims
from srd_edge.runtime.sessions import INSTALL


class ILogger(Protocol):
    """Takes TensorRT's messages."""


class IHostMemory(Protocol):
    """A buffer of TensorRT's."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    """What was measured of kernels."""

    def serialize(self) -> IHostMemory: ...


class IOptimizationProfile(Protocol):
    """Between which shapes an engine runs."""

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None: ...  # noqa: A002


class INetworkDefinition(Protocol):
    """A parsed graph."""

    num_inputs: int


class IBuilderConfig(Protocol):
    """How an engine is built."""

    builder_optimization_level: int

    def set_memory_pool_limit(self, pool: object, pool_size: int) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

    def get_timing_cache(self) -> ITimingCache | None: ...


class Builder(Protocol):
    """Builds engines."""

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...


class ParserError(Protocol):
    """What the parser does not accept."""

    def desc(self) -> str: ...


class OnnxParser(Protocol):
    """Reads graphs."""

    num_errors: int

    def parse_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class TensorIOMode(Protocol):
    """INPUT or OUTPUT."""

    name: str


class TensorLocation(Protocol):
    """DEVICE or HOST."""

    name: str


class DataType(Protocol):
    """FLOAT, HALF, INT64 or another."""

    name: str


class IExecutionContext(Protocol):
    """One way through an engine at a time: shapes, addresses, memory to compute in."""

    def set_input_shape(self, name: str, shape: Dims) -> bool: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    """An engine, ready to run."""

    num_io_tensors: int
    num_layers: int

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> TensorIOMode: ...

    def get_tensor_location(self, name: str) -> TensorLocation: ...

    def get_tensor_dtype(self, name: str) -> DataType: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    # With other arguments in each version; without any in both.
    create_execution_context: Contexts


class Runtime(Protocol):
    """Opens engines."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class Logger(Protocol):
    """TensorRT's own logger, which prints to standard error: the class."""

    ERROR: Any

    def __call__(self, min_severity: object) -> ILogger: ...


class MemoryPoolType(Protocol):
    """The memories that can be bounded."""

    WORKSPACE: Any


Contexts: TypeAlias = Callable[[], IExecutionContext | None]
Builders: TypeAlias = Callable[[ILogger], Builder]
Parsers: TypeAlias = Callable[[INetworkDefinition, ILogger], OnnxParser]
Runtimes: TypeAlias = Callable[[ILogger], Runtime]
Loggers: TypeAlias = Logger
Pools: TypeAlias = MemoryPoolType


class TensorRt(Protocol):
    """The module ``tensorrt``."""

    __version__: str
    Builder: Builders
    OnnxParser: Parsers
    Runtime: Runtimes
    Logger: Loggers
    MemoryPoolType: Pools
    NetworkDefinitionCreationFlag: object
    BuilderFlag: object


def load_tensorrt() -> TensorRt:
    """The installed TensorRT.

    Raises:
        ProviderError: there is none, or it does not load.
    """
    try:
        module: Any = import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise ProviderError(
            expected="the tensorrt package", found=str(error), do=INSTALL["tensorrt"]
        ) from error
    loaded: TensorRt = module
    return loaded
