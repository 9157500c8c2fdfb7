"""Without a defence nobody looks, and no frame is called clean: in time, late, still or shown."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import srd_edge.runtime
from srd_edge import Defender, Frame, Result
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.budget import LatencyBudget
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.metrics import Metrics
from srd_edge.runtime.reasons import standing
from srd_edge.runtime.records import VERDICTS
from srd_edge.runtime.subtitles import shown
from srd_edge.runtime.tally import Tally
from srd_edge.runtime.workers import OnProcess
from tests.command_line import SrdEdge, write_clip

SCHEMA = json.loads(Path(srd_edge.runtime.__path__[0], "result.schema.json").read_text())
HOURS = LatencyBudget(1e7)


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("budget", [None, HOURS], ids=["at once", "on a process"])
def test_a_caption_that_comes_in_time(bundle: Bundle, budget: LatencyBudget | None) -> None:
    with Defender(bundle, defend=False, budget=budget, gate_level=8.0) as defender:
        assert isinstance(defender._worker, OnProcess) is (budget is not None)
        first, again = (defender.caption(Frame(picture(0), n), compare=True) for n in range(2))
        together = defender.captions({n: Frame(picture(n), 2) for n in (1, 2)})
    for result in (first, again, *together.values()):
        assert (result.verdict, result.suspicion) == ("undefended", None)
        assert (result.actions, result.opinion, result.decision) == ((), None, None)
        assert Draft202012Validator(SCHEMA).is_valid(result.to_json())
    assert first.caption == first.raw_caption
    assert (again.caption, again.raw_caption, again.unchanged_for) == (*[first.caption] * 2, 1)


def test_a_comparison_does_not_ask_the_same_captioner_twice(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    defender = Defender(bundle, defend=False)

    def asked_again(_: Frame) -> str:
        raise AssertionError

    monkeypatch.setattr(defender._worker, "undefended", asked_again)
    result = defender.caption(picture(0), compare=True)
    assert result.raw_caption == result.caption


def test_a_caption_that_is_late_is_held_and_then_stands_undefended(bundle: Bundle) -> None:
    own = Defender(bundle, defend=False).caption(picture(0)).caption
    with Defender(bundle, defend=False, budget=HOURS, gate_level=8.0) as defender:
        assert isinstance(defender._worker, OnProcess)
        defender._budget = LatencyBudget(1e-3)
        pid = defender._worker._link.process.pid
        os.kill(pid, signal.SIGSTOP)
        late = defender.caption(Frame(picture(0), 0))
        os.kill(pid, signal.SIGCONT)
        defender.rest()
        still = defender.caption(Frame(picture(0), 1))
        os.kill(pid, signal.SIGSTOP)
        carried = defender.caption(Frame(picture(1), 2))
        os.kill(pid, signal.SIGCONT)
        defender.rest()
        late_too = defender.caption(Frame(picture(1), 3))
    assert (late.verdict, late.caption) == ("held", None)
    assert (still.verdict, still.caption, still.unchanged_for) == ("undefended", own, 1)
    assert (carried.verdict, carried.caption, carried.held_for) == ("held", own, 2)
    assert late_too.verdict == "undefended"


def counted(*results: Result) -> Mapping[str, int]:
    tally = Tally()
    for result in results:
        tally.add(result)
    return tally.summary().verdicts


def test_whoever_shows_it_says_so() -> None:
    result = Result(0, 0.0, "a dog", "undefended", None)
    held = replace(result, verdict="held", held_for=1)
    counts = dict.fromkeys(VERDICTS, 0) | {"undefended": 2, "held": 1}
    assert counted(result, result, held) == counts
    assert shown(result) == "[undefended] a dog"
    assert standing(result) == "no defence: nobody has looked"
    metrics = Metrics()
    metrics.write(Frame(picture(0)), result)
    assert 'srd_edge_frames_total{verdict="undefended"} 1.0' in metrics.text().decode()
    assert 'srd_edge_frames_total{verdict="clean"} 0.0' in metrics.text().decode()


@pytest.mark.parametrize("flags", [(), ("--budget-ms", 1e6), ("--strict", "--gate")])
def test_a_run_is_undefended_from_its_lines_to_its_summary(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, flags: tuple[str | float, ...]
) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=4)
    run = ("run", "--video", clip, "--bundle", toy_bundle, "--no-defense", "--compare")
    outcome = srd_edge(*run, *map(str, flags))
    assert outcome.code == 0, outcome.err
    assert [result["verdict"] for result in outcome.results] == ["undefended"] * 4
    assert [r["raw_caption"] for r in outcome.results] == [r["caption"] for r in outcome.results]
    assert "4 undefended" in outcome.err
    assert "clean" not in outcome.err
