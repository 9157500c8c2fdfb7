"""Is it worth keeping graphs that onnxruntime has optimised already, to open them faster?

    python benchmarks/optimised_graphs.py [BUNDLE ...]

Each graph is opened as the runtime opens it, and as onnxruntime saved it after that, in turn; the
processor time of each, and that of the SHA-256 that whoever opens a kept graph has to take, so as
not to run what somebody else has put there. One JSON document is written to
benchmarks/results/optimised_graphs.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import onnxruntime

from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.provenance import provenance

RESULTS: Final = Path(__file__).parent / "results" / "optimised_graphs.json"
ALL: Final = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
NONE: Final = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
ROUNDS: Final = 5


def opened(graph: Path, level: Any, kept: Path | None = None) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.intra_op_num_threads = 1
    if kept is not None:
        options.optimized_model_filepath = str(kept)
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def digest(graph: Path) -> None:
    with graph.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def processor_s(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(graph: Path, kept: Path) -> dict[str, Any]:
    """Medians, in seconds of processor time."""
    opened(graph, ALL, kept)
    works: dict[str, Callable[[], None]] = {
        "open_s": lambda: opened(graph, ALL),
        "open_optimised_s": lambda: opened(kept, NONE),
        "sha256_s": lambda: digest(kept),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(processor_s(work))
    found = {name: round(median(some), 4) for name, some in times.items()}
    return {"graph": graph.name, "mb": round(graph.stat().st_size / 1e6, 1)} | found


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
def main(bundles: tuple[Path, ...]) -> None:
    """Open every graph of BUNDLES both ways; without any, of the built-in one."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles or (None,):
            directory = read_bundle(bundle).directory
            for graph in sorted(directory.glob("*.onnx")):
                found = compared(graph, Path(folder) / "kept.onnx")
                runs.append({"bundle": "built-in" if bundle is None else bundle.name} | found)
                print(json.dumps(runs[-1]), file=sys.stderr)
    report = {
        "graphs": runs,
        "rounds": ROUNDS,
    } | provenance(
        ["benchmarks/optimised_graphs.py", *(bundle.name for bundle in bundles)], ("onnxruntime",)
    )
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
