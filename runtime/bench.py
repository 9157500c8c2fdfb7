"""``srd-edge bench``: what a bundle costs on this device, defended beside undefended.

Every frame is captioned by every contestant before the next is read, each goes first in turn, and
the first frames are left out, so that whatever else the machine does falls on all of them alike.
What is claimed is a ratio between contestants of one run; milliseconds are this machine's, today.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from srd_edge import __version__
from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.addresses import without_secrets
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.fresh_process import start_afresh
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.records import Result
from srd_edge.runtime.runner import Progress
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.sources import open_source
from srd_edge.runtime.standard_input import reads_standard_input
from srd_edge.runtime.tally import Tally, times

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

SCHEMA: Final = 1
DEFENDED: Final = "defended"
UNDEFENDED: Final = "undefended"
GATED: Final = "gated"
NOISE: Final = 2
"""Grey levels that a pixel of a scene that stands still is off by, at most."""
_PACKAGES: Final = ("numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "torch")
_STARTS: Final = 3
_FRAMES_OF_A_START: Final = 30
_BYTES_KEPT: Final = 1 << 29
"""Of the source's frames, in memory: 194 of 1280 x 720."""

Contestant: TypeAlias = Callable[[Frame], Result]


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured.

    Args:
        bundle: a directory; None for the built-in one.
        source: SRC as in ``srd_edge.runtime.sources``; its frames are gone through in a circle.
        frames: how many are captioned by each contestant.
        warm_up: how many before them do not count.
        budget_ms: of a frame; None for none.
        gate: level of a gate, as in ``srd_edge.runtime.gate``, for a contestant that is shown the
            source's first frame over and over, with noise of NOISE grey levels; None for none.
        provider, strict: as in ``Defender.load``.
        start: whether fresh processes are started too, for the time to a first caption and memory.

    Raises:
        UsageError: if those would find standard input read already.
    """

    bundle: Path | None = None
    source: str = "demo"
    frames: int = 300
    warm_up: int = 20
    budget_ms: float | None = None
    gate: float | None = None
    provider: Provider = "auto"
    strict: bool = False
    start: bool = True

    def __post_init__(self) -> None:
        if self.start and reads_standard_input(self.source):
            raise UsageError(
                expected="a source that fresh processes can open too",
                found=f"standard input ('{self.source}'), which is read once",
                do="add --no-start, or name a file",
            )


def bench(
    config: BenchConfig,
    peers: Mapping[str, Contestant] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a bundle; see ``table`` for people.

    Args:
        config: what is measured.
        peers: further contestants, by name.
        progress: told after each frame how many are done.

    Returns:
        Plain JSON values: ``contestants`` with counts and percentiles of each, ``ratios`` of their
        times to the undefended captioner's, the same over frames that the defence found clean
        (``ratios_where_clean``), ``start`` of a fresh process, and what it was measured on and
        with.

    Raises:
        SrdEdgeError: as ``Defender.load`` and ``open_source``.
    """
    frames = _frames(config)
    contestants = _ours(config, frames[0]) | dict(peers or {})
    tallies = {name: Tally() for name in contestants}
    names = tuple(contestants)
    clean: list[bool] = []
    for number in range(-config.warm_up, config.frames):
        frame = frames[number % len(frames)]
        for name in _in_turn(names, number):
            result = contestants[name](frame)
            if number >= 0:
                tallies[name].add(result)
                if name == DEFENDED:
                    clean.append(result.verdict == "clean")
        if progress is not None:
            progress(number + config.warm_up + 1)
    return {
        "schema": SCHEMA,
        "srd_edge": __version__,
        "bundle": "built-in" if config.bundle is None else str(config.bundle),
        "source": without_secrets(config.source),
        "size": list(frames[0].pixels.shape[1::-1]),
        "frames": config.frames,
        "budget_ms": config.budget_ms,
        "gate": config.gate,
        "contestants": {name: _figures(tally) for name, tally in tallies.items()},
        "ratios": _ratios(tallies),
        "ratios_where_clean": _ratios(tallies, clean) if any(clean) else None,
        "start": _started(config) if config.start else None,
    } | provenance(["srd-edge", *sys.argv[1:]], _PACKAGES)


def table(report: Mapping[str, Any]) -> Group:
    """The report for a person, to be printed with a rich Console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    shown = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    shown.add_column("ms a frame", style="dim", no_wrap=True)
    ratios = f"of\n{UNDEFENDED}", "where\nclean"
    for name in ("p50", "p90", "p95", "p99", "frames/s", *ratios, "late"):
        shown.add_column(name, justify="right", no_wrap=True)
    by_stage = Table(box=box.SIMPLE, pad_edge=False)
    by_stage.add_column("mean ms", style="dim", no_wrap=True)
    by_stage.add_column("by stage")
    for name, found in report["contestants"].items():
        ranks = [f"{found['total_ms'][rank]:.1f}" for rank in ("p50", "p90", "p95", "p99")]
        found_of = [(report[of] or {}).get(name) for of in ("ratios", "ratios_where_clean")]
        of_undefended = ["–" if ratio is None else f"{ratio:.2f}" for ratio in found_of]
        late = "–" if report["budget_ms"] is None else str(found["late"])
        rate = f"{found['frames_a_second']:.1f}"
        shown.add_row(name, *ranks, rate, *of_undefended, late)
        if found["stage_ms"]:
            by_stage.add_row(name, times(found["stage_ms"], digits=2))
    parts: list[RenderableType] = [shown, by_stage]
    if (start := report["start"]) is not None:
        parts.append(
            f"from process start to the first caption {start['first_caption_s']:.2f} s; "
            f"peak memory {start['peak_mb']:.0f} MB\n"
        )
    return Group(*parts)


def _in_turn(names: Sequence[str], number: int) -> list[str]:
    """Each goes first in turn, and each goes after each as often as before it.

    Who has just looked at a frame leaves it in the processor's cache for the next.
    """
    rounds, first = divmod(number, len(names))
    ordered = [*names[first:], *names[:first]]
    return ordered[::-1] if rounds % 2 else ordered


def _ours(config: BenchConfig, scene: Frame) -> dict[str, Contestant]:
    def opened(*, defend: bool = True, gate: float | None = None) -> Contestant:
        defender = Defender.load(
            config.bundle,
            budget_ms=config.budget_ms,
            gate_level=gate,
            provider=config.provider,
            strict=config.strict,
            defend=defend,
        )

        def caption(frame: Frame) -> Result:
            result = defender.caption(frame)
            defender.rest()
            return result

        return caption

    ours = {DEFENDED: opened(), UNDEFENDED: opened(defend=False)}
    if config.gate is not None:
        ours[GATED] = _before(scene, opened(gate=config.gate))
    return ours


def _before(scene: Frame, contestant: Contestant) -> Contestant:
    """``contestant`` before a scene that stands still, as a camera sees it: never twice the same.

    Whatever frame is asked about, it is shown ``scene`` with fresh noise.
    """
    rng = np.random.default_rng(0)

    def caption(frame: Frame) -> Result:
        noise = rng.integers(-NOISE, NOISE + 1, scene.pixels.shape, np.int16)
        pixels = np.clip(scene.pixels + noise, 0, 255).astype(np.uint8)
        return contestant(replace(frame, pixels=pixels))

    return caption


def _frames(config: BenchConfig) -> list[Frame]:
    """The first frames of the source, decoded beforehand: decoding is not what is measured."""
    frames: list[Frame] = []
    room = _BYTES_KEPT
    with open_source(config.source) as source:
        for sourced in islice(source, config.frames):
            frames.append(sourced.frame)
            room -= sourced.frame.pixels.nbytes
            if room <= 0:
                break
    if not frames:
        raise SourceError(
            expected=f"frames in '{without_secrets(config.source)}'",
            found="none",
            do="name another source",
        )
    return frames


def _figures(tally: Tally) -> dict[str, Any]:
    found = tally.summary().to_json()
    mean_ms = float(np.mean(tally.total_ms))
    kept = ("verdicts", "total_ms", "stage_ms", "late", "degraded")
    return {name: found[name] for name in kept} | {
        "mean_ms": round(mean_ms, 3),
        "frames_a_second": round(1e3 / mean_ms, 2),
    }


def _ratios(
    tallies: Mapping[str, Tally], counted: Sequence[bool] | None = None
) -> dict[str, float]:
    """Median over frames of each contestant's time over the undefended captioner's, same frame.

    Args:
        tallies: of all contestants.
        counted: which frames count; None for all.
    """
    base = np.asarray(tallies[UNDEFENDED].total_ms)
    of = slice(None) if counted is None else np.asarray(counted)
    return {
        name: round(float(np.median((np.asarray(tally.total_ms) / base)[of])), 4)
        for name, tally in tallies.items()
        if name != UNDEFENDED
    }


def _started(config: BenchConfig) -> dict[str, float]:
    """Seconds to the first line of fresh processes (the median), and the most memory of any."""
    bundle = [] if config.bundle is None else ["--bundle", str(config.bundle)]
    command = [str(Path(sys.executable).with_name("srd-edge")), "run", "--quiet"]
    command += ["--video", config.source, "--max-frames", str(_FRAMES_OF_A_START)]
    command += [*bundle, "--provider", config.provider, *["--strict"] * config.strict]
    if config.budget_ms is not None:
        command += ["--budget-ms", str(config.budget_ms)]
    runs = [start_afresh(command) for _ in range(_STARTS)]
    json.loads(runs[0].line)
    return {
        "first_caption_s": round(median(run.first_line_s for run in runs), 3),
        "peak_mb": round(max(run.peak_mb for run in runs), 1),
    }
