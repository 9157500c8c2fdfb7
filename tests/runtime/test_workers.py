"""Work on a thread that need not be waited for, and work that is done at once."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from srd_edge.runtime.workers import AtOnce, OnThread

FOR_EVER = float("inf")
SOON_S = 0.02


def test_at_once_is_done_by_the_caller_whatever_the_deadline() -> None:
    worker, threads = AtOnce[str](), list[threading.Thread]()

    def work() -> str:
        threads.append(threading.current_thread())
        return "done"

    worker.begin(work)
    assert worker.wait(-1.0) == "done"
    assert threads == [threading.current_thread()]
    assert (worker.runs_over, worker.spare_s) == (False, 0)


def test_what_is_not_done_in_time_is_there_later() -> None:
    worker, finish = OnThread[str](), threading.Event()
    worker.begin(lambda: f"done {finish.wait()}")
    for patience_s in (SOON_S, 0.0, -5.0):
        asked_s = time.perf_counter()
        assert worker.wait(asked_s + patience_s) is None
    finish.set()
    assert worker.wait(FOR_EVER) == "done True"
    worker.begin(lambda: "next")
    assert worker.wait(FOR_EVER) == "next"


def test_one_thread_does_it_all_and_not_the_callers() -> None:
    worker, threads = OnThread[None](), set[threading.Thread]()
    for _ in range(5):
        worker.begin(lambda: threads.add(threading.current_thread()))
        worker.wait(FOR_EVER)
    assert len(threads) == 1
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("worker", [AtOnce[None](), OnThread[None]()], ids=["at once", "thread"])
def test_what_the_work_raised_is_raised_and_the_next_is_done(worker: Any) -> None:
    def fail() -> None:
        raise TimeoutError("of the work's own")

    for _ in range(2):
        worker.begin(fail)
        with pytest.raises(TimeoutError, match="of the work's own"):
            worker.wait(FOR_EVER)
    worker.begin(lambda: "well")
    assert worker.wait(FOR_EVER) == "well"


def test_a_caller_that_is_woken_late_asks_to_be_woken_earlier() -> None:
    ticks = iter([0.0, 1.0, 1.25, 5.0, 5.5, 5.75, 9.0, 9.5])
    worker = OnThread[str](lambda: next(ticks), most_spare_s=0.5)
    first_guess_s = worker.spare_s
    assert 0 < first_guess_s < 0.01
    finish = threading.Event()
    # Asked at 0 for a caption by 0.001: it is 1 by the clock when nothing has come.
    worker.begin(lambda: str(finish.wait()))
    assert worker.wait(0.001) is None
    assert worker.spare_s == 0.5, "more than the most that is kept"
    finish.set()
