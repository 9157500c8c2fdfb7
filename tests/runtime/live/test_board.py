"""The board: what a viewer is told depends on what it has seen, and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from srd_edge.kernels.frames import Box, Frame
from srd_edge.runtime.live.board import EVENTS, WINDOW_FRAMES, About, Board
from srd_edge.runtime.live.pictures import PICTURE_WIDTH_PX, THUMBNAIL_PX, picture, thumbnail
from srd_edge.runtime.records import AppliedAction, Result

Make = Callable[..., Any]


def test_a_viewer_is_told_what_it_has_not_seen(board: Board, frame: Make, result: Make) -> None:
    start, newest = board.since("", -1)
    assert (start["state"], start["points"], newest) == ("waiting", [], None)
    assert start["about"]["source"] == "demo"
    for index in range(5):
        board.add(frame(index), result(index))
    news, newest = board.since(start["run"], start["changed"])
    assert [point[0] for point in news["points"]] == [0, 1, 2, 3, 4]
    assert newest is not None
    assert newest[1].frame == news["result"]["frame"] == 4
    assert "about" not in news
    assert board.was_seen(news["run"], news["changed"])
    nothing, newest = board.since(news["run"], news["changed"])
    assert (nothing["points"], nothing["events"], newest) == ([], [], None)
    everything, _ = board.since("another run", news["changed"])
    assert len(everything["points"]) == 5
    assert not board.was_seen("another run", news["changed"])
    board.end()
    assert not board.was_seen(news["run"], news["changed"])
    assert board.since(news["run"], news["changed"])[0]["state"] == "ended"
    json.dumps(everything, allow_nan=False)


def test_figures_are_those_of_the_results(board: Board, frame: Make, result: Make) -> None:
    for index in range(10):
        held = index == 4
        board.add(
            frame(index),
            result(
                index,
                verdict="held" if held else "clean",
                within_budget=index < 8,
                raw_caption="a banana" if index < 3 else "a dog",
            ),
        )
    told, _ = board.since("", -1)
    assert told["counts"] == {
        "frames": 10,
        "clean": 9,
        "held": 1,
        "late": 2,
        "compared": 10,
        "changed": 3,
    }
    assert told["times_ms"] == {"p50": 5.5, "p95": 9.55, "p99": 9.91}
    assert told["stages_ms"] == {"encode": 2.0}
    assert told["points"][4] == [4, 5.0, "held", 0.25]


def test_neighbouring_frames_make_one_event(board: Board, frame: Make, result: Make) -> None:
    levels = [0.1, 0.7, 0.72, 0.99, 0.98, 0.1, 0.9]
    for index, level in enumerate(levels):
        verdict = "suspicious" if level > 0.5 else "clean"
        board.add(frame(index), result(index, verdict=verdict, suspicion=level))
    board.add(frame(7), result(7, verdict="held", suspicion=0.9))
    told, _ = board.since("", -1)
    spans = [(e["verdict"], e["first"], e["last"], e["frame"]) for e in told["events"]]
    assert spans == [("suspicious", 1, 4, 3), ("suspicious", 6, 6, 6), ("held", 7, 7, 7)]
    assert "region covered" in told["events"][0]["done"]
    changed, _ = board.since(told["run"], told["changed"] - 1)
    assert [event["first"] for event in changed["events"]] == [7]


def test_a_stretch_ends_with_its_file(board: Board, frame: Make, result: Make) -> None:
    for index, source in enumerate(["a.png", "b.png"]):
        board.add(frame(index), result(index, verdict="suspicious", source=source))
    assert len(board.since("", -1)[0]["events"]) == 2


def test_the_frames_of_other_sources_cut_no_stretch(
    board: Board, frame: Make, result: Make
) -> None:
    for index in range(2 * EVENTS):
        board.add(frame(index), result(index, verdict="suspicious", source="door"))
        board.add(frame(index), result(index, source="yard"))
        verdict = "held" if 5 <= index < 9 or index == 20 else "clean"
        board.add(frame(index), result(index, verdict=verdict, source="gate"))
    told, _ = board.since("", -1)
    spans = [
        (e["source"], e["verdict"], e["first"], e["last"], e["frames"]) for e in told["events"]
    ]
    assert spans == [
        ("door", "suspicious", 0, 2 * EVENTS - 1, 2 * EVENTS),
        ("gate", "held", 5, 8, 4),
        ("gate", "held", 20, 20, 1),
    ]


def test_a_stretch_that_is_no_longer_kept_is_begun_anew(
    board: Board, frame: Make, result: Make
) -> None:
    for index in range(EVENTS + 1):
        board.add(frame(index), result(index, verdict="suspicious", source="door"))
        board.add(frame(index), result(index, verdict="held", source=f"{index}.png"))
    told, _ = board.since("", -1)
    (door,) = [event for event in told["events"] if event["source"] == "door"]
    assert (door["first"], door["last"]) == (EVENTS, EVENTS)


def test_memory_is_bounded(board: Board, frame: Make, result: Make) -> None:
    for index in range(2 * WINDOW_FRAMES):
        verdict = "suspicious" if index % 2 else "clean"
        board.add(frame(index), result(index, verdict=verdict))
    told, _ = board.since("", -1)
    assert (len(told["points"]), len(told["events"])) == (WINDOW_FRAMES, EVENTS)
    assert told["counts"]["frames"] == 2 * WINDOW_FRAMES
    assert board.thumbnail(1) is None
    assert board.thumbnail(told["events"][-1]["number"]) is not None


def test_the_rate_and_the_age_are_by_the_clock(frame: Make, result: Make) -> None:
    now = [100.0]
    board = Board(About("demo"), clock=lambda: now[0])
    for index in range(11):
        now[0] += 0.25
        board.add(frame(index), result(index))
    now[0] += 7.0
    told, _ = board.since("", -1)
    assert (told["rate"], told["age_s"]) == (4.0, 7.0)
    board.end()
    assert board.since("", -1)[0]["rate"] is None


def test_pictures_are_small_and_leave_the_frame_alone() -> None:
    for width, height in ((4000, 2000), (64, 48), (1, 1), (3, 900)):
        frame = Frame(np.full((height, width, 3), 90, np.uint8))
        before = frame.pixels.copy()
        box = Box(0, 0, max(width // 2, 1), height)
        result = Result(0, 0.0, "x", "suspicious", 0.9, (AppliedAction("occlude", box, 1.0),))
        small = thumbnail(frame, result)
        assert small.shape[1] <= THUMBNAIL_PX[0]
        assert small.shape[0] <= THUMBNAIL_PX[1]
        assert picture(frame, result)[:2] == b"\xff\xd8"
        np.testing.assert_array_equal(frame.pixels, before)
    assert PICTURE_WIDTH_PX < 4000
