"""The command line as tests call it, what it answers, and what it is given to look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COMMAND = (sys.executable, "-P", "-c", "from srd_edge.cli import main; main()")
CODECS = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, Any]]:
        return parsed(self.out)


SrdEdge = Callable[..., Outcome]


def parsed(text: str) -> list[dict[str, Any]]:
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def write_clip(path: Path, frames: int = 10, size: tuple[int, int] = (48, 32)) -> Path:
    fourcc = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, size)
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    writer.release()
    return path


def write_picture(path: Path, picture: Any = None) -> Path:
    if picture is None:
        picture = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("srd-edge: error: expected ")
    for word in (", found ", ": ", *words):
        assert word in line
