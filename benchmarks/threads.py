"""One thread within an operator, or as many as there are cores?

    python benchmarks/threads.py [--frames 390] [--video SRC] [--bundle DIR]

A bundle is opened both ways, defended and undefended, and all four caption each frame before the
next is read, in turn. Ratios are medians over frames. One JSON document is written to
benchmarks/results/threads.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import click

from srd_edge.runtime import graphs
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.machine import usable_cores
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.sources import open_source
from srd_edge.runtime.terminal import progress_bar

RESULTS: Final = Path(__file__).parent / "results" / "threads.json"
FRAMES_KEPT: Final = 195
WARM_UP: Final = 20


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Captioners that are opened meanwhile get so many."""
    real = graphs.threads_of
    graphs.threads_of = lambda _: count
    try:
        yield
    finally:
        graphs.threads_of = real


def ratio(times: dict[Any, list[float]], one: Any, other: Any) -> float:
    pairs = zip(times[one][WARM_UP:], times[other][WARM_UP:], strict=True)
    return round(median(a / b for a, b in pairs), 4)


@click.command()
@click.option("--frames", "count", default=390)
@click.option("--video", default="demo")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
def main(count: int, video: str, bundle: Path | None) -> None:
    """Compare one thread with all cores."""
    with open_source(video) as source:
        frames = [sourced.frame for sourced in islice(source, FRAMES_KEPT)]
    cores = usable_cores()
    defenders = {}
    for number in (1, cores):
        for defend in (True, False):
            with threads(number):
                opened = Defender.load(bundle, provider="cpu", defend=defend)
            defenders[number, defend] = opened
    times: dict[Any, list[float]] = {key: [] for key in defenders}
    keys = list(defenders)
    with progress_bar(count, "rounds") as progress:
        for number, frame in enumerate(islice(cycle(frames), count)):
            first = number % len(keys)
            for key in keys[first:] + keys[:first]:
                times[key].append(defenders[key].caption(frame).total_ms)
            progress(number + 1)
    report = {
        "bundle": "built-in" if bundle is None else bundle.name,
        "frames": count - WARM_UP,
        "one_over_all": {
            "defended": ratio(times, (1, True), (cores, True)),
            "undefended": ratio(times, (1, False), (cores, False)),
        },
        "defended_over_undefended": {
            "one": ratio(times, (1, True), (1, False)),
            "all": ratio(times, (cores, True), (cores, False)),
        },
    } | provenance(["benchmarks/threads.py", *sys.argv[1:]], ("onnxruntime",))
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps([report["one_over_all"], report["defended_over_undefended"]]))


if __name__ == "__main__":
    main()
