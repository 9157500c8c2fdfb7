"""Does it last? Two runs for half an hour: memory, threads and open files must not grow.

    python benchmarks/soak.py [--minutes 30] [--every-s 5] [--size 1280x720] [--budget-ms 33]

Both are `srd-edge run` in processes of their own, with JSON lines, on the built-in clip scaled up:

    files    a list that names the clip over and over, as fast as it goes, without a budget
    camera   the clip's frames over and over as Motion JPEG on standard input, 30 a second, and a
             budget for each; in the first two minutes as many as are taken, so that the frames that
             wait are once as many as they will ever be

Their memory, threads and file handles are read from /proc every few seconds. The first minute does
not count (buffers grow to their size); after it, the most resident memory must stay within 2 % of
the most in the second minute (it goes up and down by a frame or two, as frames wait or not), and
there may never be more threads or handles than there were then. benchmarks/results/soak.json is
written anew with every sample, so that a run that is killed leaves what it had seen, marked as not
finished. The exit code is 1 where something grew, or a run ended by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import cv2
import numpy as np
from enlarged import FPS, enlarged_clip, enlarged_frames

from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.terminal import progress_bar

RESULTS: Final = Path(__file__).parent / "results" / "soak.json"
SETTLED_S: Final = 60.0
RUSH_S: Final = 120.0
SLACK: Final = 1.02
FRAMES_A_SECOND_AT_MOST: Final = 250
FRAMES_OF_THE_CLIP: Final = 195
INTERRUPTED: Final = 130
PACKAGES: Final = ("numpy", "onnxruntime", "opencv-python-headless")

Sample = dict[str, float]


@dataclass(slots=True)
class Leg:
    """A run that is watched."""

    name: str
    process: subprocess.Popen[bytes]
    samples: list[Sample] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    late: int = 0

    def count(self) -> None:
        """On a thread of its own: the results, as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            result = json.loads(line)
            self.verdicts[result["verdict"]] += 1
            self.late += result["within_budget"] is False

    def feed(self, pictures: Sequence[bytes]) -> None:
        """On a thread of its own: pictures, ``FPS`` a second, until nobody reads them."""
        assert self.process.stdin is not None
        due = paced = time.monotonic() + RUSH_S
        try:
            for picture in cycle(pictures):
                self.process.stdin.write(picture)
                self.process.stdin.flush()
                if (now := time.monotonic()) > paced:
                    due = max(due + 1 / FPS, now - 1)
                    time.sleep(max(due - now, 0))
        except (BrokenPipeError, ValueError):
            return

    def take_sample(self, second: float) -> None:
        self.samples.append({"second": round(second, 1)} | in_use(self.process.pid))


def in_use(pid: int) -> Sample:
    """What a process and those that it has started hold now."""
    parts = [held_by(pid)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            about = (process / "stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
            if int(about[1]) == pid:
                parts.append(held_by(int(process.name)))
    return {kind: round(sum(part[kind] for part in parts), 2) for kind in parts[0]}


def held_by(pid: int) -> Sample:
    """What a process holds now, from /proc; memory in MB."""
    proc = Path("/proc") / str(pid)
    lines = (proc / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {
        "rss_mb": round(kib["Rss"] * 1024 / 1e6, 2),
        "pss_mb": round(kib["Pss"] * 1024 / 1e6, 2),
        "threads": len(list((proc / "task").iterdir())),
        "handles": len(list((proc / "fd").iterdir())),
    }


def judged(samples: Sequence[Sample]) -> dict[str, Any]:
    """Whether memory, threads and handles stayed as they were, and by how much they did not."""
    settled = min(SETTLED_S, samples[-1]["second"] / 3)
    after = [sample for sample in samples if sample["second"] >= settled]
    settling = [sample for sample in after if sample["second"] <= 2 * settled] or after[:1]
    base = max(sample["rss_mb"] for sample in settling)
    most = max(sample["rss_mb"] for sample in after)
    third = max(len(after) // 3, 1)
    first, last = after[:third], after[-third:]
    medians = {
        kind: [median(sample[kind] for sample in part) for part in (first, last)]
        for kind in ("rss_mb", "threads", "handles")
    }
    seconds, rss = ([sample[kind] for sample in after] for kind in ("second", "rss_mb"))
    slope = np.polyfit(seconds, rss, 1)[0] if len(after) > 1 else 0.0
    grown = [
        kind
        for kind in ("threads", "handles")
        if max(s[kind] for s in after) > max(s[kind] for s in settling)
    ]
    return {
        "flat": bool(most <= SLACK * base and not grown),
        "rss_mb": {"second_minute": base, "most": most, "times": round(most / base, 4)},
        "rss_mb_an_hour": round(float(slope) * 3600, 2),
        "first_and_last_third": medians,
    }


def by_minute(samples: Sequence[Sample]) -> list[Sample]:
    """The most of each minute: what is kept of the samples."""
    minutes: dict[int, list[Sample]] = {}
    for sample in samples:
        minutes.setdefault(int(sample["second"] // 60), []).append(sample)
    kinds = ("rss_mb", "pss_mb", "threads", "handles")
    return [
        {"minute": minute} | {kind: max(sample[kind] for sample in found) for kind in kinds}
        for minute, found in minutes.items()
    ]


def write(legs: Sequence[Leg], facts: Mapping[str, Any], *, finished: bool) -> bool:
    """The results so far; whether nothing grew."""
    found = {
        leg.name: judged(leg.samples)
        | {
            "frames": leg.verdicts.total(),
            "verdicts": dict(leg.verdicts),
            "late": leg.late,
            "exit_code": leg.process.poll(),
            "by_minute": by_minute(leg.samples),
        }
        for leg in legs
    }
    flat = all(judgement["flat"] for judgement in found.values())
    report = {"finished": finished, "flat": flat} | dict(facts) | {"legs": found}
    whole = RESULTS.with_suffix(".part")
    whole.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    whole.replace(RESULTS)
    return flat


def started(folder: Path, width: int, height: int, minutes: float, budget_ms: float) -> list[Leg]:
    """Both runs, going."""
    clip = enlarged_clip(folder / "clip.mp4", width, height)
    times = int(minutes * 60 * FRAMES_A_SECOND_AT_MOST / FRAMES_OF_THE_CLIP) + 1
    (folder / "list.txt").write_text(f"{clip}\n" * times, encoding="utf-8")
    frames = enlarged_frames(width, height)
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in frames]
    run = [str(Path(sys.executable).with_name("srd-edge")), "run", "--quiet", "-o", "-", "--video"]
    commands = {
        "files": [*run, str(folder / "list.txt")],
        "camera": [*run, "-", "--budget-ms", str(budget_ms)],
    }
    legs = [
        Leg(name, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for name, command in commands.items()
    ]
    for leg in legs:
        threading.Thread(target=leg.count, daemon=True).start()
    threading.Thread(target=legs[1].feed, args=(pictures,), daemon=True).start()
    return legs


@click.command()
@click.option("--minutes", default=30.0)
@click.option("--every-s", default=5.0, help="Between two samples.")
@click.option("--size", default="1280x720")
@click.option("--budget-ms", default=33.0, help="Of the camera's frames.")
def main(minutes: float, every_s: float, size: str, budget_ms: float) -> None:
    """Watch two runs for a while."""
    # A job in the background is started deaf to it, and so would be the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    quiet_opencv()
    width, height = map(int, size.split("x"))
    facts = {
        "minutes": minutes,
        "size": [width, height],
        "budget_ms": budget_ms,
    } | provenance(["benchmarks/soak.py", *sys.argv[1:]], PACKAGES)
    samples = int(minutes * 60 / every_s)
    with tempfile.TemporaryDirectory() as folder, progress_bar(samples, "samples") as progress:
        legs = started(Path(folder), width, height, minutes, budget_ms)
        start = time.monotonic()
        try:
            for done in range(1, samples + 1):
                time.sleep(every_s)
                ended = [leg.name for leg in legs if leg.process.poll() is not None]
                if ended:
                    raise click.ClickException(f"{', '.join(ended)} ended after {done} samples")
                for leg in legs:
                    leg.take_sample(time.monotonic() - start)
                write(legs, facts, finished=False)
                progress(done)
        finally:
            for leg in legs:
                leg.process.send_signal(signal.SIGINT)
                leg.process.wait(30)
        flat = write(legs, facts, finished=True)
    codes = [leg.process.returncode for leg in legs]
    print(json.dumps({"flat": flat, "exit_codes": codes, "load": os.getloadavg()[0]}))
    sys.exit(0 if flat and set(codes) == {INTERRUPTED} else 1)


if __name__ == "__main__":
    main()
