"""``srd-edge run`` on real streams: an HTTP server that fails, and standard input."""

from __future__ import annotations

import fcntl
import http.server
import json
import re
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import pytest

from tests.broker import Broker, Listener, until
from tests.running import MAIN, PATIENCE_S, Run, assert_live

SAYS_THAT_IT_WAITS = """
import sys
from srd_edge.runtime.standard_input import StoppableInput
chunks = StoppableInput.chunks
StoppableInput.chunks = lambda its: (print("waiting", file=sys.stderr, flush=True), chunks(its))[1]
"""


def jpeg(index: int) -> bytes:
    picture = np.full((64, 96, 3), 20 + index * 37 % 200, np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def assert_one_line(run: Run, code: int, *words: str) -> None:
    assert run.end() == code, run.said
    (line,) = run.said
    assert line.startswith("srd-edge: error: expected ")
    for word in words:
        assert word in line


class Visited(http.server.ThreadingHTTPServer):
    """Shows 20 pictures to each of two visitors; then the first finds silence, until ``over``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mjpeg)
        self.visits, self.over = 0, threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class Mjpeg(http.server.BaseHTTPRequestHandler):
    server: Visited

    def do_GET(self) -> None:
        self.server.visits += 1
        visit = self.server.visits
        if visit > 2:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for index in range(20):
            picture = jpeg(index)
            self.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: %d\r\n\r\n%b\r\n" % (len(picture), picture)
            )
            time.sleep(0.02)
        if visit == 1:
            self.server.over.wait()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_an_http_stream_that_stalls_comes_back_and_goes_for_good() -> None:
    with (
        Visited() as server,
        Run("--video", server.address, "--stall-s", "0.5", "--reconnect", "1") as run,
    ):
        assert run.end() == 4
    assert_live(run)
    assert f"{server.address}: lost after 20 frames (nothing for 0.5 s); trying again" in run.said
    assert f"{server.address}: back after 1 attempt" in run.said
    assert run.results[-1]["frame"] == 39
    assert "and not back in 1 attempt" in run.said[-1]
    seen, passed = len(run.results), [line for line in run.said if "passed over" in line]
    assert f"{40 - seen} frames" in passed[0] if seen < 40 else not passed


def test_several_sources_of_which_one_goes_for_good(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    with Visited() as server:
        live = ("--video", server.address, "--stall-s", "0.5", "--reconnect", "0")
        with Run("--video", tmp_path, *live) as run:
            assert run.end() == 0, run.said
    numbers: dict[str, list[int]] = {}
    for result in run.results:
        numbers.setdefault(result["source"], []).append(result["frame"])
    shown = numbers.pop(server.address)
    assert shown == sorted(set(shown))
    assert shown[-1] == 19
    assert numbers == {str(tmp_path / f"{index}.jpg"): [index] for index in range(3)}
    failures = [line for line in run.said if line.startswith(f"{server.address}: expected frames")]
    assert len(failures) == 1


def test_ctrl_c_while_a_stream_is_silent() -> None:
    with Visited() as server, Run("--video", server.address, "--quiet") as run:
        run.wait_for_frame(19)
        assert run.interrupt() == 130
    assert [line for line in run.said if line] == ["srd-edge: interrupted"]


def test_motion_jpeg_through_a_pipe() -> None:
    with Run("--video", "-", "--quiet", stdin=subprocess.PIPE) as run:
        assert run.process.stdin is not None
        run.process.stdin.write(b"".join(map(jpeg, range(6))))
        run.process.stdin.flush()
        run.wait_for_frame(5)  # while the pipe is still open
        run.process.stdin.write(jpeg(6) + jpeg(7)[:-40])
        run.process.stdin.close()
        assert_one_line(run, 4, "picture 7 of standard input, found one that is cut off")
    assert [result["frame"] for result in run.results] == list(range(7))


def test_raw_frames_through_a_pipe(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.write_bytes(bytes(range(200)) * 48)
    with frames.open("rb") as file, Run("--video", "raw:20x20@10", stdin=file.fileno()) as run:
        assert run.end() == 0
    assert [(r["frame"], r["time_s"]) for r in run.results] == [(i, i / 10) for i in range(8)]


def test_a_slow_reader_holds_up_the_run_and_loses_nothing(tmp_path: Path) -> None:
    frames, pictures = tmp_path / "frames", tmp_path / "pictures"
    frames.write_bytes(bytes(range(200)) * 6 * 60)
    run = ("run", "--video", "raw:20x20@10", "--quiet", "-o", "-", "--annotate", f"{pictures}/")
    with frames.open("rb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", MAIN, *run], stdin=file, stdout=subprocess.PIPE
        )
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    room = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    lines = [process.stdout.readline()]

    def waiting() -> int:
        counted = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
        return int.from_bytes(counted, sys.byteorder)

    until(lambda: waiting() + 2 * len(lines[0]) > room)
    assert 0 < len(list(pictures.iterdir())) < 60, "captioning waits for the reader"
    lines += process.stdout.readlines()
    assert process.wait(PATIENCE_S) == 0
    assert sum(map(len, lines)) > 2 * room
    assert [json.loads(line)["frame"] for line in lines] == list(range(60))
    assert len(list(pictures.iterdir())) == 60
    process.stdout.close()


HURRIES = """
from srd_edge.runtime.outbox import Outbox
Outbox.__init__.__kwdefaults__["closing_s"] = 0.2
"""


def test_a_broker_that_is_killed_in_the_middle_of_a_run(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    arguments = ("--video", "raw:20x20@10", "-o", "-", "--mqtt", broker.url)
    with Run(*arguments, stdin=subprocess.PIPE, code=HURRIES + MAIN) as run:
        assert run.process.stdin is not None
        run.process.stdin.write(bytes(5 * 1200))
        run.process.stdin.flush()
        until(lambda: listener.frames() == list(range(5)))
        broker.kill()
        run.process.stdin.write(bytes(7 * 1200))
        run.process.stdin.close()
        assert run.end() == 0, run.said
    listener.close()
    assert [result["frame"] for result in run.results] == list(range(12))
    said = " ".join(" ".join(run.said).split())
    (lost,) = re.findall(rf"(\d+) results were not delivered to {broker.url}", said)
    assert 7 <= int(lost) <= 8, "the receipt of the last that arrived may be lost too"
    assert f"not delivered {lost} results to {broker.url}" in said, "the summary"


def test_rubbish_through_a_pipe() -> None:
    with Run("--video", "-", "--quiet", stdin=subprocess.PIPE) as run:
        assert run.process.stdin is not None
        run.process.stdin.write(b"This is not a film.\n" * 5000)
        run.process.stdin.close()
        assert_one_line(run, 4, "standard input", "found no video")
    assert run.results == []


@pytest.mark.parametrize("first", [b"", jpeg(0)])
def test_ctrl_c_while_standard_input_is_silent(first: bytes) -> None:
    run = Run("--video", "-", "--quiet", stdin=subprocess.PIPE, code=SAYS_THAT_IT_WAITS + MAIN)
    with run:
        assert run.process.stdin is not None
        run.process.stdin.write(first)
        run.process.stdin.flush()
        run.wait_for_words("waiting")
        if first:
            run.wait_for_frame(0)
        assert run.interrupt() == 130
    assert [line for line in run.said if line] == ["waiting", "srd-edge: interrupted"]
