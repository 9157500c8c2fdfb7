"""``srd-edge run`` while it goes on: what it has said so far, and how it is ended."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A test run in the background ignores SIGINT, and so would its children; a hang says where it is.
MAIN = """
import faulthandler, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
faulthandler.dump_traceback_later(40, file=os.fdopen(os.dup(2), "w"))
from srd_edge.cli import main
main()
"""
PATIENCE_S = 60


class Run:
    """A run in a process of its own, and what it has written so far."""

    def __init__(
        self, *arguments: str | Path, stdin: int = subprocess.DEVNULL, code: str = MAIN
    ) -> None:
        self.said: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, "run", *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._readers = [threading.Thread(target=read) for read in (self._read_out, self._read_err)]
        for reader in self._readers:
            reader.start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.results.append(json.loads(line))

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode().rstrip())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            is_alive = self.process.poll() is None
            assert (is_alive and time.monotonic() < give_up) or condition(), "\n".join(self.said)
            time.sleep(0.02)

    def wait_for_frames(self, more: int) -> None:
        """Of a stream that goes on, from now."""
        wanted = len(self.results) + more
        self.wait_for(lambda: len(self.results) >= wanted)

    def wait_for_frame(self, number: int) -> None:
        self.wait_for(lambda: bool(self.results) and self.results[-1]["frame"] >= number)

    def wait_for_words(self, words: str, times: int = 1) -> None:
        self.wait_for(lambda: "\n".join(self.said).count(words) >= times)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.end()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def assert_live(run: Run) -> None:
    """Frames are newer each time, by number and by the clock; two may have come in one burst."""
    numbers = [result["frame"] for result in run.results]
    times_s = [result["time_s"] for result in run.results]
    assert numbers == sorted(set(numbers)), numbers
    assert times_s == sorted(times_s), times_s
