"""How ``srd-edge run`` ends when it is interrupted, terminated or killed."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import cv2
import pytest

from srd_edge import cli
from tests.command_line import COMMAND, parsed, write_clip, write_picture


def test_ctrl_c_leaves_whole_lines(toy_bundle: Path, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "long.avi", frames=4000, size=(32, 32)), tmp_path / "out"
    arguments = ["run", "--video", str(clip), "--bundle", str(toy_bundle), "-o", str(out)]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    give_up = time.monotonic() + 60
    while not out.exists() or out.stat().st_size < 2000:
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "srd-edge: interrupted"
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 4000


def test_sigterm_finishes_files_and_says_what_was_done(toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", frames=4000, size=(32, 32))
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    run = ("run", "--video", clip, "--bundle", toy_bundle, "-o", out, "--annotate", video)
    process = subprocess.Popen([*COMMAND, *map(str, run)], stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 60
    while not out.exists() or out.stat().st_size < 2000:
        assert process.poll() is None, "it ended before it could be terminated"
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.splitlines()[-1] == "srd-edge: terminated"
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 4000
    (counted,) = re.findall(r"^ *frames +(\d+) ", err, re.MULTILINE)
    assert int(counted) in (len(frames) - 1, len(frames)), "the summary"
    seen = int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT))
    assert seen in (len(frames) - 1, len(frames)), "the video plays up to there"


def test_sigterm_takes_away_the_page_of_a_run_that_has_ended(
    toy_bundle: Path, tmp_path: Path
) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--serve", "0", "--quiet")
    process = subprocess.Popen([*COMMAND, *map(str, run)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "live page at" in process.stderr.readline()
    assert "until Ctrl-C" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_second_sigterm_leaves_the_clean_up_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with cli._terminated_by_signal():
        with pytest.raises(cli.Terminated):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_killed_run_leaves_whole_lines_and_cues(toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", frames=4000, size=(32, 32))
    out, srt = tmp_path / "out.jsonl", tmp_path / "out.srt"
    run = ("run", "--video", clip, "--bundle", toy_bundle, "-o", out, "--srt", srt, "--quiet")
    process = subprocess.Popen([*COMMAND, *map(str, run)])
    give_up = time.monotonic() + 60
    while not srt.exists() or out.stat().st_size < 20_000:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 4000
    cues = srt.read_text().split("\n\n")
    assert cues.pop() == "", "the last cue is whole"
    for number, cue in enumerate(cues, start=1):
        lines = cue.split("\n")
        assert (lines[0], len(lines)) == (str(number), 3)
