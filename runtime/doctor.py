"""``srd-edge doctor``: what is installed, and what each execution provider really runs.

onnxruntime's list of providers says what it was compiled with, not what loads on this device, so
that a captioner's encoder is run on each and its profile is asked which provider took which node.
TensorRT without onnxruntime is a further way, and has a report of its own.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from srd_edge import __version__
from srd_edge.errors import SrdEdgeError
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.graphs import OnnxGraph, host_value
from srd_edge.runtime.machine import processor, usable_cores
from srd_edge.runtime.native_graphs import open_native
from srd_edge.runtime.picture_inputs import encoder_inputs
from srd_edge.runtime.sessions import INSTALL, PROVIDERS, Provider, open_session
from srd_edge.runtime.tensorrt_provider import options_for

_PACKAGES: Final = (
    *("numpy", "opencv-python-headless", "tokenizers", "onnxruntime", "onnxruntime-gpu"),
    *("tensorrt-cu13", "cuda-bindings", "torch", "transformers", "onnx"),
)

_NATIVE: Final = "tensorrt-native"


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """What came of one execution provider.

    Args:
        name: cpu, cuda, tensorrt or tensorrt-native.
        works: whether it took part of a real graph and gave the same numbers as the CPU.
        nodes: of that graph, by the provider that ran them; of an engine, its layers.
        problem: why it does not work, in one line; "" if it does.
        mend: what to install; "" if nothing.
    """

    name: str
    works: bool
    nodes: dict[str, int]
    problem: str = ""
    mend: str = ""


def examine(bundle: Path | str | None = None) -> dict[str, Any]:
    """Everything that is to be known of this device, as plain JSON values.

    Args:
        bundle: whose encoder is run; None for the built-in one.
    """
    opened = read_bundle(bundle)
    reports = [*(examine_provider(opened, name) for name in PROVIDERS), examine_native(opened)]
    return {
        "srd_edge": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {processor()}",
        "cores": usable_cores(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "providers": {
            report.name: {
                "works": report.works,
                "nodes": report.nodes,
                "problem": report.problem,
                "mend": report.mend,
            }
            for report in reports
        },
    }


def examine_provider(bundle: Bundle, name: str) -> ProviderReport:
    """Run the encoder of ``bundle`` on one provider, and on the CPU beside it."""
    path = bundle.path(bundle.manifest.captioner.components["encoder"])
    try:
        beside, feed = _beside(bundle)
        with tempfile.TemporaryDirectory() as folder:
            opened = open_session(
                path,
                cast("Provider", name),
                strict=True,
                profile=Path(folder) / "profile",
                tensorrt=partial(options_for, bundle, "encoder"),
            )
            found = opened.session.run(None, feed)[0]
            nodes = _nodes(Path(opened.session.end_profiling()))
        expected = beside.run(None, feed)[0]
    except SrdEdgeError as error:
        return ProviderReport(name, False, {}, error.found, INSTALL[name])
    return _compared(name, nodes, found, expected)


def examine_native(bundle: Bundle) -> ProviderReport:
    """Run the encoder of ``bundle`` through an engine of TensorRT itself, and on the CPU."""
    try:
        graph = open_native(bundle, "encoder")
        beside, feed = _beside(bundle)
        output = beside.get_outputs()[0].name
        (found,) = graph.run([output], {name: host_value(value) for name, value in feed.items()})
        (expected,) = beside.run([output], feed)
        return _compared(_NATIVE, {"tensorrt": graph.layers}, found.numpy(), expected)
    except SrdEdgeError as error:
        problem = f"needs {error.expected}, found {error.found}"
        return ProviderReport(_NATIVE, False, {}, problem, INSTALL[_NATIVE])


def _beside(bundle: Bundle) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The encoder as onnxruntime runs it on the CPU, and what it takes of a picture of noise."""
    spec = bundle.manifest.preprocessing
    noise = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    opened = open_session(bundle.path(bundle.manifest.captioner.components["encoder"]), "cpu")
    takes = OnnxGraph(opened).types
    inputs = encoder_inputs(to_canvas(noise, spec), spec, takes)
    feed = {name: array.astype(takes[name], copy=False) for name, array in inputs.items()}
    return opened.session, feed


def _compared(
    name: str, nodes: dict[str, int], found: NDArray[Any], expected: NDArray[Any]
) -> ProviderReport:
    difference = float(np.abs(found - expected).max())
    if not difference < 0.05 * float(np.abs(expected).max()) + 1e-3:
        problem = f"its numbers are {difference:.3g} off those of the CPU"
        return ProviderReport(name, False, nodes, problem)
    return ProviderReport(name, True, nodes)


def _nodes(profile: Path) -> dict[str, int]:
    """How many nodes each provider ran, by its name without "ExecutionProvider"."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    ran = {
        event["name"]: event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {})
    }
    counted = Counter(name.removesuffix("ExecutionProvider").lower() for name in ran.values())
    return dict(counted)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
