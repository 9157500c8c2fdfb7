"""The runner: what it counts, what it closes, and what it leaves behind when it is stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from srd_edge.errors import RunError, SourceError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime import tally as tally_module
from srd_edge.runtime.annotated_video import AnnotatedVideo
from srd_edge.runtime.merged import MergedSource
from srd_edge.runtime.reader_thread import ReaderThread
from srd_edge.runtime.records import Result
from srd_edge.runtime.runner import run
from srd_edge.runtime.sinks import JsonLines
from srd_edge.runtime.source import SourcedFrame, SourceFacts
from srd_edge.runtime.sources import open_source, open_sources
from srd_edge.runtime.tally import Tally
from srd_edge.runtime.terminal import progress_bar


@dataclass
class Brightness:
    """Says how bright a frame is; dark ones are suspicious, every fifth is late."""

    late_every: int = 5
    before: Callable[[Frame], None] | None = None
    forgotten: int = 0
    forgotten_of: list[int] = field(default_factory=list)
    rested: int = 0
    captioned_of: list[int] = field(default_factory=list)
    at_once: list[tuple[int, ...]] = field(default_factory=list)

    def rest(self) -> None:
        self.rested += 1

    def forget(self, source: int = 0) -> None:
        self.forgotten += 1
        self.forgotten_of.append(source)

    def captions(self, frames: Mapping[int, Frame], *, compare: bool = False) -> dict[int, Result]:
        self.captioned_of.extend(frames)
        self.at_once.append(tuple(frames))
        return {source: self.caption(frame, compare=compare) for source, frame in frames.items()}

    def caption(self, frame: Frame, *, compare: bool) -> Result:
        if self.before is not None:
            self.before(frame)
        is_dark = frame.pixels.mean() < 100
        late = frame.index % self.late_every == self.late_every - 1
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption="a dark picture" if is_dark else "a bright picture",
            verdict="suspicious" if is_dark else "clean",
            suspicion=float(is_dark),
            raw_caption=("a banana" if is_dark else "a bright picture") if compare else None,
            stage_ms={"encode": 2.0, **({"decode": 4.0} if is_dark else {})},
            total_ms=float(frame.index + 1),
            within_budget=not late,
            degraded=("second_view",) if late else (),
        )


@dataclass
class Kept:
    results: list[Result] = field(default_factory=list)
    closed: int = 0

    def write(self, frame: Frame, result: Result) -> None:
        assert frame.index == result.frame
        assert not self.closed
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1


class Broken(Kept):
    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        raise RunError(expected="space", found="none", do="delete something")

    def close(self) -> None:
        super().close()
        raise RunError(expected="space", found="still none", do="delete something")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(10):
        picture = np.full((8, 8, 3), 50 if index < 4 else 200, np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


def test_every_frame_reaches_every_sink_and_is_counted(pictures: Path, tmp_path: Path) -> None:
    kept = Kept()
    done: list[int] = []
    lines, video = JsonLines(tmp_path / "out.jsonl"), AnnotatedVideo(tmp_path / "out.webm")
    source = open_source(str(pictures))
    summary = run(source, Brightness(), [kept, lines, video], compare=True, progress=done.append)
    assert [result.frame for result in kept.results] == list(range(10))
    assert done == list(range(1, 11))
    assert kept.closed == 1
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [result.to_json() for result in kept.results]
    assert int(cv2.VideoCapture(str(tmp_path / "out.webm")).get(cv2.CAP_PROP_FRAME_COUNT)) == 10
    assert summary.to_json() == {
        "frames": 10,
        "verdicts": {"clean": 6, "suspicious": 4, "held": 0, "undefended": 0},
        "compared": 10,
        "captions_changed": 4,
        "total_ms": {"p50": 5.5, "p90": 9.1, "p95": 9.55, "p99": 9.91},
        "stage_ms": {"encode": 2.0, "decode": 4.0},
        "late": 2,
        "degraded": {"second_view": 2},
        "lost": {},
        "passed_over": 0,
        "reconnections": 0,
    }
    json.dumps(summary.to_json())


def test_results_name_their_file_only_among_several(pictures: Path) -> None:
    kept = Kept()
    run(open_source(str(pictures)), Brightness(), [kept])
    assert [result.source for result in kept.results] == [
        str(pictures / f"{index}.png") for index in range(10)
    ]
    kept = Kept()
    summary = run(open_source(str(pictures / "3.png")), Brightness(), [kept])
    assert [result.source for result in kept.results] == [None]
    assert (summary.compared, summary.captions_changed) == (0, 0)


def test_the_defender_forgets_between_files_not_between_frames(tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi"):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 5, (8, 8))
        for _ in range(3):
            writer.write(np.full((8, 8, 3), 200, np.uint8))
        writer.release()
    forgotten: list[int] = []
    defender = Brightness(before=lambda _: forgotten.append(defender.forgotten))
    run(open_source(str(tmp_path)), defender, [])
    assert forgotten == [1, 1, 1, 2, 2, 2]


def test_each_source_is_remembered_and_forgotten_for_itself(pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (pictures / "9.png").rename(other / "9.png")
    (pictures / "8.png").rename(other / "8.png")
    defender, kept = Brightness(), Kept()
    run(open_sources([str(pictures), str(other)]), defender, [kept])
    assert sorted(defender.captioned_of) == sorted(defender.forgotten_of) == [0] * 8 + [1] * 2
    said = [(result.source, result.frame) for result in kept.results]
    assert [frame for name, frame in said if "other" not in str(name)] == list(range(8))
    assert [frame for name, frame in said if "other" in str(name)] == [0, 1]
    assert all(len(sources) == 1 for sources in defender.at_once)


def test_frames_that_have_come_are_captioned_at_once_one_of_a_source() -> None:
    picture = np.full((8, 8, 3), 200, np.uint8)
    there = threading.Event()

    def camera(number: int, count: int) -> Generator[SourcedFrame, None, None]:
        for index in range(count):
            yield SourcedFrame(Frame(picture, index), f"cam{number}")

    sources = [
        ReaderThread(camera(number, count), SourceFacts(f"cam{number}"))
        for number, count in enumerate((3, 1, 2))
    ]
    merged = MergedSource(sources)
    merged.watch(lambda: there.set() if merged.waiting == 6 else None)
    assert there.wait(10)
    defender, kept = Brightness(), Kept()
    run(merged, defender, [kept], side_by_side=3)
    assert defender.at_once == [(0, 1, 2), (0, 2), (0,)]
    assert [(result.source, result.frame) for result in kept.results] == [
        ("cam0", 0),
        ("cam1", 0),
        ("cam2", 0),
        ("cam0", 1),
        ("cam2", 1),
        ("cam0", 2),
    ]


def test_a_late_frame_is_an_error_when_strict(pictures: Path) -> None:
    kept, tally = Kept(), Tally()
    with pytest.raises(RunError, match=r"frame 4 within its budget of 3 ms, found \d+\.\d\d ms"):
        source = open_source(str(pictures))
        run(source, Brightness(), [kept], strict=True, budget_ms=3.0, tally=tally)
    assert [result.frame for result in kept.results] == [0, 1, 2, 3, 4]
    assert kept.closed == 1
    assert (tally.summary().frames, tally.summary().late) == (5, 1)


def test_an_interrupt_leaves_whole_results_and_a_summary(pictures: Path, tmp_path: Path) -> None:
    def interrupt(frame: Frame) -> None:
        if frame.index == 6:
            raise KeyboardInterrupt

    kept, tally, path = Kept(), Tally(), tmp_path / "out.webm"
    source = open_source(str(pictures))
    with pytest.raises(KeyboardInterrupt):
        run(source, Brightness(before=interrupt), [kept, AnnotatedVideo(path)], tally=tally)
    assert tally.summary().frames == len(kept.results) == 6
    assert kept.closed == 1
    assert int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert list(source) == []


def test_a_run_without_end_keeps_the_times_of_its_last_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally_module, "TIMES_KEPT", 4)
    tally, captioner = Tally(), Brightness()
    for index in range(11):
        tally.add(captioner.caption(Frame(np.zeros((4, 4, 3), np.uint8), index), compare=False))
    summary = tally.summary()
    assert (summary.frames, summary.verdicts["suspicious"], summary.late) == (11, 11, 2)
    assert sorted(tally.total_ms) == [8.0, 9.0, 10.0, 11.0]
    assert summary.total_ms["p50"] == 9.5


def test_what_was_read_before_a_bad_picture_is_written(pictures: Path) -> None:
    (pictures / "7.png").write_text("no picture")
    kept, tally = Kept(), Tally()
    with pytest.raises(SourceError, match=r"7\.png"):
        run(open_source(str(pictures)), Brightness(), [kept], tally=tally)
    assert [result.frame for result in kept.results] == list(range(7))
    assert (kept.closed, tally.summary().frames) == (1, 7)


def test_every_sink_is_closed_even_if_one_breaks(pictures: Path) -> None:
    first, broken, last = Kept(), Broken(), Kept()
    with pytest.raises(RunError, match="none"):
        run(open_source(str(pictures)), Brightness(), [first, broken, last])
    assert (first.closed, broken.closed, last.closed) == (1, 1, 1)


class Leaky(Kept):
    name, lost = "leaky", 0

    def close(self) -> None:
        super().close()
        self.lost = 3


def test_what_sinks_lose_is_counted_when_they_are_closed(pictures: Path) -> None:
    tally = Tally()
    with pytest.raises(RunError, match="none"):
        run(open_source(str(pictures)), Brightness(), [Leaky(), Broken()], tally=tally)
    assert tally.summary().to_json()["lost"] == {"leaky": 3}
    summary = run(open_source(str(pictures)), Brightness(), [Kept(), Leaky()])
    assert summary.lost == {"leaky": 3}
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(summary.table())
    assert "3 results to leaky" in console.export_text()


def test_the_table_is_for_people(pictures: Path) -> None:
    summary = run(open_source(str(pictures)), Brightness(), [], compare=True)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(summary.table())
    text = console.export_text()
    for words in (
        "6 clean",
        "4 suspicious",
        "4 of 10 differ",
        "p99 9.9",
        "decode 4.0",
        "2 frames",
    ):
        assert words in text
    console.print(Tally().summary().table())


@pytest.mark.parametrize("frames", [None, 3])
def test_the_progress_bar_is_silent_where_nobody_watches(
    frames: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar(frames) as progress:
        progress(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == ""
