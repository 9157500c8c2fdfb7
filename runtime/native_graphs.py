"""A bundle's graphs through TensorRT itself, where onnxruntime has no TensorRT that loads.

It needs the packages ``tensorrt`` (10 or 11) and ``cuda-bindings`` and a GPU. Engines are built and
kept by `runtime/engines.py`, fed by `runtime/engine_graph.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from srd_edge.errors import ProviderError
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_profiles import profiled_graph, refuse_empty_past
from srd_edge.runtime.cuda_api import CudaRuntime, load_cuda
from srd_edge.runtime.engine_graph import EngineGraph
from srd_edge.runtime.engines import open_engine
from srd_edge.runtime.gpu_memory import open_gpu
from srd_edge.runtime.profiles import warm_up_shapes
from srd_edge.runtime.tensorrt_api import TensorRt, load_tensorrt


@dataclass(frozen=True, slots=True)
class NativeParts:
    """What an engine needs beside a graph."""

    cuda: CudaRuntime
    tensorrt: TensorRt


def load_parts() -> NativeParts:
    """The packages, where there is a GPU.

    Raises:
        ProviderError: there is none, or a package is missing.
    """
    # TensorRT last: it takes its time.
    return NativeParts(load_cuda(), load_tensorrt())


def open_native(
    bundle: Bundle, role: str, *, views: int = 1, parts: NativeParts | None = None
) -> EngineGraph:
    """The engine of one graph of a bundle, run at all shapes that it will meet.

    Args:
        bundle: a verified bundle.
        role: a component of the captioner, "policy" or "language".
        views: of a picture that are captioned as one, at most.
        parts: None for ``load_parts()``.

    Raises:
        ProviderError: a part is missing, or CUDA gives no stream.
        BundleError: the graph has no profile, may be fed an empty past, or is refused by TensorRT.
        RunError: the engine cannot be built, or does not run.
    """
    loaded = parts or load_parts()
    graph = profiled_graph(bundle, role, views=views)
    refuse_empty_past(graph)
    engine = open_engine(bundle, role, views=views, tensorrt=loaded.tensorrt)
    opened = EngineGraph(engine, open_gpu(loaded.cuda), graph.path.name)
    for dynamic in warm_up_shapes(graph.shapes):
        dims = {value.name: value.dims for value in graph.header.inputs} | dynamic
        feed = {
            name: opened.room([int(length) for length in dims[name]], dtype)
            for name, dtype in opened.types.items()
        }
        opened.run([], feed)
    return opened


def open_native_if_there(bundle: Bundle, role: str, *, views: int = 1) -> EngineGraph | None:
    """As ``open_native``; None where a part is missing."""
    try:
        parts = load_parts()
    except ProviderError:
        return None
    return open_native(bundle, role, views=views, parts=parts)
