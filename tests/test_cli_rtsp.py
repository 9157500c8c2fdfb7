"""``srd-edge run`` on RTSP: servers that are killed while it runs, and started again.

One is a server that others wrote (aio-rtsp-toolkit), with H.264 in a file; the other is our own
small one, with JPEG pictures.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.running import PATIENCE_S, Run, assert_live

OUR_SERVER = Path(__file__).with_name("runtime") / "rtsp_server.py"
THEIR_SERVER = Path(sys.executable).with_name("rtsp-server")


def write_film(path: Path) -> None:
    """Two seconds of H.264 in Matroska: grey pictures, each of another brightness."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", 5
        for index in range(50):
            picture = np.full((64, 96, 3), 20 + index * 37 % 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


class FileServer:
    """Serves the films of a folder at one port, whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        place = ("--dir", self._folder, "--host", "127.0.0.1", "--port", str(self.port))
        self._process = subprocess.Popen(
            [THEIR_SERVER, *place, "--control-port", "0"], stdout=subprocess.DEVNULL
        )
        give_up = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    write_film(tmp_path / "cam.mkv")
    made = FileServer(tmp_path)
    yield made
    made.kill()


def test_a_server_that_is_killed_twice(server: FileServer) -> None:
    address = f"rtsp://127.0.0.1:{server.port}/cam.mkv?play_count=0"
    server.start()
    with Run("--video", address, "--stall-s", "5", "--reconnect", "40") as run:
        run.wait_for_frames(5)
        for times in (1, 2):
            server.kill()
            run.wait_for_words("lost after", times)
            before = run.results[-1]["frame"]
            server.start()
            run.wait_for_words("back after", times)
            run.wait_for_frames(5)
            assert run.results[-1]["frame"] > before
        assert run.interrupt() == 130
    assert_live(run)
    assert re.search(r"reconnected\s+2 times", "\n".join(run.said))
    assert run.said[-1] == "srd-edge: interrupted"


@contextlib.contextmanager
def our_server(port: int = 0) -> Iterator[int]:
    """The port of a server that is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-P", OUR_SERVER, str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_an_rtsp_camera_that_restarts() -> None:
    with our_server() as port:
        address = f"rtsp://user:secret@127.0.0.1:{port}/cam"
        run = Run("--video", address, "--stall-s", "5", "--reconnect", "40")
        run.wait_for_frames(5)
    with run:
        run.wait_for_words("lost after")
        before = run.results[-1]["frame"]
        with our_server(port):
            run.wait_for_words("back after")
            run.wait_for_frames(5)
            assert run.interrupt() == 130
    assert_live(run)
    assert run.results[-1]["frame"] > before
    said = "\n".join(run.said)
    assert f"rtsp://127.0.0.1:{port}/cam: lost after" in said
    assert "secret" not in said
    assert run.said[-1] == "srd-edge: interrupted"
