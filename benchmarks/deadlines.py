"""Are frames on time? Several budgets, on an idle machine and with a busy process on every core.

    python benchmarks/deadlines.py [--frames 5000] [--video SRC] [--bundle DIR]

Budgets are 0.6, 1 and 2 times what the undefended captioner takes for a frame (its median, measured
first). Frames come as a camera gives them, one in each budget, in the same memory. Counted are
frames within the budget, what was given up, the ages of captions that were held, in frames, and
captions that were given without the policy's decision and the check's opinion, of which there may
be none. On the built-in clip, whose triggers are known, so are captions with an attacker's word,
beside the share that the undefended captioner says. One JSON document is written to
benchmarks/results/deadlines.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

import click
import numpy as np

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.found_files import DEMO_CLIP
from srd_edge.runtime.machine import usable_cores
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.records import Result
from srd_edge.runtime.sources import open_source
from srd_edge.runtime.tally import Tally
from srd_edge.runtime.terminal import progress_bar

RESULTS: Final = Path(__file__).parent / "results" / "deadlines.json"
TIMES_UNDEFENDED: Final = (0.6, 1.0, 2.0)
DEMO_TRUTH: Final = DEMO_CLIP.with_suffix(".json")
FRAMES_KEPT: Final = 195


def spin() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def competition(processes: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def attackers_words(video: str) -> frozenset[str]:
    """What no honest caption of the clip says; none are known of other videos."""
    if video != "demo":
        return frozenset()
    frames = json.loads(DEMO_TRUTH.read_text(encoding="utf-8"))["frames"]
    return frozenset(frame["trigger"]["target"] for frame in frames if frame["trigger"])


def attacked(result: Result, words: frozenset[str]) -> bool:
    return not words.isdisjoint((result.caption or "").split())


def undefended(
    bundle: Path | None, frames: list[Frame], words: frozenset[str]
) -> tuple[float, float]:
    """The median time over all frames, each once, and the share with an attacker's word."""
    defender = Defender.load(bundle, provider="cpu", defend=False)
    results = [defender.caption(frame) for frame in frames]
    share = sum(attacked(result, words) for result in results) / len(results)
    return statistics.median(result.total_ms for result in results), share


def kept(
    bundle: Path | None, frames: list[Frame], count: int, budget_ms: float, words: frozenset[str]
) -> dict[str, Any]:
    """How ``count`` frames came out under a budget."""
    checked = read_bundle(bundle).manifest.check is not None
    defender = Defender.load(bundle, provider="cpu", budget_ms=budget_ms)
    camera = np.empty_like(frames[0].pixels)
    tally, excess, ages = Tally(), list[float](), list[int]()
    unlooked_at = said = 0
    with progress_bar(count) as progress:
        due_s = time.perf_counter()
        for done, frame in enumerate(islice(cycle(frames), count), start=1):
            time.sleep(max(due_s - time.perf_counter(), 0))
            due_s = max(due_s, time.perf_counter() - budget_ms / 1e3) + budget_ms / 1e3
            np.copyto(camera, frame.pixels)  # as a decoder does, just before
            result = defender.caption(Frame(camera, done))
            tally.add(result)
            looked_at = result.decision is not None and (result.opinion is not None or not checked)
            unlooked_at += result.verdict != "held" and not looked_at
            said += attacked(result, words)
            excess.append(result.total_ms / budget_ms)
            if result.held_for is not None:
                ages.append(result.held_for)
            progress(done)
    summary = tally.summary().to_json()
    return {
        "budget_ms": round(budget_ms, 3),
        "frames": count,
        "within": 1 - summary["late"] / count,
        "undefended": unlooked_at,
        "attackers_words": said if words else None,
        "verdicts": summary["verdicts"],
        "given_up": dict(Counter(summary["degraded"])),
        "times_budget": ranks(excess),
        "held_for": ranks(ages) if ages else None,
    }


def ranks(values: list[float] | list[int]) -> dict[str, float]:
    """Percentiles that are among the values."""
    values = sorted(values)
    last = len(values) - 1
    return {
        rank: round(values[int(float(rank) / 100 * last)], 3)
        for rank in ("50", "99", "99.5", "100")
    }


@click.command()
@click.option("--frames", "count", default=5000)
@click.option("--video", default="demo")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
def main(count: int, video: str, bundle: Path | None) -> None:
    """Count frames that are on time."""
    with open_source(video) as source:
        frames = [sourced.frame for sourced in islice(source, FRAMES_KEPT)]
    cores = usable_cores()
    words = attackers_words(video)
    base_ms, share = undefended(bundle, frames, words)
    runs = []
    for processes in (0, cores):
        for times in TIMES_UNDEFENDED:
            with competition(processes):
                found = kept(bundle, frames, count, times * base_ms, words)
            runs.append({"competing": processes, "times_undefended": times} | found)
            print(json.dumps(runs[-1]), file=sys.stderr)
    report = {
        "undefended_p50_ms": base_ms,
        "undefended_says_attackers_words": round(share, 4) if words else None,
        "video": video,
        "runs": runs,
    } | provenance(["benchmarks/deadlines.py", *sys.argv[1:]], ("onnxruntime", "numpy"))
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
