"""What does a source cost more? Frames of several sources captioned at once, and one by one.

    python benchmarks/streams.py [--rounds 60] [--video SRC] [--bundle DIR]

Sources are the same clip from different places on. Each round captions a frame of each source side
by side, and the same frames one after the other, in turn; the first rounds are left out. One JSON
document is written to benchmarks/results/streams.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import click

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.records import Result
from srd_edge.runtime.sources import open_source
from srd_edge.runtime.terminal import progress_bar

RESULTS: Final = Path(__file__).parent / "results" / "streams.json"
SOURCES: Final = (1, 2, 4, 8)
WARM_UP: Final = 10
FRAMES_KEPT: Final = 192


Shown: TypeAlias = dict[int, Frame]
Told: TypeAlias = dict[int, Result]


def timed(work: Callable[[Shown], Told], shown: Shown) -> tuple[Told, float]:
    """What it gives, and its milliseconds."""
    start = time.perf_counter()
    told = work(shown)
    return told, (time.perf_counter() - start) * 1e3


def compared(
    defender: Defender, frames: list[Frame], sources: int, rounds: int, done: Callable[[int], None]
) -> dict[str, Any]:
    """Medians over rounds, and how many captions are the same either way."""

    def in_turn(shown: Shown) -> Told:
        return {n: defender.caption(frame, source=n) for n, frame in shown.items()}

    apart = len(frames) // sources
    at_once_ms, in_turn_ms, equal = [], [], 0
    for number in range(rounds + WARM_UP):
        shown = {n: frames[(n * apart + number) % len(frames)] for n in range(sources)}
        if number % 2:
            said, said_ms = timed(defender.captions, shown)
            alone, alone_ms = timed(in_turn, shown)
        else:
            alone, alone_ms = timed(in_turn, shown)
            said, said_ms = timed(defender.captions, shown)
        done(number)
        if number >= WARM_UP:
            at_once_ms.append(said_ms)
            in_turn_ms.append(alone_ms)
            equal += sum(said[n].caption == alone[n].caption for n in shown)
    ratios = [one / other for one, other in zip(at_once_ms, in_turn_ms, strict=True)]
    return {
        "sources": sources,
        "at_once_ms_a_frame": round(median(at_once_ms) / sources, 3),
        "in_turn_ms_a_frame": round(median(in_turn_ms) / sources, 3),
        "at_once_of_in_turn": round(median(ratios), 4),
        "captions_equal": round(equal / (rounds * sources), 4),
    }


@click.command()
@click.option("--rounds", default=60)
@click.option("--video", default="demo")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
def main(rounds: int, video: str, bundle: Path | None) -> None:
    """Compare captioning at once and in turn."""
    with open_source(video) as source:
        frames = [sourced.frame for sourced in islice(source, FRAMES_KEPT)]
    defender = Defender.load(bundle, provider="cpu")
    found = []
    for sources in SOURCES:
        with progress_bar(rounds + WARM_UP, "rounds") as progress:
            found.append(compared(defender, frames, sources, rounds, progress))
        print(json.dumps(found[-1]), file=sys.stderr)
    report = {
        "runs": found,
        "video": video,
        "rounds": rounds,
    } | provenance(["benchmarks/streams.py", *sys.argv[1:]], ("onnxruntime", "numpy"))
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
