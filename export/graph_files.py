"""The graphs of a bundle as files: exported, converted, packed."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from srd_edge.attacks.progress import status
from srd_edge.errors import RunError, SrdEdgeError
from srd_edge.export.component import Component
from srd_edge.export.graphs import SUFFIX, Precision, convert, export_graph
from srd_edge.export.packing import bytes_of, pack
from srd_edge.export.policy import policy_component
from srd_edge.export.source import Source
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.picture_inputs import encoder_inputs
from srd_edge.training.checkpoints import PolicyCheckpoint

_NO_SPACE: Final = "No space left on device"
_COPIES: Final = 2
"""Of all weights that lie on the disk at once: graphs as exported, and converted or packed."""


def weight_bytes(parts: Mapping[str, Component]) -> int:
    """Of all weights in fp32; what two parts share is one tensor."""
    weights = {id(w): w.nbytes for part in parts.values() for w in part.module.parameters()}
    return sum(weights.values())


@contextmanager
def work_folder(output: Path, weights: int) -> Iterator[Path]:
    """A folder beside ``output`` to export into, that goes away whatever happens.

    Raises:
        RunError: there is no room on the disk for so many bytes of weights, before or while they
            are written.
    """
    beside = next(parent for parent in output.resolve().parents if parent.exists())
    needed, free = _COPIES * weights, shutil.disk_usage(beside).free
    if free < needed:
        raise _no_room(output, f"{free / 1e9:.1f} GB free of up to {needed / 1e9:.1f} GB")
    try:
        with tempfile.TemporaryDirectory(dir=beside, prefix=".srd-edge-export-") as folder:
            yield Path(folder)
    except Exception as error:  # onnxruntime's and onnx' own have no base but Exception
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if isinstance(error, SrdEdgeError) or not (full or _NO_SPACE in str(error)):
            raise
        raise _no_room(output, _NO_SPACE) from error


def _no_room(output: Path, found: str) -> RunError:
    return RunError(
        expected=f"room on the disk for a bundle at {output}",
        found=found,
        do="make room, choose another place with -o, or another --precision",
    )


def write_graphs(
    source: Source,
    parts: dict[str, Component],
    policy: PolicyCheckpoint | None,
    precision: Precision,
    calibration: Sequence[Pixels],
    work: Path,
    report: Callable[[str], None],
) -> dict[str, Path]:
    """Export a captioner's graphs and the policy's into ``work``; files by name.

    Args:
        source: the captioner.
        parts: its graphs.
        policy: the Q-network; None for none.
        precision: of the captioner's graphs; the Q-network's is fp32.
        calibration: canvases for static quantisation, (H, W, 3) uint8 RGB each.
        work: a folder.
        report: told one line a graph.
    """
    spec = source.captioner.preprocessing
    feeds = {"encoder": [encoder_inputs(canvas, spec) for canvas in calibration]}
    if policy is not None:
        parts = parts | {"policy": policy_component(policy.network)}
    files: dict[str, Path] = {}
    for name, component in parts.items():
        of_this: Precision = "fp32" if name == "policy" else precision
        path = write_graph(name, component, of_this, feeds.get(name), work, report)
        files[path.name] = path
    return files | packed(files, work / f"weights{SUFFIX[precision]}.onnx_data", report)


def packed(
    graphs: Mapping[str, Path], shared: Path, report: Callable[[str], None]
) -> dict[str, Path]:
    """The file that ``graphs`` share weights in, if they do."""
    if not pack(list(graphs.values()), shared):
        return {}
    report(f"weights outside of the graphs: {shared.name}, {shared.stat().st_size / 1e6:.2f} MB")
    return {shared.name: shared}


def write_graph(
    name: str,
    component: Component,
    precision: Precision,
    feeds: list[dict[str, NDArray[Any]]] | None,
    work: Path,
    report: Callable[[str], None],
) -> Path:
    """Export one graph into ``work``, its weights beside it until it is packed."""
    start = time.perf_counter()
    path = work / file_name(component.file_stem, precision)
    with status(f"exporting {name}"):
        if precision == "fp32":
            export_graph(component, path)
        else:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                exported = Path(folder) / path.name
                export_graph(component, exported)
                convert(exported, path, precision, feeds)
    size_mb, seconds = bytes_of(path) / 1e6, time.perf_counter() - start
    report(f"{name}: {path.name}, {size_mb:.2f} MB, {seconds:.1f} s")
    return path


def file_name(stem: str, precision: Precision) -> str:
    """As transformers.js names it."""
    return f"{stem}{SUFFIX[precision]}.onnx"
