"""Frames a second of `srd-edge run`, from the command to its end: reading, defence and writing.

    python benchmarks/whole_runs.py [--size 1280x720] [--rounds 5]

The built-in clip, scaled up, is captioned by fresh processes that write JSON lines, in turn:
defended, undefended, with an annotated video, and with a budget of a camera's 33 ms. The seconds
until the first line are told apart from those of the frames after it. Given are medians over
rounds, and ratios to the undefended run of the same round. One JSON document is written to
benchmarks/results/whole_runs.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
from enlarged import enlarged_clip

from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.terminal import progress_bar

RESULTS: Final = Path(__file__).parent / "results" / "whole_runs.json"
PACKAGES: Final = ("numpy", "onnxruntime", "opencv-python-headless")
UNDEFENDED: Final = "undefended"
CAMERA_MS: Final = 33


def timed(words: list[str]) -> dict[str, float]:
    """One run: seconds until its first line and from there to its end, and its frames."""
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.perf_counter()
        frames = 1 + sum(1 for _ in process.stdout)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    end = time.perf_counter()
    return {
        "first_caption_s": first - start,
        "ms_a_frame": 1e3 * (end - first) / (frames - 1),
        "frames": frames,
    }


def medians(rounds: list[Mapping[str, Mapping[str, float]]], name: str) -> dict[str, Any]:
    found = {kind: round(median(one[name][kind] for one in rounds), 4) for kind in rounds[0][name]}
    times = [one[name]["ms_a_frame"] / one[UNDEFENDED]["ms_a_frame"] for one in rounds]
    return found | {
        "frames_a_second": round(1e3 / found["ms_a_frame"], 1),
        "of_undefended": round(median(times), 4),
        "of_undefended_least_and_most": [round(min(times), 4), round(max(times), 4)],
    }


@click.command()
@click.option("--size", default="1280x720")
@click.option("--rounds", "count", default=5)
def main(size: str, count: int) -> None:
    """Time whole runs."""
    quiet_opencv()
    width, height = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = enlarged_clip(folder / "clip.mp4", width, height)
        run = [str(Path(sys.executable).with_name("srd-edge")), "run", "--quiet", "-o", "-"]
        run += ["--video", str(clip)]
        commands = {
            "defended": run,
            UNDEFENDED: [*run, "--no-defense"],
            "annotated": [*run, "--annotate", str(folder / "annotated.webm")],
            "in a budget": [*run, "--budget-ms", str(CAMERA_MS)],
        }
        rounds: list[Mapping[str, Mapping[str, float]]] = []
        with progress_bar(count * len(commands), "runs") as progress:
            for number in range(count):
                found = {}
                first = number % len(commands)
                for step, key in enumerate([*commands][first:] + [*commands][:first]):
                    found[key] = timed(commands[key])
                    progress(number * len(commands) + step + 1)
                rounds.append(found)
    report = {
        "size": [width, height],
        "rounds": count,
        "budget_ms": CAMERA_MS,
        "runs": {key: medians(rounds, key) for key in commands},
    } | provenance(["benchmarks/whole_runs.py", *sys.argv[1:]], PACKAGES)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["runs"], indent=1))


if __name__ == "__main__":
    main()
