"""What somebody sees who runs the command in a terminal, and what a pipe gets all the same."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.cells import cell_len

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result
from srd_edge.runtime.terminal import ReadableLines
from tests.command_line import COMMAND, SrdEdge, parsed, write_clip, write_picture
from tests.terminal import run_in_terminal

FRAME = Frame(np.zeros((4, 4, 3), np.uint8))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi", frames=30)


@pytest.fixture
def run(toy_bundle: Path, clip: Path) -> list[str]:
    return [*COMMAND, "run", "--bundle", str(toy_bundle), "--video", str(clip)]


def told(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(r["time_s"], r["verdict"], r["caption"]) for r in results]


def letters(lines: list[str]) -> str:
    """Of all lines, however they are broken."""
    return "".join("".join(lines).split())


def test_a_pipe_gets_the_lines_whatever_standard_error_is(
    srd_edge: SrdEdge, run: list[str], tmp_path: Path
) -> None:
    seen = run_in_terminal(run, pipe=tmp_path / "lines.jsonl")
    assert seen.code == 0
    alone = srd_edge(*run[len(COMMAND) :], "--quiet").results
    assert told(parsed(seen.piped)) == told(alone)
    assert "{" not in seen.written
    assert any("ms a frame" in line for line in seen.screen)


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_a_terminal_gets_a_line_for_what_is_new(
    srd_edge: SrdEdge, run: list[str], columns: int
) -> None:
    results = told(srd_edge(*run[len(COMMAND) :], "--quiet").results)
    news = results[:1] + [now for last, now in pairwise(results) if last[1:] != now[1:]]
    seen = run_in_terminal(run, columns)
    assert seen.code == 0
    end = next(i for i, line in enumerate(seen.screen) if line.startswith(" frames  "))
    lines = [line for line in seen.screen[:end] if line and "by --bundle" not in line]
    assert letters(lines) == letters([f"{t:.2f}s{said}{caption}" for t, said, caption in news])
    assert all(len(line) <= columns for line in seen.screen)
    assert "/30" in seen.written
    assert "/30" not in "".join(seen.screen), "the bar has gone"


def test_quiet_leaves_the_lines_alone(run: list[str]) -> None:
    seen = run_in_terminal([*run, "--quiet", "--max-frames", "1", "--no-defense"])
    (line, last) = seen.screen
    assert re.match(r"   0\.00 s  undefended  \S", line)
    assert last == ""


def test_json_lines_are_whole_in_a_terminal_that_asks_for_them(run: list[str]) -> None:
    seen = run_in_terminal([*run, "-o", "-", "--max-frames", "2"])
    lines = [line for line in seen.screen if line.startswith("{")]
    assert [result["frame"] for result in parsed("\n".join(lines) + "\n")] == [0, 1]
    assert "frames/s" not in seen.written


def test_sources_are_named_where_there_are_several(run: list[str], tmp_path: Path) -> None:
    other = write_clip(tmp_path / "the-yard-behind-the-house.avi", frames=2)
    seen = run_in_terminal([*run, "--video", str(other), "--max-frames", "2"])
    lines = [line for line in seen.screen if re.match(r" +\d+\.\d\d s  ", line)]
    assert len(lines) == 2
    assert all(re.match(r".{11}(clean|suspicious) {2,7}…\S+\.avi  \S", line) for line in lines)


def test_where_there_is_no_room_beside_it_a_caption_goes_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Result(0, 2.0, "two green stars above a ring", "clean", 0.0, source="the-front-door.avi")
    for columns, lines in (
        (80, ["   2.00 s  clean       the-front-door.avi  two green stars above a ring"]),
        (44, ["   2.00 s  clean       the-front-door.avi", "  two green stars above a ring"]),
    ):
        monkeypatch.setenv("COLUMNS", str(columns))
        ReadableLines().write(FRAME, said)
        assert capsys.readouterr().out.splitlines() == lines


def test_captions_stand_below_each_other_however_wide_letters_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = ReadableLines(timed=False)
    for source in ("玄関の前にあるとても長い名前のカメラ.avi", "door.avi"):
        lines.write(FRAME, Result(0, 0.0, "a dog", "clean", 0.0, source=source))
    first, second = capsys.readouterr().out.splitlines()
    assert cell_len(first) == cell_len(second)
    assert first.endswith("ラ.avi  a dog") or first.endswith("ラ.avi   a dog")


def test_a_caption_that_is_empty_is_not_one_to_come(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ReadableLines(timed=False)
    lines.write(FRAME, Result(0, 0.0, "", "undefended", None))
    lines.write(FRAME, Result(1, 0.1, None, "held", None))
    told = capsys.readouterr().out.splitlines()
    assert told == ["undefended  an empty caption", "held        no caption yet"]


def test_pictures_have_no_time(toy_bundle: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", str(picture), "--bundle", str(toy_bundle), "--quiet")
    (line, _) = run_in_terminal([*COMMAND, *run]).screen
    assert re.match(r"(clean|suspicious) {2,7}\S", line)


def test_where_nobody_knows_how_many_there_will_be(run: list[str], tmp_path: Path) -> None:
    pictures = tmp_path / "stream.mjpeg"
    rng = np.random.default_rng(0)
    encoded = cv2.imencode(".jpg", rng.integers(0, 256, (32, 48, 3), np.uint8))[1].tobytes()
    pictures.write_bytes(encoded * 40)
    seen = run_in_terminal(["bash", "-c", f'exec "$0" "$@" < {pictures}', *run[:-1], "-"])
    assert seen.code == 0
    assert re.search(r"40 frames   \d+\.\d frames/s   0:\d\d:\d\d", seen.written)
    assert not re.search(r"/\?|━", seen.written)


def test_where_it_is_known_what_is_left_is_said(run: list[str]) -> None:
    written = run_in_terminal([*run, "--every", "2"]).written
    assert re.search(r"━.* 15/15   \d+\.\d frames/s   0:\d\d:\d\d left", written)


def test_what_is_said_meanwhile_stands_above_the_bar(run: list[str]) -> None:
    seen = run_in_terminal([*run, "--webhook", "http://127.0.0.1:9/nobody"])
    said = [line for line in seen.screen if "127.0.0.1:9 " in line]
    assert said[0].startswith("srd-edge: warning: expected http://127.0.0.1:9 to take results")


def test_a_caption_moves_nothing_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold]a\r\ndog[/bold]\u202e"
    lines = ReadableLines()
    lines.write(FRAME, Result(0, 0.0, evil, "clean", 0.0, raw_caption=evil[::-1], source=evil))
    out = capsys.readouterr().out
    assert out.isascii() or "…" in out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "[bold]a dog[/bold]" in " ".join(out.split())


def test_what_is_new_is_so_for_its_own_source(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ReadableLines(timed=False)
    said = [
        ("door", "clean", "a dog", None),
        ("yard", "clean", "a dog", None),
        ("door", "clean", "a dog", None),
        ("door", "suspicious", "a dog", None),
        ("yard", "clean", "a dog", "a banana"),
        ("yard", "held", None, None),
    ]
    for index, (source, verdict, caption, raw) in enumerate(said):
        result = Result(index, 0.0, caption, verdict, 0.5, raw_caption=raw, source=source)  # type: ignore[arg-type]
        lines.write(FRAME, result)
    lines.close()
    assert capsys.readouterr().out.splitlines() == [
        "clean       door  a dog",
        "clean       yard  a dog",
        "suspicious  door  a dog",
        "clean       yard  a dog",
        "                  undefended: a banana",
        "held        yard  no caption yet",
    ]


def test_the_tables_of_bench_fit_into_80_columns(toy_bundle: Path, tmp_path: Path) -> None:
    bench = [*COMMAND, "bench", "--bundle", str(toy_bundle), "--no-start", "--gate"]
    seen = run_in_terminal([*bench, "--frames", "3"], pipe=tmp_path / "bench.json")
    assert parsed(seen.piped)[-1]["frames"] == 3
    assert "rounds/s" in seen.written
    assert max(map(len, seen.screen)) <= 80
    assert "…" not in seen.written
    for name in ("defended", "undefended", "gated"):
        assert sum(line.split()[:1] == [name] for line in seen.screen) == 2
