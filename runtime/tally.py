"""A run in numbers: results counted while they come in, and the summary at any time."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from srd_edge.runtime.reasons import plural
from srd_edge.runtime.records import VERDICTS, Result
from srd_edge.runtime.sinks import Lossy, Sink
from srd_edge.runtime.source import Arrivals, Source

if TYPE_CHECKING:
    from rich.columns import Columns
    from rich.table import Table

PERCENTILES: Final = (50, 90, 95, 99)
TIMES_KEPT: Final = 100_000
"""An hour of a camera: a run has no end to speak of, and its memory must not grow with it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers.

    Args:
        frames: how many frames were captioned (or held).
        verdicts: frames by verdict, each of them.
        compared: frames with a raw caption to compare with.
        captions_changed: those whose caption differs from the raw one.
        total_ms: percentiles of the time from frame to caption, in ms, by name ("p50", ...), over
            the last ``TIMES_KEPT`` frames; empty without frames.
        stage_ms: mean ms by stage, over the frames in which it ran.
        late: frames that did not keep the budget.
        degraded: frames by what was given up in them.
        lost: results that were not delivered, by sink; sinks that lost none are left out.
        arrivals: what a live source passed over, and how often it was got back.
    """

    frames: int
    verdicts: Mapping[str, int]
    compared: int
    captions_changed: int
    total_ms: Mapping[str, float]
    stage_ms: Mapping[str, float]
    late: int
    degraded: Mapping[str, int]
    lost: Mapping[str, int] = field(default_factory=dict)
    arrivals: Arrivals = field(default_factory=Arrivals)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; times rounded to microseconds."""
        return {
            "frames": self.frames,
            "verdicts": dict(self.verdicts),
            "compared": self.compared,
            "captions_changed": self.captions_changed,
            "total_ms": {name: round(ms, 3) for name, ms in self.total_ms.items()},
            "stage_ms": {name: round(ms, 3) for name, ms in self.stage_ms.items()},
            "late": self.late,
            "degraded": dict(self.degraded),
            "lost": dict(self.lost),
            "passed_over": self.arrivals.passed_over,
            "reconnections": self.arrivals.reconnections,
        }

    def table(self) -> Table:
        """The same for a person, to be printed with a rich Console."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        table.add_column(style="dim")
        table.add_column()
        table.add_row("frames", _listed({"": self.frames} | dict(self.verdicts)))
        if self.compared:
            changed = (
                f"{self.captions_changed} of {self.compared} differ from the undefended model's"
            )
            table.add_row("captions", changed)
        if self.total_ms:
            table.add_row("ms a frame", times(self.total_ms))
        if self.stage_ms:
            table.add_row("mean ms by stage", times(self.stage_ms))
        if self.late:
            table.add_row("over the budget", plural(self.late, "frame"))
        if self.degraded:
            table.add_row("given up", _listed(self.degraded))
        for sink, count in self.lost.items():
            table.add_row("not delivered", f"{plural(count, 'result')} to {sink}")
        if self.arrivals.passed_over:
            passed = plural(self.arrivals.passed_over, "frame")
            table.add_row("passed over", f"{passed} for newer ones")
        if self.arrivals.reconnections:
            table.add_row("reconnected", plural(self.arrivals.reconnections, "time"))
        return table


@dataclass(slots=True)
class Tally:
    """Counts results while they come in; ``summary`` may be asked for at any time.

    ``total_ms`` holds the times of the last ``TIMES_KEPT`` frames, in no order once there are more.
    """

    frames: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    captions_changed: int = 0
    late: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    total_ms: array[float] = field(default_factory=lambda: array("d"))
    stage_sum_ms: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    stage_runs: Counter[str] = field(default_factory=Counter)
    arrivals: Arrivals = field(default_factory=Arrivals)

    def add(self, result: Result) -> None:
        if self.frames < TIMES_KEPT:
            self.total_ms.append(result.total_ms)
        else:
            self.total_ms[self.frames % TIMES_KEPT] = result.total_ms
        self.frames += 1
        self.verdicts[result.verdict] += 1
        if result.raw_caption is not None:
            self.compared += 1
            self.captions_changed += result.raw_caption != result.caption
        self.late += result.within_budget is False
        self.degraded.update(result.degraded)
        for stage, ms in result.stage_ms.items():
            self.stage_sum_ms[stage] += ms
            self.stage_runs[stage] += 1

    def count_lost(self, sinks: Sequence[Sink]) -> None:
        """Note what each sink has lost, once all are closed."""
        for sink in sinks:
            if isinstance(sink, Lossy) and sink.lost:
                self.lost[sink.name] += sink.lost

    def note_arrivals(self, source: Source) -> None:
        self.arrivals = source.arrivals

    def summary(self) -> Summary:
        all_ms = np.asarray(self.total_ms)
        ranks = np.percentile(all_ms, PERCENTILES) if len(all_ms) else ()
        return Summary(
            frames=self.frames,
            verdicts={name: self.verdicts[name] for name in VERDICTS},
            compared=self.compared,
            captions_changed=self.captions_changed,
            total_ms={f"p{rank}": float(ms) for rank, ms in zip(PERCENTILES, ranks, strict=False)},
            stage_ms={name: ms / self.stage_runs[name] for name, ms in self.stage_sum_ms.items()},
            late=self.late,
            degraded=dict(self.degraded),
            lost=dict(self.lost),
            arrivals=self.arrivals,
        )


def times(times_ms: Mapping[str, float], digits: int = 1) -> Columns:
    """Milliseconds by name, to be printed with a rich Console."""
    return _beside(f"{name} {ms:.{digits}f}" for name, ms in times_ms.items())


def _listed(counts: Mapping[str, int]) -> Columns:
    return _beside(f"{count} {name}".strip() for name, count in counts.items() if count)


def _beside(parts: Iterable[str]) -> Columns:
    """One beside the other, in as many rows as they take; none is cut in two that has room."""
    from rich.columns import Columns
    from rich.text import Text

    return Columns(map(Text, parts), padding=(0, 3, 0, 0))
