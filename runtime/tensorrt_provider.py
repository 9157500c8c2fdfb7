"""What onnxruntime's TensorRT provider is told about each graph of a bundle, and why.

Names are those of onnxruntime-gpu 1.31.1, and so is how values are written: "True", not "1". Both
are held against lists read out of its libraries; none of this has been run on TensorRT. What is not
named keeps the provider's default: no plug-in or decryption library, no engine inside of a graph,
no engine for other GPUs than this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from srd_edge.errors import RunError
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_profiles import profiled_graph, refuse_empty_past
from srd_edge.runtime.device import read_device
from srd_edge.runtime.engine_cache import (
    EngineKey,
    engine_folder,
    tensorrt_version,
    timing_folder,
)
from srd_edge.runtime.profiles import profile_options, warm_up_shapes
from srd_edge.runtime.sessions import DTYPES, Session


@dataclass(frozen=True, slots=True)
class TensorRtSettings:
    """How engines are built.

    Args:
        workspace_bytes: most that a kernel may take beside its inputs and outputs. A Jetson has one
            memory for GPU, video and everything else, so that it is bounded.
        builder_level: how hard the builder looks, 0 to 5; 3 is TensorRT's own.
        half: whether graphs of fp32 may be computed in fp16. A bundle's figures of parity are then
            no longer those of what runs, so that it is off; `srd-edge export --precision fp16`
            bakes fp16 into the graph instead.
    """

    workspace_bytes: int = 1 << 30
    builder_level: int = 3
    half: bool = False

    def options(self, *, graph_is_half: bool) -> dict[str, str]:
        """The provider's options that do not depend on shapes or places.

        Without ``trt_fp16_enable`` the provider keeps to the types in the graph
        (microsoft/onnxruntime#18707). With it TensorRT chooses anew, even what the export kept in
        fp32, so that it is never set for a graph that is typed so.
        """
        return {
            "device_id": "0",
            "trt_fp16_enable": str(self.half and not graph_is_half),
            # A ViT's normalisations overflow in fp16.
            "trt_layer_norm_fp32_fallback": "True",
            "trt_max_workspace_size": str(self.workspace_bytes),
            "trt_builder_optimization_level": str(self.builder_level),
        }


def options_for(
    bundle: Bundle, role: str, *, views: int = 1, settings: TensorRtSettings | None = None
) -> dict[str, str]:
    """All options for one graph of a bundle; makes the folders of its engine.

    Args:
        bundle: a verified bundle.
        role: a component of the captioner, "policy" or "language".
        views: of a picture that are captioned as one.
        settings: None for the default ones.

    Raises:
        BundleError: the graph has no profile: it may be fed a past of length 0, or has axes that
            the manifest says nothing of.
        RunError: the cache is not this user's own.
    """
    import onnxruntime

    graph = profiled_graph(bundle, role, views=views)
    refuse_empty_past(graph)
    options = (settings or TensorRtSettings()).options(graph_is_half=graph.header.half)
    device, tensorrt = read_device(), tensorrt_version()
    key = EngineKey(
        graph=graph.sums,
        onnxruntime=onnxruntime.__version__,
        tensorrt=tensorrt,
        device=device,
        shapes=graph.shapes,
        options=options,
    )
    places = {
        # Building takes minutes; an engine is found again by the folder of its digest.
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engine_folder(key)),
        # What was measured of a kernel holds for every graph on this device.
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(timing_folder(tensorrt, device)),
    }
    return options | profile_options(graph.shapes) | places


def warm_up(opened: Session, bundle: Bundle, role: str, *, views: int = 1) -> None:
    """Run a graph that TensorRT took at all shapes that it will meet; others are left alone.

    Its first run at a shape builds or loads the engine, which is not for the first frame to wait.

    Raises:
        RunError: TensorRT took the graph and does not run it.
    """
    if opened.provider != "tensorrt":
        return
    graph = profiled_graph(bundle, role, views=views)
    inputs = {value.name: value for value in opened.session.get_inputs()}
    for dynamic in warm_up_shapes(graph.shapes):
        shapes: dict[str, Any] = {name: value.shape for name, value in inputs.items()} | dynamic
        feed = {name: np.zeros(dims, DTYPES[inputs[name].type]) for name, dims in shapes.items()}
        try:
            opened.session.run(None, feed)
        except Exception as error:  # onnxruntime's own have no base but Exception
            raise RunError(
                expected=f"TensorRT to run {graph.path.name} at the shapes of its profile",
                found=" ".join(str(error).split())[:300] or type(error).__name__,
                do="use --provider cuda",
            ) from error
