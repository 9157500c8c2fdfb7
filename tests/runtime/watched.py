"""What tests watch: pictures, a camera that does as it is told, and a defender that counts."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.handover import Handover, ThreadedSource
from srd_edge.runtime.records import Result
from srd_edge.runtime.source import SourcedFrame, SourceFacts

FRAMES = 9


@dataclass
class Numbering:
    """Says which frame it is; ``before`` may wait, or fail."""

    before: Callable[[Frame], object] = lambda _: None
    captioned: list[int] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def rest(self) -> None:
        pass

    def forget(self, source: int = 0) -> None:
        self.forgotten.append(source)

    def captions(self, frames: Mapping[int, Frame], *, compare: bool = False) -> dict[int, Result]:
        return {n: self.caption(frame, n, compare=compare) for n, frame in frames.items()}

    def caption(self, frame: Frame, source: int, *, compare: bool) -> Result:
        self.before(frame)
        self.captioned.append(frame.index)
        raw = "a banana" if compare else None
        return Result(frame.index, frame.time_s, f"{source}", "clean", 0.0, raw_caption=raw)


class Camera(ThreadedSource):
    """A live source that shows what it is told to, and is silent otherwise."""

    def __init__(self) -> None:
        super().__init__(SourceFacts("camera", live=True), Handover(1, newest=True))
        self.silent, self.closed = threading.Event(), False

    def show(self, *indices: int) -> None:
        for index in indices:
            frame = Frame(np.zeros((4, 4, 3), np.uint8), index)
            self._handover.put(SourcedFrame(frame, self.name))

    def _read(self) -> None:
        self.silent.wait()

    def _unblock(self) -> None:
        self.closed = True
        self.silent.set()


def assert_no_thread_is_left() -> None:
    give_up = time.monotonic() + 30
    while left := [t.name for t in threading.enumerate() if t.name.startswith("srd-edge ")]:
        gc.collect()
        assert time.monotonic() < give_up, left
        time.sleep(0.01)


def pictures(folder: Path, count: int = FRAMES) -> str:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((6, 8, 3), 20 * index, np.uint8))
    return str(folder)


async def all_of(results: AsyncIterator[tuple[Frame, Result]], slow_s: float = 0.0) -> list[Result]:
    kept = []
    async for frame, result in results:
        assert frame.index == result.frame
        kept.append(result)
        await asyncio.sleep(slow_s)
    return kept
