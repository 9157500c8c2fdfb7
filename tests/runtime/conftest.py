from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge import Defender
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.check_specs import Limit
from srd_edge.runtime.records import Observation


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], dict[str, Any]]:
    """The lists in tests/recorded, by name: what published packages hold."""
    folder = Path(__file__).resolve().parents[1] / "recorded"

    def read(name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return data

    return read


_CODECS = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}


def _write_clip(
    path: Path, frames: int = 30, size: tuple[int, int] = (96, 64), first: int = 0
) -> Path:
    fourcc = cv2.VideoWriter.fourcc(*_CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, size)
    assert writer.isOpened()
    for index in range(first, first + frames):
        writer.write(np.full((size[1], size[0], 3), 20 + index * 37 % 200, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """Writes a clip at 10 frames a second: (path, frames=30, size=(96, 64), first=0).

    Frame i of it is grey, ``20 + (first + i) * 37 % 200`` bright, which tells it from its
    neighbours in spite of a lossy codec.
    """
    return _write_clip


@dataclass(frozen=True)
class Wants:
    """Wants one action, and to stop after it."""

    action: int

    def q_values(self, _: Observation) -> NDArray[np.float32]:
        values = np.full(len(DEFAULT_TABLE), -1e3, np.float32)
        values[self.action], values[-1] = 10, 0
        return values


@dataclass(frozen=True)
class Curable:
    """A picture whose caption is refused, until one perturbation is laid over it.

    Args:
        bundle: its check tells the two captions apart.
        pixels: the picture, (H, W, 3) uint8 RGB.
        action: the perturbation.
        cured: the caption under it.
    """

    bundle: Bundle
    pixels: Pixels
    action: int
    cured: str


@pytest.fixture(scope="session")
def curable(checked_bundle: Path) -> Curable:
    bundle, action = read_bundle(checked_bundle), 3
    assert bundle.manifest.check is not None
    examined = replace(
        bundle.manifest.check,
        confidence=Limit(-1e4, 1.0),
        evidence=Limit(1e4, 1.0),
        confidence_weight=0.0,
        peer=False,
        retries=1,
    )
    passes = replace(bundle, manifest=replace(bundle.manifest, check=examined))
    as_it_is = Defender(passes, policy=Wants(len(DEFAULT_TABLE) - 1))
    covered = Defender(passes, policy=Wants(action))
    for seed in range(50):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
        raw, cured = as_it_is.caption(pixels), covered.caption(pixels)
        assert raw.opinion is not None
        assert cured.opinion is not None
        high, low = raw.opinion.contradiction or 0.0, cured.opinion.contradiction or 0.0
        if high > low + 1 and cured.caption is not None and raw.caption != cured.caption:
            check = replace(examined, evidence=Limit((high + low) / 2, 1.0))
            refuses = replace(bundle, manifest=replace(bundle.manifest, check=check))
            return Curable(refuses, pixels, action, cured.caption)
    raise AssertionError("no such picture")
