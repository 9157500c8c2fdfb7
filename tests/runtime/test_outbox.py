"""The outbox: nobody waits for it, nothing is lost without being counted, and one line says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.outbox import Outbox
from srd_edge.runtime.records import Result

FRAME = Frame(np.zeros((1, 1, 3), np.uint8))


@dataclass
class Fake:
    """Delivers, unless ``answer`` says otherwise."""

    answer: Callable[[Result], str | None] = lambda _: None
    name: str = "fake://there"
    unsettled: int = 0
    delivered: list[int] = field(default_factory=list)
    closed: int = 0

    def deliver(self, result: Result) -> str | None:
        refused = self.answer(result)
        if refused is None:
            self.delivered.append(result.frame)
        return refused

    def settle(self, seconds: float) -> int:
        assert seconds >= 0
        return self.unsettled

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def said() -> list[str]:
    return []


def result(frame: int) -> Result:
    return Result(frame, 0.0, "a dog", "clean", 0.1)


def write(outbox: Outbox, frames: range) -> None:
    for frame in frames:
        outbox.write(FRAME, result(frame))


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_results_arrive_in_order(said: list[str]) -> None:
    fake = Fake()
    outbox = Outbox(fake, said.append)
    write(outbox, range(50))
    outbox.close()
    outbox.close()
    assert fake.delivered == list(range(50))
    assert (outbox.lost, fake.closed, said) == (0, 1, [])


def test_what_fails_is_tried_again_after_longer_and_longer(said: list[str]) -> None:
    pauses: list[float] = []
    failures = 9

    def answer(_: Result) -> None:
        if len(pauses) < failures:
            raise ConnectionRefusedError(111, "Connection refused")

    fake = Fake(answer)
    outbox = Outbox(fake, said.append, pause=lambda _, seconds: pauses.append(seconds))
    write(outbox, range(3))
    until(lambda: len(fake.delivered) == 3)
    outbox.close()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert fake.delivered == [0, 1, 2]
    (line,) = said
    assert line == (
        "srd-edge: warning: expected fake://there to take results, found Connection refused: "
        "captioning goes on, and 256 results can wait"
    )


def test_when_too_many_wait_the_oldest_is_lost_and_nobody_waits(said: list[str]) -> None:
    go = threading.Event()
    fake = Fake(lambda _: None if go.wait(60) else "never")
    outbox = Outbox(fake, said.append, room=4)
    outbox.write(FRAME, result(0))
    until(lambda: outbox._is_underway)
    write(outbox, range(1, 100))  # all while the first is stuck
    assert outbox.lost == 95
    go.set()
    outbox.close()
    assert fake.delivered == [0, 96, 97, 98, 99]
    full, end = said
    assert "4 results that wait" in full
    assert end == "srd-edge: 95 results were not delivered to fake://there"


def test_what_is_refused_is_not_tried_again(said: list[str]) -> None:
    fake = Fake(lambda one: "HTTP 413" if one.frame % 2 else None)
    outbox = Outbox(fake, said.append)
    write(outbox, range(6))
    outbox.close()
    assert fake.delivered == [0, 2, 4]
    assert outbox.lost == 3
    assert len(said) == 2
    assert "HTTP 413" in said[0]


def test_a_carriers_mistake_is_one_line_and_not_the_end(said: list[str]) -> None:
    def answer(one: Result) -> None:
        if not one.frame:
            raise KeyError("no\nkey")

    fake = Fake(answer)
    outbox = Outbox(fake, said.append)
    write(outbox, range(3))
    outbox.close()
    assert fake.delivered == [1, 2]
    assert all("\n" not in line for line in said)
    assert "KeyError" in said[0]


def test_the_end_waits_for_a_bounded_time_and_counts(said: list[str]) -> None:
    def answer(_: Result) -> None:
        raise TimeoutError("timed out")

    fake = Fake(answer, unsettled=2)
    outbox = Outbox(fake, said.append, closing_s=0.05)
    write(outbox, range(7))
    outbox.close()
    assert outbox.lost == 9
    assert said[-1] == "srd-edge: 9 results were not delivered to fake://there"
    until(lambda: not outbox._thread.is_alive())
    assert fake.closed == 1


def test_the_end_does_not_wait_out_a_pause(said: list[str]) -> None:
    up = threading.Event()
    paused = threading.Event()

    def answer(_: Result) -> None:
        if not up.is_set():
            raise ConnectionRefusedError(111, "Connection refused")

    def pause(event: threading.Event, _: float) -> None:
        paused.set()
        event.wait(60)

    fake = Fake(answer)
    outbox = Outbox(fake, said.append, closing_s=60, pause=pause)
    write(outbox, range(3))
    assert paused.wait(60)
    up.set()
    outbox.close()
    assert fake.delivered == [0, 1, 2]
    assert outbox.lost == 0
