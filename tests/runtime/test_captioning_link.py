"""The process that captions: started anywhere, interrupted anywhere, and never misunderstood."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender, Frame
from srd_edge.errors import RunError
from srd_edge.runtime import captioning_link
from srd_edge.runtime.budget import WHOLE, FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.captioning_link import _see_off, started_early
from srd_edge.runtime.captioning_process import Opening, serve
from srd_edge.runtime.pipeline import Choices, Pipeline
from srd_edge.runtime.workers import AtOnce, OnProcess, Worker

FOR_EVER = float("inf")
HOURS_MS = 1e7


def frame(seed: int) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8), seed)


def begin(worker: Worker, seed: int) -> None:
    timer = FrameTimer(LatencyBudget(HOURS_MS), worker.costs(), runs_over=worker.runs_over)
    worker.begin([frame(seed)], timer)


def said(worker: Worker) -> tuple[int, str | None]:
    results = worker.wait(FOR_EVER)
    assert results is not None
    return results[0].frame, results[0].caption


def opening(bundle: Path) -> Opening:
    return Opening(read_bundle(bundle), HOURS_MS, Choices(provider="cpu"))


@pytest.fixture
def worker(toy_bundle: Path) -> OnProcess:
    return OnProcess(opening(toy_bundle))


@pytest.fixture
def right(toy_bundle: Path) -> list[tuple[int, str | None]]:
    """What is said of frames 0 to 3."""
    at_once, told = AtOnce(Pipeline(read_bundle(toy_bundle), Choices(provider="cpu"))), []
    for seed in range(4):
        begin(at_once, seed)
        told.append(said(at_once))
    assert len({caption for _, caption in told}) > 1, "captions that are alike tell nothing"
    return told


def interrupted(call: Callable[..., Any] | None = None) -> Callable[..., None]:
    """Ctrl-C instead of a call, or once it is done and nobody has its result yet."""

    def raising(*arguments: Any) -> None:
        if call is not None:
            call(*arguments)
        raise KeyboardInterrupt

    return raising


def interrupt(
    monkeypatch: pytest.MonkeyPatch, worker: OnProcess, name: str, action: Callable[[], object]
) -> None:
    """Ctrl-C in ``action``, right after the connection's ``name`` was called."""
    connection = worker._link.connection
    with monkeypatch.context() as patched:
        patched.setattr(connection, name, interrupted(getattr(connection, name)))
        with pytest.raises(KeyboardInterrupt):
            action()


def test_the_answer_to_what_was_interrupted_is_not_taken_for_another(
    worker: OnProcess, right: list[tuple[int, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    undefended = [worker.undefended(frame(seed)) for seed in range(4)]
    process = worker._link.process
    interrupt(monkeypatch, worker, "poll", lambda: worker.undefended(frame(0)))
    assert worker.undefended(frame(1)) == undefended[1]
    interrupt(monkeypatch, worker, "poll", lambda: worker.undefended(frame(2)))
    begin(worker, 3)
    assert said(worker) == right[3]
    begin(worker, 0)  # and never waited for
    begin(worker, 1)
    assert said(worker) == right[1]
    assert worker._link.process is process


def test_what_was_waited_for_is_waited_for_again(
    worker: OnProcess, right: list[tuple[int, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(worker, 2)
    interrupt(monkeypatch, worker, "poll", lambda: worker.wait(FOR_EVER))
    assert said(worker) == right[2]
    costs = worker.costs().means_ms[WHOLE]
    assert said(worker) == right[2], "whoever was interrupted before it took it in asks again"
    assert worker.costs().means_ms[WHOLE] == costs


@pytest.mark.parametrize("name", ["send", "recv"])
def test_who_was_interrupted_amid_a_message_asks_another_process(
    worker: OnProcess,
    right: list[tuple[int, str | None]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    before = worker._link.process
    interrupt(monkeypatch, worker, name, lambda: worker.undefended(frame(0)))
    begin(worker, 1)
    assert said(worker) == right[1]
    assert worker._link.process is not before
    assert before.returncode == -9


def test_an_answer_that_was_cut_is_asked_for_again(
    worker: OnProcess, right: list[tuple[int, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(worker, 2)
    interrupt(monkeypatch, worker, "recv", lambda: worker.wait(FOR_EVER))
    assert said(worker) == right[2]


def test_a_defender_that_is_closed_has_no_process_until_it_is_asked_again(
    toy_bundle: Path, right: list[tuple[int, str | None]]
) -> None:
    with Defender.load(toy_bundle, budget_ms=1e6, provider="cpu") as defender:
        worker = defender._worker
        assert isinstance(worker, OnProcess)
        process = worker._link.process
        assert process.poll() is None
    assert process.returncode == -9
    defender.close()
    assert (0, defender.caption(frame(0)).caption) == right[0]
    with Defender.load(toy_bundle, provider="cpu") as at_once:
        at_once.caption(frame(0))


def test_after_a_process_that_ended_there_is_another(
    worker: OnProcess, right: list[tuple[int, str | None]]
) -> None:
    worker._link.process.kill()
    with pytest.raises(RunError, match=r"ended with status -9: caption without"):
        worker.undefended(frame(0))
    begin(worker, 3)
    assert said(worker) == right[3]


def test_it_finds_what_its_caller_would_and_says_what_it_did_not(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "srd_edge"
    elsewhere.mkdir()
    (elsewhere / "__init__.py").write_text("raise ImportError('not\\tthis one')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match="ended with status 1: ImportError: not this one:") as caught:
        OnProcess(opening(toy_bundle))
    assert "\n" not in str(caught.value)


def test_what_it_prints_does_not_add_up(worker: OnProcess) -> None:
    printed = worker._link._printed
    os.write(printed, bytes(1 << 21))
    worker.undefended(frame(0))
    assert os.fstat(printed).st_size == 0


def test_where_no_other_scheduling_is_permitted_it_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def refused(*wanted: object) -> None:
        asked.append(wanted)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    ours, theirs = Pipe()
    ours.close()
    with theirs:
        serve(os.dup(theirs.fileno()), -1)  # until nobody asks, which is at once
    assert len(asked) == 1


def test_one_that_was_started_early_is_the_first_to_caption(
    toy_bundle: Path, right: list[tuple[int, str | None]]
) -> None:
    with started_early():
        [(_, early)] = captioning_link._early
        first, second = OnProcess(opening(toy_bundle)), OnProcess(opening(toy_bundle))
    assert first._link is early
    assert second._link is not early
    for seed, told in enumerate(right):
        begin(first, seed)
        assert said(first) == told


def test_one_that_was_started_early_for_nothing_is_ended_at_once(toy_bundle: Path) -> None:
    gc.collect()  # what earlier tests left behind is not to go in between
    handles = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ZeroDivisionError), started_early():
        [(_, early)] = captioning_link._early
        raise ZeroDivisionError
    assert early.process.returncode == -9
    assert set(Path("/proc/self/fd").iterdir()) == handles
    assert OnProcess(opening(toy_bundle))._link is not early


def test_a_caller_may_have_no_standard_streams(toy_bundle: Path) -> None:
    script = (
        "import sys, numpy; from srd_edge import Defender;"
        "defender = Defender.load(sys.argv[1], budget_ms=1e7, provider='cpu');"
        "print(defender.caption(numpy.zeros((40, 60, 3), numpy.uint8)).verdict)"
    )
    command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-P", "-c", script]
    told = subprocess.run([*command, str(toy_bundle)], stdout=subprocess.PIPE, check=True)
    assert told.stdout.decode().strip() in ("clean", "suspicious")


def test_a_second_ctrl_c_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    wait = process.wait

    def impatient(timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait()

    monkeypatch.setattr(process, "wait", impatient)
    _see_off(process)
    assert process.returncode == -9
