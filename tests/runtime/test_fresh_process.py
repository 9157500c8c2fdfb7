"""What a fresh process takes, whoever starts it."""

from __future__ import annotations

import sys

import pytest

from srd_edge.errors import RunError
from srd_edge.runtime.fresh_process import start_afresh

SMALL = [sys.executable, "-I", "-S", "-c", "print('here', flush=True); print('there')"]
LARGE = [sys.executable, "-I", "-S", "-c", "held = b'1' * 200_000_000; print('here')"]


def test_the_peak_is_the_commands_own_whoever_starts_it() -> None:
    held = b"1" * 200_000_000
    small = start_afresh(SMALL)
    assert small.line == b"here\n"
    assert small.peak_mb < 100 < len(held) / 1e6
    assert 200 < start_afresh(LARGE).peak_mb < 300
    assert small.first_line_s > 0


def test_processes_of_its_own_count_together() -> None:
    script = """
import subprocess, sys
held = b"1" * 100_000_000
child = "held = b'1' * 100_000_000; print('up', flush=True); input()"
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
other = subprocess.Popen([sys.executable, "-c", child], **pipes)
other.stdout.readline()
import time
time.sleep(1)
other.communicate(b"\\n")
print("here")
"""
    assert 200 < start_afresh([sys.executable, "-I", "-S", "-c", script]).peak_mb < 260


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("raise SystemExit('no room')", "no room"),
        ("print('a'); raise SystemExit(3)", "exit 3"),
        ("", "exit 0"),
    ],
)
def test_a_command_that_fails_or_is_silent_is_an_error(script: str, found: str) -> None:
    with pytest.raises(RunError, match=found):
        start_afresh([sys.executable, "-I", "-S", "-c", script])


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunError, match="nowhere"):
        start_afresh(["/nowhere/srd-edge"])
