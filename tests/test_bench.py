"""bench: every contestant on the same frames, and what is told of it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from srd_edge.cli import cli
from srd_edge.errors import RunError, SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.bench import (
    DEFENDED,
    GATED,
    NOISE,
    UNDEFENDED,
    BenchConfig,
    _before,
    _in_turn,
    _ratios,
    bench,
)
from srd_edge.runtime.fresh_process import start_afresh
from srd_edge.runtime.records import Result
from srd_edge.runtime.tally import Tally

COMMAND = str(Path(sys.executable).with_name("srd-edge"))


def said(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["bench", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


def result(frame: Frame, total_ms: float) -> Result:
    return Result(frame.index, 0.0, "a", "undefended", None, total_ms=total_ms)


def test_both_are_measured_on_all_frames(toy_bundle: Path, tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    words = ["--bundle", str(toy_bundle), "--frames", "4", "--warm-up", "1", "--no-start"]
    report = said(*words, "-o", str(written))
    assert report == json.loads(written.read_text(encoding="utf-8"))
    found = report["contestants"]
    assert list(found) == [DEFENDED, UNDEFENDED]
    assert [sum(one["verdicts"].values()) for one in found.values()] == [4, 4]
    assert "policy" in found[DEFENDED]["stage_ms"]
    assert "policy" not in found[UNDEFENDED]["stage_ms"]
    assert list(report["ratios"]) == [DEFENDED]
    assert (report["ratios_where_clean"] is None) == (not found[DEFENDED]["verdicts"]["clean"])
    assert report["start"] is None
    assert {"command", "commit", "machine", "versions"} <= set(report)
    assert report["versions"]["onnxruntime"]


def test_the_gate_is_measured_before_a_scene_that_stands_still(toy_bundle: Path) -> None:
    words = ["--bundle", str(toy_bundle), "--frames", "6", "--warm-up", "1", "--no-start"]
    report = said(*words, "--gate")
    assert report["gate"] == 8.0
    assert list(report["contestants"]) == [DEFENDED, UNDEFENDED, GATED]
    assert list(report["ratios"]) == [DEFENDED, GATED]
    stages = report["contestants"][GATED]["stage_ms"]
    assert list(stages) == ["gate"], "the caption of the warm-up's frame stood for all of them"
    below_the_noise = said(*words, "--gate", "0.1")
    assert "decode" in below_the_noise["contestants"][GATED]["stage_ms"]


def test_a_scene_that_stands_still_is_never_twice_the_same() -> None:
    seen: list[Frame] = []

    def watched(frame: Frame) -> Result:
        seen.append(frame)
        return result(frame, 1.0)

    scene = Frame(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8), 0)
    caption = _before(scene, watched)
    for index in (3, 4, 3):
        caption(Frame(np.zeros((20, 30, 3), np.uint8), index))
    assert [frame.index for frame in seen] == [3, 4, 3]
    differences = [frame.pixels.astype(int) - scene.pixels for frame in seen]
    assert all(abs(difference).max() == NOISE for difference in differences)
    assert not np.array_equal(differences[0], differences[1])


def test_pytorch_stands_beside_them(toy_bundle: Path, toy_captioner: Path) -> None:
    words = ["--bundle", str(toy_bundle), "--frames", "2", "--warm-up", "0", "--no-start"]
    report = said(*words, "--captioner", str(toy_captioner))
    assert list(report["contestants"]) == [DEFENDED, UNDEFENDED, "pytorch eager"]
    assert list(report["ratios"]) == [DEFENDED, "pytorch eager"]


def test_fresh_processes_say_how_soon_a_caption_comes(toy_bundle: Path) -> None:
    report = said("--bundle", str(toy_bundle), "--frames", "2", "--warm-up", "0")
    assert report["start"]["first_caption_s"] > 0
    assert report["start"]["peak_mb"] > 20


def test_every_contestant_goes_first_in_turn(toy_bundle: Path) -> None:
    order: list[str] = []

    def peer(name: str) -> Any:
        def caption(frame: Frame) -> Result:
            order.append(name)
            return result(frame, 1.0)

        return caption

    config = BenchConfig(bundle=toy_bundle, frames=4, warm_up=0, start=False)
    done: list[int] = []
    bench(config, {"a": peer("a"), "b": peer("b")}, done.append)
    # Of four contestants, two are ours: the peers swap places where b goes first.
    assert order == ["a", "b", "a", "b", "a", "b", "b", "a"]
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_contestant_goes_after_each_as_often_as_before_it(count: int) -> None:
    names = "abcd"[:count]
    rounds = [_in_turn(names, number) for number in range(2 * count)]
    assert Counter(order[0] for order in rounds) == dict.fromkeys(names, 2)
    after = Counter(pair for order in rounds for pair in pairwise(order))
    assert all(after[one, other] == after[other, one] for one, other in combinations(names, 2))


def test_a_ratio_is_of_the_same_frame() -> None:
    tallies = {DEFENDED: Tally(), UNDEFENDED: Tally()}
    for ours, theirs in ((2.0, 1.0), (40.0, 20.0), (9.0, 3.0)):
        for name, ms in ((DEFENDED, ours), (UNDEFENDED, theirs)):
            tallies[name].add(Result(0, 0.0, "a", "clean", 0.0, total_ms=ms))
    assert _ratios(tallies) == {DEFENDED: 2.0}
    assert _ratios(tallies, [False, False, True]) == {DEFENDED: 3.0}


def test_what_does_not_start_is_one_line() -> None:
    with pytest.raises(RunError, match="no-such-video") as caught:
        start_afresh([COMMAND, "run", "--video", "no-such-video"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["-", "raw:20x20"])
def test_standard_input_is_refused_where_fresh_processes_would_read_it(source: str) -> None:
    refused = CliRunner().invoke(cli, ["bench", "--video", source], input=b"\xff\xd8")
    assert isinstance(refused.exception, UsageError)
    assert f"standard input ('{source}')" in str(refused.exception)
    assert "add --no-start" in str(refused.exception)
    assert not BenchConfig(source=source, start=False).start


def test_a_source_without_frames_is_refused(toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        bench(BenchConfig(bundle=toy_bundle, source=str(tmp_path / "empty"), start=False))
