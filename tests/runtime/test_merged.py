"""Several sources as one: fair, told apart, and none held up or ended by another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.merged import MergedSource
from srd_edge.runtime.reader_thread import ReaderThread
from srd_edge.runtime.source import Arrivals, SourcedFrame, SourceFacts, ready_frames
from srd_edge.runtime.sources import open_sources

GONE = SourceError(expected="frames", found="nothing", do="look")


def frames(
    count: int, end: SourceError | None = None, gate: threading.Event | None = None
) -> Iterator[SourcedFrame]:
    """``count`` frames, after ``gate`` is open; then ``end``."""
    if gate is not None:
        assert gate.wait(10)
    for index in range(count):
        yield SourcedFrame(Frame(np.zeros((2, 2, 3), np.uint8), index), "made up")
    if end is not None:
        raise end


def source(
    name: str, generator: Iterator[SourcedFrame], *, live: bool = False, count: int | None = None
) -> ReaderThread:
    facts = SourceFacts(name, frames=count, live=live)
    return ReaderThread(generator, facts)  # type: ignore[arg-type]


def taken(merged: MergedSource) -> list[tuple[int, int]]:
    return [(item.source, item.frame.index) for item in merged]


def all_ready(merged: MergedSource, waiting: int) -> None:
    """Start to read, and return when so many frames wait."""
    there = threading.Event()
    merged.watch(lambda: there.set() if merged.waiting == waiting else None)
    assert there.wait(10)


def test_sources_take_turns_and_keep_their_numbers() -> None:
    with MergedSource([source(name, frames(4), count=4) for name in "abc"]) as merged:
        assert (merged.files, merged.frames, merged.live, merged.fps) == (3, 12, False, None)
        all_ready(merged, 12)
        assert taken(merged) == [(number, index) for index in range(4) for number in range(3)]
        assert (merged.waiting, merged.ended) == (0, True)
        assert list(merged) == []


def test_a_slow_source_holds_up_nobody() -> None:
    gate = threading.Event()
    with MergedSource([source("slow", frames(2, gate=gate)), source("b", frames(30))]) as merged:
        first = [next(merged) for _ in range(30)]
        assert [item.source for item in first] == [1] * 30
        gate.set()
        assert taken(merged) == [(0, 0), (0, 1)]


def test_a_batch_is_what_all_of_them_have_ready() -> None:
    gate = threading.Event()
    a, b, c = source("a", frames(3)), source("b", frames(1)), source("c", frames(1, gate=gate))
    with MergedSource([a, b, c]) as merged:
        all_ready(merged, 4)
        batch = ready_frames(merged, 3)
        assert [(item.source, item.frame.index) for item in batch] == [(0, 0), (1, 0), (0, 1)]
        assert len(ready_frames(merged, 8)) == 1
        gate.set()
        assert taken(merged) == [(2, 0)]


def test_frames_are_counted_over_all_of_them() -> None:
    with MergedSource([source(n, frames(9), count=9) for n in "ab"], max_frames=5) as merged:
        assert merged.frames == 5
        all_ready(merged, 5)
        assert len(ready_frames(merged, 99)) == 5
        assert list(merged) == []


def test_a_live_source_that_fails_ends_alone_with_a_line() -> None:
    said: list[str] = []
    gate = threading.Event()
    live, file = source("cam", frames(1, GONE), live=True), source("film", frames(3, gate=gate))

    def say(line: str) -> None:
        said.append(line)
        gate.set()

    with MergedSource([live, file], say=say) as merged:
        assert taken(merged) == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert said == [f"cam: {GONE}; the other sources go on"]
    assert merged.arrivals == Arrivals()


def test_the_statuses_of_all_are_its_own() -> None:
    a = source("a", frames(0, GONE), live=True)
    b, c = source("b", frames(1)), source("c", frames(5), live=True)
    with MergedSource([a, b, c]) as merged:
        conditions = [(s.name, s.live, s.condition) for s in merged.statuses]
        assert conditions == [(name, name != "b", "reading") for name in "abc"]
        assert len(taken(merged)) == 6
        assert [s.condition for s in merged.statuses] == ["failed", "ended", "ended"]
    assert [s.condition for s in merged.statuses] == ["failed", "ended", "ended"]


def test_a_live_source_that_fails_last_is_told_of() -> None:
    said: list[str] = []
    done = threading.Event()
    live, file = source("cam", frames(1, GONE, done), live=True), source("film", frames(3))
    with MergedSource([live, file], say=said.append) as merged:
        assert [next(merged).source for _ in range(3)] == [1, 1, 1]
        done.set()
        assert taken(merged) == [(0, 0)]
    assert [line.removesuffix("; the other sources go on") for line in said] == [f"cam: {GONE}"]


@pytest.mark.parametrize("live", [True, False])
def test_the_run_fails_if_all_do_or_any_file_does(live: bool) -> None:
    both = [source("a", frames(2, GONE), live=True), source("b", frames(2, GONE), live=True)]
    if not live:
        both = [source("a", frames(2, GONE)), source("b", frames(2))]
    with MergedSource(both) as merged:
        seen: list[int] = []
        with pytest.raises(SourceError, match="found nothing"):
            seen.extend(next(merged).source for _ in range(9))
        assert sorted(seen) == [0, 0, 1, 1]
        assert list(merged) == []


def test_close_ends_all_threads() -> None:
    merged = MergedSource([source(name, frames(99)) for name in "abc"])
    assert next(merged).frame.index == 0
    merged.close()
    merged.close()
    assert list(merged) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "srd-edge reader"]


def test_every_source_is_closed_even_if_one_cannot_be() -> None:
    a, b, c = (source(name, frames(99)) for name in "abc")
    closes = b.close

    def fail() -> None:
        closes()
        raise ZeroDivisionError("while closing")

    b.close = fail  # type: ignore[method-assign]
    merged = MergedSource([a, b, c])
    assert next(merged).frame.index == 0
    with pytest.raises(ZeroDivisionError, match="while closing"):
        merged.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "srd-edge reader"]


class ClosedWhenLookedAt(ReaderThread):
    """Has somebody else close the merged source at the worst moment: while it is asked."""

    closes: MergedSource | None = None

    @property
    def waiting(self) -> int:
        found, merged = super().waiting, self.closes
        if merged is not None:
            self.closes = None
            closing = threading.Thread(target=merged.close)
            closing.start()
            closing.join(10)
            assert not closing.is_alive()
        return found


def three_that_wait(count: int) -> tuple[MergedSource, list[ClosedWhenLookedAt]]:
    sources = [
        ClosedWhenLookedAt(frames(count), SourceFacts(name))  # type: ignore[arg-type]
        for name in "abc"
    ]
    merged = MergedSource(sources)
    all_ready(merged, 3 * count)
    return merged, sources


def test_it_may_be_closed_while_another_thread_takes_a_frame() -> None:
    merged, (first, *_) = three_that_wait(1)
    first.closes = merged
    assert list(merged) == []


def test_it_may_be_closed_while_another_thread_counts_what_waits() -> None:
    merged, (first, *_) = three_that_wait(1)
    first.closes = merged
    assert merged.waiting in range(4)
    assert (merged.waiting, merged.ended, list(merged)) == (0, True, [])


def test_a_batch_is_cut_short_by_a_close() -> None:
    merged, (_, second, _) = three_that_wait(2)
    assert [next(merged).source for _ in range(3)] == [0, 1, 2]
    second.closes = merged  # it is counted among those that wait, and then is gone
    assert [item.source for item in ready_frames(merged, 3)] == [0]


def write_pictures(folder: Path, count: int) -> str:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((4, 4, 3), index, np.uint8))
    return str(folder)


def test_several_specs(tmp_path: Path) -> None:
    a, b = write_pictures(tmp_path / "a", 3), write_pictures(tmp_path / "b", 5)
    said: list[str] = []
    with open_sources([a, b, "rtsp://u:p@127.0.0.1:9/x"], every=2, say=said.append) as merged:
        assert (merged.files, merged.live) == (9, True)
        seen = [(item.source, item.frame.index, Path(item.file).parent.name) for item in merged]
    assert sorted(seen) == [(0, 0, "a"), (0, 2, "a"), (1, 0, "b"), (1, 2, "b"), (1, 4, "b")]
    (line,) = said
    assert line.startswith("rtsp://127.0.0.1:9/x: expected a video stream at rtsp://127.0.0.1:9/x")
    with pytest.raises(SourceError), open_sources(["rtsp://127.0.0.1:9/x", "987"]) as merged:
        next(merged)
    with pytest.raises(SourceError, match="no such file"):
        open_sources([a, str(tmp_path / "none.mp4")])


def test_sources_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    a = write_pictures(tmp_path / "a", 3)
    for specs in ([a, a], [a, f"{a}/1.png"], ["-", "raw:4x4"], ["0", "0"], []):
        with pytest.raises(UsageError):
            open_sources(specs)
