"""Reading ahead: nothing is lost, nobody waits for a thread that has died or is stuck."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from srd_edge.errors import SourceError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.handover import QUEUE_FRAMES, Handover
from srd_edge.runtime.reader_thread import ReaderThread, on_a_thread
from srd_edge.runtime.source import SourcedFrame, SourceFacts, ready_frames


def frames(count: int | None = None) -> Iterator[SourcedFrame]:
    for index in range(count) if count is not None else itertools.count():
        yield SourcedFrame(Frame(np.zeros((2, 2, 3), np.uint8), index), "made up")


def reader(generator: Iterator[SourcedFrame], max_frames: int | None = None) -> ReaderThread:
    return ReaderThread(
        generator,  # type: ignore[arg-type]
        SourceFacts("made up"),
        max_frames=max_frames,
    )


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "srd-edge reader"]


def indices(items: Iterator[SourcedFrame] | list[SourcedFrame]) -> list[int]:
    return [item.frame.index for item in items]


def test_any_exception_of_the_reader_reaches_the_consumer() -> None:
    def failing() -> Iterator[SourcedFrame]:
        yield from frames(7)
        raise ZeroDivisionError("while decoding")

    seen: list[int] = []
    with reader(failing()) as source, pytest.raises(SourceError, match="ZeroDivisionError: while"):
        seen.extend(item.frame.index for item in source)
    assert seen == list(range(7))
    assert list(source) == []
    assert source.ended
    assert not reader_threads()


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_close_ends_the_thread_of_a_consumer_that_stops_early(taken: int) -> None:
    released = []

    def endless() -> Iterator[SourcedFrame]:
        try:
            yield from frames()
        finally:
            released.append(True)

    source = reader(endless())
    assert len(list(itertools.islice(source, taken))) == taken
    source.close()
    source.close()
    assert not reader_threads()
    assert list(source) == []
    assert released == ([True] if taken else [])


def test_no_more_than_was_asked_for() -> None:
    source = reader(frames(), max_frames=6)
    assert indices(list(source)) == list(range(6))
    assert (source.waiting, source.ended) == (0, True)
    assert not reader_threads()


def test_close_leaves_a_read_behind_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srd_edge.runtime.handover._FAREWELL_S", 0.01)
    stuck, rescue = threading.Event(), threading.Event()

    def blocking() -> Iterator[SourcedFrame]:
        yield from frames(1)
        stuck.set()
        rescue.wait()
        yield from frames(1)

    source = reader(blocking())
    assert indices([next(source)]) == [0]
    assert stuck.wait(10)
    source.close()
    assert list(source) == []
    (thread,) = reader_threads()
    rescue.set()
    thread.join(10)
    assert not reader_threads()


def test_close_while_the_thread_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException] = []

    def close() -> None:
        try:
            source.close()
        except BaseException as error:
            failures.append(error)

    class ClosedMeanwhile(threading.Thread):
        def start(self) -> None:
            closer.start()
            closer.join(0.05)  # would be over by then, if it did not wait for the start
            super().start()

    closer = threading.Thread(target=close)
    source = reader(frames())
    with monkeypatch.context() as patched:
        patched.setattr("srd_edge.runtime.handover.threading.Thread", ClosedMeanwhile)
        source.start()
    closer.join(10)
    assert failures == []
    assert list(source) == []
    assert not reader_threads()


def test_what_is_closed_does_not_start() -> None:
    source = reader(frames())
    source.close()
    source.watch(lambda: None)
    assert not reader_threads()


def test_a_batch_is_what_is_ready() -> None:
    there = threading.Event()
    source = reader(frames(QUEUE_FRAMES + 2))
    source.watch(lambda: there.set() if source.waiting == QUEUE_FRAMES else None)
    assert there.wait(10)
    assert indices(ready_frames(source, 3)) == [0, 1, 2]
    rest: list[int] = []
    with pytest.raises(StopIteration):
        while True:
            rest += indices(ready_frames(source, 99))
    assert rest == [3, 4, 5]


def test_a_mailbox_keeps_the_newest_and_counts_the_others() -> None:
    box = Handover(1, newest=True)
    for item in frames(5):
        assert box.put(item)
    assert (box.waiting, box.passed_over) == (1, 4)
    box.finish(SourceError(expected="more", found="none", do="wait"))
    assert not box.ended
    assert box.take().frame.index == 4
    with pytest.raises(SourceError, match="more"):
        box.take()
    with pytest.raises(StopIteration):
        box.take()
    box.close()
    assert not box.put(next(frames()))


def test_what_is_made_on_a_thread_is_returned_or_raised() -> None:
    assert on_a_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        on_a_thread(lambda: 1 // 0)
