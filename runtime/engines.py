"""Engines through TensorRT's own Python API, 10 and 11: built on the device, kept, opened again.

The precision is the graph's: networks are strongly typed, which TensorRT 10 has to be told and 11
always is. No plug-in library is loaded, and no engine may hold code for the host. Where onnxruntime
has its own provider (`runtime/tensorrt_provider.py`), that comes first; `runtime/engine_graph.py`
feeds the engines that are opened here. None of it has been run on TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from srd_edge.errors import BundleError, ProviderError, RunError, UsageError
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_profiles import ProfiledGraph, profiled_graph
from srd_edge.runtime.device import read_device
from srd_edge.runtime.engine_cache import (
    EngineKey,
    keep_engine,
    kept_engine,
    timing_folder,
    write_whole,
)
from srd_edge.runtime.profiles import Profile
from srd_edge.runtime.tensorrt_api import (
    Builder,
    IBuilderConfig,
    ICudaEngine,
    ILogger,
    OnnxParser,
    Runtime,
    TensorRt,
    load_tensorrt,
)
from srd_edge.runtime.tensorrt_provider import TensorRtSettings

_T = TypeVar("_T")
_TIMINGS: Final = "timing.cache"
_MOST_ERRORS: Final = 3


@dataclass(frozen=True, slots=True)
class Engine:
    """An open engine, and what has to live as long."""

    engine: ICudaEngine
    runtime: Runtime
    logger: ILogger


def open_engine(
    bundle: Bundle,
    role: str,
    *,
    views: int = 1,
    settings: TensorRtSettings | None = None,
    tensorrt: TensorRt | None = None,
) -> Engine:
    """The engine of one graph of a bundle: the one that was built here before, or a new one.

    A decoder's engine begins at a past of length 1; whoever drives it feeds no empty one.

    Args:
        bundle: a verified bundle.
        role: a component of the captioner, "policy" or "language".
        views: of a picture that are captioned as one.
        settings: None for the default ones; ``half`` is not for engines.
        tensorrt: the module; None for the installed one.

    Raises:
        ProviderError: no TensorRT, no GPU, or a TensorRT without strongly typed networks.
        BundleError: what lies in the cache was not built here, or TensorRT refuses the graph.
        RunError: the engine cannot be built, or the cache is not this user's own.
        UsageError: the bundle has no such graph, or half precision is asked for.
    """
    chosen = settings or TensorRtSettings()
    if chosen.half:
        raise UsageError(
            expected="precision that is baked into the graph",
            found="half precision of the builder, which TensorRT 11 has no more",
            do="export the bundle with --precision fp16",
        )
    api = tensorrt or load_tensorrt()
    graph = profiled_graph(bundle, role, views=views)
    key = _key(api, graph, chosen)
    plan = kept_engine(key)
    if plan is None:
        keep_engine(key, build_engine(api, graph, key, chosen))
        plan = kept_engine(key)
    assert plan is not None
    return _open(api, plan)


def build_engine(
    api: TensorRt, graph: ProfiledGraph, key: EngineKey, settings: TensorRtSettings
) -> memoryview:
    """Build an engine; of minutes. Kernels that were measured before are not measured again.

    Raises:
        ProviderError, BundleError, RunError: as ``open_engine``.
    """
    logger = api.Logger(api.Logger.ERROR)
    builder = _on_gpu(api, api.Builder, logger)
    network = builder.create_network(_network_flags(api))
    # Held until the engine is built: the network's weights are the parser's.
    parser = api.OnnxParser(network, logger)
    _parse(api, parser, graph.path)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    config.builder_optimization_level = settings.builder_level
    if graph.shapes:
        _add_profile(builder, config, graph.shapes)
    timings = timing_folder(key.tensorrt, key.device) / _TIMINGS
    known = timings.read_bytes() if timings.exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RunError(
            expected=f"TensorRT {api.__version__} to build an engine of {graph.path.name}",
            found="none; what it printed says why",
            do="free memory or give it more workspace, or use --provider cuda",
        )
    measured = config.get_timing_cache()
    if measured is not None:
        write_whole(timings, memoryview(measured.serialize()))
    return memoryview(plan)


def _key(api: TensorRt, graph: ProfiledGraph, settings: TensorRtSettings) -> EngineKey:
    return EngineKey(
        graph=graph.sums,
        onnxruntime="",
        tensorrt=api.__version__,
        device=read_device(),
        shapes=graph.shapes,
        options={
            "workspace_bytes": str(settings.workspace_bytes),
            "builder_level": str(settings.builder_level),
        },
    )


def _on_gpu(api: TensorRt, make: Callable[[ILogger], _T], logger: ILogger) -> _T:
    try:
        return make(logger)
    except (TypeError, RuntimeError) as error:  # pybind11's, where there is no GPU
        raise ProviderError(
            expected=f"a GPU that TensorRT {api.__version__} knows",
            found=str(error),
            do="look with `srd-edge doctor`, or use --provider cpu",
        ) from error


def _network_flags(api: TensorRt) -> int:
    """For a strongly typed network.

    TensorRT 11 may drop the flag that it ignores; a version that has neither the flag nor given up
    choosing precision itself would build fp32 of everything without a word.
    """
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is not None:
        return 1 << int(flag)
    if hasattr(api.BuilderFlag, "FP16"):
        raise ProviderError(
            expected="TensorRT 10 or 11, with strongly typed networks",
            found=f"TensorRT {api.__version__}",
            do="update TensorRT",
        )
    return 0


def _parse(api: TensorRt, parser: OnnxParser, model: Path) -> None:
    # By its path, beside which weights in a file of their own are looked for.
    if parser.parse_from_file(str(model)):
        return
    count = min(parser.num_errors, _MOST_ERRORS)
    said = "; ".join(" ".join(parser.get_error(n).desc().split()) for n in range(count))
    raise BundleError(
        expected=f"{model.name} to be a graph that TensorRT {api.__version__} parses",
        found=said[:300] or "no reason given",
        do="export the bundle again with --target tensorrt, or use --provider cuda",
    )


def _add_profile(builder: Builder, config: IBuilderConfig, shapes: Profile) -> None:
    profile = builder.create_optimization_profile()
    try:
        for shape in shapes:
            profile.set_shape(shape.name, shape.least, shape.usual, shape.most)
        added = config.add_optimization_profile(profile)
    except ValueError as error:
        _refuse_profile(shapes, str(error), error)
    if added < 0:
        _refuse_profile(shapes, "one that it refuses")


def _refuse_profile(shapes: Profile, found: str, cause: Exception | None = None) -> NoReturn:
    raise BundleError(
        expected=f"a profile that TensorRT accepts for {', '.join(s.name for s in shapes)}",
        found=found,
        do="export the bundle again, with the srd-edge that is to run it",
    ) from cause


def _open(api: TensorRt, plan: bytes) -> Engine:
    logger = api.Logger(api.Logger.ERROR)
    runtime = _on_gpu(api, api.Runtime, logger)
    runtime.engine_host_code_allowed = False
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BundleError(
            expected="an engine that this device built",
            found=f"one that TensorRT {api.__version__} does not open",
            do="empty the folder engines in the cache; it is built again",
        )
    return Engine(engine, runtime, logger)
