"""Captions made by the caller, and by a process that need not be waited for."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender, Frame, Result
from srd_edge.errors import BundleError, RunError, SrdEdgeError
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.budget import FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.captioning_process import Opening
from srd_edge.runtime.pipeline import Choices, Pipeline
from srd_edge.runtime.workers import AtOnce, OnProcess, Vigil, Worker, Worst

FOR_EVER = float("inf")
HOURS_MS = 1e7
PATIENCE_S = 60.0


def picture(seed: int, size: tuple[int, int] = (40, 60)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def frames(*seeds: int) -> list[Frame]:
    """Of different sizes, growing."""
    return [Frame(picture(seed, (40 + 9 * seed, 60 + seed)), seed, seed / 10) for seed in seeds]


def timer(worker: Worker, count: int, budget_ms: float = HOURS_MS) -> FrameTimer:
    return FrameTimer(LatencyBudget(budget_ms), worker.costs(count), runs_over=worker.runs_over)


def opening(bundle: Path, budget_ms: float = HOURS_MS) -> Opening:
    return Opening(read_bundle(bundle), budget_ms, Choices(provider="cpu"))


@pytest.fixture
def on_process(toy_bundle: Path) -> OnProcess:
    return OnProcess(opening(toy_bundle))


@pytest.fixture
def at_once(toy_bundle: Path) -> AtOnce:
    return AtOnce(Pipeline(read_bundle(toy_bundle), Choices(provider="cpu")))


def said(results: list[Result] | None) -> list[dict[str, Any]]:
    """Everything but times."""
    assert results is not None
    told = [result.to_json() for result in results]
    return [{key: value for key, value in one.items() if not key.endswith("_ms")} for one in told]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def handles_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(pid: int) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while is_there(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return not is_there(pid)


def test_a_process_says_what_the_caller_would(on_process: OnProcess, at_once: AtOnce) -> None:
    assert (on_process.provider, on_process.fallback) == (at_once.provider, at_once.fallback)
    for shown in (frames(0), frames(3), frames(1), frames(2, 5, 4)):
        both: list[Worker] = [on_process, at_once]
        told = []
        for worker in both:
            kept = worker.begin(shown, timer(worker, len(shown)))
            for frame, copy in zip(shown, kept, strict=True):
                assert np.array_equal(frame.pixels, copy.pixels)
            told.append(worker.wait(FOR_EVER))
        mine, theirs = told
        assert said(mine) == said(theirs)
        assert mine is not None
        assert theirs is not None
        for one, other in zip(mine, theirs, strict=True):
            assert one.decision is not None
            assert other.decision is not None
            assert np.array_equal(one.decision.q_values, other.decision.q_values)
            assert set(one.stage_ms) == set(other.stage_ms)
        assert on_process.undefended(shown[0]) == at_once.undefended(shown[0])


def test_what_is_not_done_in_time_is_there_later(on_process: OnProcess, at_once: AtOnce) -> None:
    (frame,) = frames(1)
    buffer = frame.pixels.copy()
    os.kill(on_process._link.process.pid, signal.SIGSTOP)
    on_process.begin([Frame(buffer, 1, 0.1)], timer(on_process, 1))
    buffer[:] = 0  # the caller has the next frame there
    for patience_s in (-1.0, 0.02):
        assert on_process.wait(time.perf_counter() + patience_s) is None
    os.kill(on_process._link.process.pid, signal.SIGCONT)
    at_once.begin([frame], timer(at_once, 1))
    assert said(on_process.wait(FOR_EVER)) == said(at_once.wait(FOR_EVER))


def test_beyond_the_deadline_a_caption_is_made_whole(toy_bundle: Path, at_once: AtOnce) -> None:
    worker = OnProcess(opening(toy_bundle, budget_ms=1e-3))
    worker.begin(frames(2), timer(worker, 1, 1e-3))
    late = worker.wait(FOR_EVER)
    at_once.begin(frames(2), timer(at_once, 1))
    assert said(late) == said(at_once.wait(FOR_EVER))


def test_a_caller_that_is_woken_late_asks_to_be_woken_earlier(
    on_process: OnProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < on_process.spare_s < 0.01
    os.kill(on_process._link.process.pid, signal.SIGSTOP)
    on_process.begin(frames(0), timer(on_process, 1))
    poll = on_process._link.connection.poll

    def overslept(patience_s: float | None = None) -> bool:
        time.sleep(0.05)
        return bool(poll(0.0 if patience_s is not None else None))

    monkeypatch.setattr(on_process._link.connection, "poll", overslept)
    asked_s = time.perf_counter()
    assert on_process.wait(time.perf_counter() + 0.01) is None
    on_process.handed_back()
    assert on_process.spare_s > 0.04
    # That frame was missed: for a while nobody sleeps.
    patient = on_process._vigil.lasts(time.perf_counter())
    assert patient or time.perf_counter() - asked_s > 0.25
    os.kill(on_process._link.process.pid, signal.SIGCONT)
    assert on_process.wait(FOR_EVER) is not None


def test_what_is_left_to_do_after_a_wait_is_allowed_for(on_process: OnProcess) -> None:
    on_process.begin(frames(0), timer(on_process, 1))
    assert on_process.wait(time.perf_counter() + 60) is not None
    time.sleep(0.05)
    on_process.handed_back()
    learned_s = on_process.spare_s
    assert learned_s > 0.05
    time.sleep(2 * learned_s)
    on_process.handed_back()  # nothing was waited for since
    assert on_process.spare_s == learned_s


def test_no_more_is_kept_to_spare_than_leaves_a_while_to_sleep(toy_bundle: Path) -> None:
    worker = OnProcess(opening(toy_bundle, budget_ms=20))
    worker._late_s.add(1.0)
    assert worker.spare_s == pytest.approx(0.01)


def test_after_a_deadline_was_slept_through_nobody_sleeps_for_a_while() -> None:
    vigil = Vigil()
    assert not vigil.lasts(0.0)
    now_s, lengths = 100.0, []
    for _ in range(12):
        vigil.begin(now_s)
        began_s = now_s
        while vigil.lasts(now_s):
            now_s += 1 / 64
        lengths.append(now_s - began_s)
        now_s += 1 / 64  # and slept through again at once
    assert lengths[:4] == [0.25, 1.0, 4.0, 16.0]
    assert lengths[-1] == 30.0
    for expected_s in (15.0, 7.5, 3.75):
        now_s += 1000
        vigil.begin(now_s)
        assert vigil.lasts(now_s + expected_s - 0.01)
        assert not vigil.lasts(now_s + expected_s)
    now_s += 6 * 3.75  # neither soon nor long ago
    vigil.begin(now_s)
    assert vigil.lasts(now_s + 3.74)
    assert not vigil.lasts(now_s + 3.75)


def test_the_worst_is_forgotten_after_a_while() -> None:
    worst = Worst(2.0)
    values = [3.0, *[1.0] * 2500]
    seen = []
    for value in values:
        worst.add(value)
        seen.append(worst.value)
    assert seen[0] == 3.0
    assert 1000 <= seen.index(1.0) <= 2000
    assert set(seen) == {3.0, 1.0}
    worst.add(7.0)
    assert worst.value == 7.0


def test_what_cannot_be_opened_is_refused_as_by_the_caller(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as here:
        read_bundle(tmp_path)
    with pytest.raises(BundleError) as there:
        OnProcess(opening(tmp_path))
    assert str(there.value) == str(here.value)
    assert there.value.exit_code == 3


def test_errors_come_through_whole() -> None:
    error = BundleError(expected="one thing", found="another", do="this")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is BundleError
    assert str(again) == str(error)
    assert (again.expected, again.found, again.do) == ("one thing", "another", "this")
    assert isinstance(again, SrdEdgeError)


def test_a_process_that_is_killed_is_told_of_in_a_line(on_process: OnProcess) -> None:
    on_process.begin(frames(0), timer(on_process, 1))
    on_process.wait(FOR_EVER)
    on_process._link.process.kill()
    on_process._link.process.wait()
    with pytest.raises(RunError, match="ended with status -9") as caught:
        on_process.begin(frames(0), timer(on_process, 1))
        on_process.wait(FOR_EVER)
    assert "\n" not in str(caught.value)


def test_a_process_ends_with_its_defender_and_not_with_ctrl_c(toy_bundle: Path) -> None:
    budget = LatencyBudget(HOURS_MS)
    defender = Defender(read_bundle(toy_bundle), budget=budget, provider="cpu")
    assert isinstance(defender._worker, OnProcess)
    pid = defender._worker._link.process.pid
    assert defender.caption(picture(0)).caption
    assert os.getsid(pid) != os.getsid(0)
    gc.collect()  # what earlier tests left behind is not to go in between
    handles = handles_open()
    for seed in range(5):
        defender.caption(picture(seed))
    assert handles_open() == handles
    del defender
    gc.collect()
    assert gone(pid)
    assert handles_open() < handles


def test_a_process_does_not_outlive_a_caller_that_is_killed(toy_bundle: Path) -> None:
    script = (
        "import sys, time; from srd_edge import Defender;"
        "defender = Defender.load(sys.argv[1], budget_ms=1e7, provider='cpu');"
        "print(defender._worker._link.process.pid, flush=True); time.sleep(600)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(toy_bundle)], stdout=subprocess.PIPE
    )
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    assert is_there(pid)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert gone(pid)
