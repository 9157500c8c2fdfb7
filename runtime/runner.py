"""The run itself: every frame of a source through the defence and into the sinks, counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from srd_edge.errors import RunError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result
from srd_edge.runtime.sinks import Sink
from srd_edge.runtime.source import Source, SourcedFrame, ready_frames
from srd_edge.runtime.tally import Summary, Tally

Progress: TypeAlias = Callable[[int], None]
"""Told after each frame how many are done."""


class Captioner(Protocol):
    """What turns frames into results; the real one is ``srd_edge.runtime.defender.Defender``."""

    def captions(
        self, frames: Mapping[int, Frame], *, compare: bool = False
    ) -> Mapping[int, Result]:
        """Caption a frame of each source, by source; each by what is known of its own alone."""

    def rest(self) -> None:
        """Between frames that come when they are asked for: finish what was not done in time."""

    def forget(self, source: int = 0) -> None:
        """Drop what is known of a source's earlier frames: the next is from another file."""


def captioned(
    source: Source, defender: Captioner, *, compare: bool = False, side_by_side: int = 1
) -> Generator[tuple[Frame, Result]]:
    """Every frame of ``source`` with what came of it; each captioned when it is asked for.

    Args:
        source: gone through once; whoever opened it closes it. If it has several files or is
            several sources, each result says which it is from.
        defender: captions one frame at a time, or one of each source.
        compare: also ask what the undefended model would have said.
        side_by_side: how many frames that have come already are captioned at once, at most: no
            more than one of a source.

    Raises:
        SourceError: from the source, after the frames before it.
    """
    files: dict[int, str] = {}
    for group in _groups(source, side_by_side):
        for sourced in group:
            if sourced.file != files.get(sourced.source):
                defender.forget(sourced.source)
                files[sourced.source] = sourced.file
        frames = {sourced.source: sourced.frame for sourced in group}
        results = defender.captions(frames, compare=compare)
        for sourced in group:
            result = results[sourced.source]
            if source.files > 1:
                result = replace(result, source=sourced.file)
            yield sourced.frame, result
        if not source.live:
            defender.rest()


def run(
    source: Source,
    defender: Captioner,
    sinks: Sequence[Sink],
    *,
    compare: bool = False,
    strict: bool = False,
    budget_ms: float | None = None,
    side_by_side: int = 1,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> Summary:
    """Caption every frame of ``source`` and hand the results to every sink.

    The source and the sinks are closed at the end, whatever ends it.

    Args:
        source, defender, compare, side_by_side: as for ``captioned``.
        sinks: written in this order.
        strict: treat a frame that does not keep its budget as an error.
        budget_ms: that budget, for the error's words.
        progress: called after each frame.
        tally: counts are kept in it. A caller that wants the summary of a run that was
            interrupted, or that failed halfway, passes one and asks it afterwards.

    Raises:
        RunError: for a late frame under ``strict``, after it was written; or from a sink.
        SourceError: from the source, after the frames before it were written.
        KeyboardInterrupt: as it came, with everything closed.
    """
    tally = Tally() if tally is None else tally
    with contextlib.ExitStack() as closing:
        closing.callback(tally.count_lost, sinks)
        for sink in reversed(sinks):
            closing.callback(sink.close)
        closing.callback(source.close)
        closing.callback(tally.note_arrivals, source)
        results = captioned(source, defender, compare=compare, side_by_side=side_by_side)
        for frame, result in results:
            for sink in sinks:
                sink.write(frame, result)
            tally.add(result)
            if progress is not None:
                progress(tally.frames)
            if strict and result.within_budget is False:
                budget = "its budget" if budget_ms is None else f"its budget of {budget_ms:g} ms"
                raise RunError(
                    expected=f"frame {result.frame} within {budget}",
                    found=f"{result.total_ms:.2f} ms",
                    do="raise --budget-ms, choose a faster provider, or leave --strict out",
                )
    return tally.summary()


def _groups(source: Source, most: int) -> Iterator[list[SourcedFrame]]:
    """Frames to be captioned side by side: what has come already, one of a source."""
    while True:
        try:
            ready = ready_frames(source, most)
        except StopIteration:
            return
        group: list[SourcedFrame] = []
        for frame in ready:
            if any(other.source == frame.source for other in group):
                yield group
                group = []
            group.append(frame)
        yield group
