"""``srd-edge inspect`` and ``srd-edge verify``: what a bundle holds, and what it may not hold.

Need the onnx package; neither PyTorch nor onnxruntime, and nothing in the bundle is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import onnx

from srd_edge.export.graph_check import Finding, check_graph, histogram
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.check_specs import REFERENCE_FOLDER


def verify_bundle(bundle: Bundle) -> list[Finding]:
    """What is in the graphs of a bundle that may not be; ``read_bundle`` has verified the rest."""
    listed = frozenset(entry.path for entry in bundle.manifest.files)
    captioner = bundle.manifest.captioner
    every = captioner.decoding == "merged-prefix"
    told = {
        file for name, file in captioner.components.items() if every or name.startswith("decoder")
    }
    return [
        finding
        for path in graphs_of(bundle)
        for finding in check_graph(
            bundle.path(path),
            listed,
            _folder(path),
            decoding=captioner.decoding if path in told else None,
        )
    ]


def inspect_bundle(bundle: Bundle) -> dict[str, Any]:
    """All that can be said of a bundle without running it, as plain JSON values."""
    manifest = bundle.manifest
    captioner = manifest.captioner
    roles = {file: name for name, file in captioner.components.items()}
    if manifest.policy is not None:
        roles[manifest.policy.file] = "policy"
    if manifest.check is not None:
        roles[manifest.check.language.file] = "language model"
    described: dict[str, Any] = {
        "directory": str(bundle.directory),
        "schema": manifest.schema,
        "family": captioner.family,
        "decoding": captioner.decoding,
        "precision": manifest.precision,
        "opset": manifest.opset,
        "bytes": sum(entry.bytes for entry in manifest.files),
        "canvas": [manifest.preprocessing.width, manifest.preprocessing.height],
        "tiling": manifest.preprocessing.to_json()["tiling"],
        "generation": manifest.generation.to_json(),
        "defended": manifest.policy is not None,
        "checked": manifest.check is not None,
        "actions": len(manifest.actions),
        "graphs": {
            path: _graph(bundle.path(path), roles.get(path, ""))
            for path in graphs_of(bundle)
            if not path.startswith(f"{REFERENCE_FOLDER}/")
        },
        "parity": dict(manifest.parity),
        "provenance": dict(manifest.provenance),
    }
    if manifest.check is not None and manifest.check.reference:
        described["reference"] = inspect_bundle(read_bundle(bundle.directory / REFERENCE_FOLDER))
    return described


def graphs_of(bundle: Bundle) -> list[str]:
    """Paths of all graphs in the bundle, those of its reference captioner too."""
    return [e.path for e in bundle.manifest.files if PurePosixPath(e.path).suffix == ".onnx"]


def _folder(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _graph(path: Path, role: str) -> Mapping[str, Any]:
    model = onnx.load(path, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    outside = sum(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
    return {
        "role": role,
        "bytes": path.stat().st_size + outside,
        "inputs": dict(_shapes(v for v in model.graph.input if v.name not in weights)),
        "outputs": dict(_shapes(model.graph.output)),
        "operators": dict(histogram(model).most_common()),
    }


def _shapes(values: Any) -> Iterator[tuple[str, list[int | str]]]:
    for value in values:
        dims = value.type.tensor_type.shape.dim
        yield value.name, [d.dim_param or d.dim_value for d in dims]
