"""Where the results of ``srd-edge run`` go, also where there is no room or nobody reads them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.command_line import (
    COMMAND,
    Outcome,
    SrdEdge,
    assert_refused,
    parsed,
    write_clip,
    write_picture,
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_ends_the_run(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--quiet")
    assert_refused(srd_edge(*run, "-o", "/dev/full"), 1, "No space left", "frame 0")


def room_for(most: int) -> Callable[[], None]:
    """For a child, whose files then take so many bytes and no more, as on a disk that fills."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize(
    ("flag", "name", "most", "words"),
    [
        ("-o", "out.jsonl", 4000, "File too large"),
        ("--srt", "out.srt", 300, "File too large"),
        ("--annotate", "out.webm", 30_000, "cut off"),
        ("--annotate", "out.avi", 30_000, "cut off"),
        ("--annotate", "out.mp4", 30_000, "cut off"),
    ],
)
def test_a_disk_that_fills_in_the_middle_of_a_run(
    toy_bundle: Path, tmp_path: Path, flag: str, name: str, most: int, words: str
) -> None:
    clip, out = write_clip(tmp_path / "clip.avi", frames=16), tmp_path / name
    lines = () if flag == "-o" else ("-o", "-")
    run = ("run", "--video", clip, "--bundle", toy_bundle, "--quiet", *lines, flag, out)
    done = subprocess.run(
        [*COMMAND, *map(str, run)],
        capture_output=True,
        text=True,
        preexec_fn=room_for(most),
        timeout=60,
        check=False,
    )
    *told, line = done.stderr.splitlines()
    assert [line for line in told if "browsers do not play" not in line] == []
    assert_refused(Outcome(done.returncode, "", line), 1, name, words, "free some space")
    whole = [result["frame"] for result in parsed(done.stdout)]
    if flag == "-o":
        whole = [result["frame"] for result in parsed(out.read_text())]
        assert len(whole) < 16
    elif flag == "--srt":
        cues = out.read_text().split("\n\n")
        assert cues.pop() == ""
        assert all(len(cue.split("\n")) == 3 for cue in cues)
        assert len(cues) > 1
    else:
        assert len(whole) == 16, "the lines do not depend on the video"
        assert out.stat().st_size <= most
    assert whole == list(range(len(whole)))
    assert whole


class Receiver(BaseHTTPRequestHandler):
    taken: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_results_go_wherever_they_are_asked_for(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    clip = write_clip(tmp_path / "clip.avi")
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        hook = f"http://127.0.0.1:{server.server_port}/"
        run = ("run", "--video", clip, "--bundle", toy_bundle, "--quiet", "--webhook", hook)
        only = srd_edge(*run)
        assert (only.code, only.out, only.err) == (0, "", "")
        several = srd_edge(*run, "-o", "-", "--srt", tmp_path / "out.srt", "--metrics", "0")
        server.shutdown()
    assert several.code == 0
    assert several.err.startswith("srd-edge: metrics at http://127.0.0.1:")
    assert [result["frame"] for result in Receiver.taken] == [*range(10), *range(10)]
    assert Receiver.taken[10:] == several.results
    assert (tmp_path / "out.srt").read_text().startswith("1\n00:00:00,000 --> ")


def test_a_reader_that_has_seen_enough(toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", frames=300, size=(32, 32))
    process = subprocess.Popen(
        [*COMMAND, "run", "--video", clip, "--bundle", toy_bundle, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_a_sink_of_ones_own_whose_pipe_breaks_is_no_reader_that_has_seen_enough(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    sink = tmp_path / "own.py"
    sink.write_text(
        "class Own:\n"
        "    def write(self, frame, result): raise BrokenPipeError(32, 'Broken pipe')\n"
        "    def close(self): ...\n"
    )
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--quiet")
    assert_refused(srd_edge(*run, "--sink", f"{sink}:Own"), 1, "--sink", "a broken pipe")


def closed(descriptor: int) -> Callable[[], None]:
    return lambda: os.close(descriptor)


def test_standard_streams_that_are_closed(toy_bundle: Path, tmp_path: Path) -> None:
    picture, out = write_picture(tmp_path / "picture.png"), tmp_path / "out.jsonl"
    run = [*COMMAND, "run", "--image", str(picture), "--bundle", str(toy_bundle)]

    def ended(*more: str, without: int) -> Outcome:
        done = subprocess.run(
            [*run, *more],
            capture_output=True,
            text=True,
            preexec_fn=closed(without),
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    assert_refused(ended(without=1), 1, "standard output", "closed", "-o")
    assert ended("-o", str(out), "--quiet", without=1) == Outcome(0, "", "")
    assert len(parsed(out.read_text())) == 1
    silent = ended(without=2)
    assert (silent.code, len(silent.results)) == (0, 1)


def test_words_that_nobody_reads_end_no_run(toy_bundle: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--quiet", "-o", "-")
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, *map(str, run), "--annotate", str(tmp_path / "out.mp4")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, len(parsed(done.stdout.decode()))) == (0, 1)
