"""An annotated video for eyes: frames with what was done to them and what is said of them.

As .webm or .avi it plays up to where a run was killed.
"""

from __future__ import annotations

import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.containers import is_finished
from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.records import Result
from srd_edge.runtime.sinks import FALLBACK_FPS, check_writable

CODECS: Final = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG"}
"""FourCC by suffix. VP80 since OpenCV's VP90 encodes twenty times slower."""

_SPARE_BYTES: Final = 1 << 20
_MOST_WAITING: Final = 2
"""Annotated pictures that are still to be encoded, while the next frame is captioned."""


class AnnotatedVideo:
    """A video of annotated frames, as large as the first one; others are letterboxed into it.

    Args:
        path: .webm (plays in every browser, and up to where it was cut off), .avi or .mp4.
        fps: frames a second; None for a slow five, which suits pictures.
        meanwhile: whether pictures are encoded on a thread of its own while the next frames are
            captioned. Both together take less time; each takes more, which no budget has left.

    Raises:
        UsageError: here, for another suffix.
        RunError: here if the path cannot be written; from ``write`` if the encoder does not work
            or, up to two frames later and from ``close``, if the disk is full.
    """

    def __init__(
        self, path: str | Path, fps: float | None = None, *, meanwhile: bool = False
    ) -> None:
        self._path = Path(path)
        self._codec, self._fps = codec_for(path), fps or FALLBACK_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._compare = self._is_broken = False
        self._thread = ThreadPoolExecutor(1, "srd-edge encoder") if meanwhile else None
        self._waiting: deque[Future[None]] = deque()
        check_writable(self._path)

    def write(self, frame: Frame, result: Result) -> None:
        if self._writer is None:
            self._compare = result.raw_caption is not None
        picture = annotate(frame, result, compare=self._compare)
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            self._writer = self._open()
        if self._thread is None:
            self._encode(self._writer, picture)
        else:
            self._waiting.append(self._thread.submit(self._encode, self._writer, picture))
            self._settle(_MOST_WAITING)

    def close(self) -> None:
        """Finish the file; without a single frame there is none."""
        if self._writer is None or not self._writer.isOpened():
            return
        try:
            self._settle(0)
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._writer.release()
        # OpenCV tells nobody that a write failed.
        if not self._is_broken and not is_finished(self._path):
            raise self._failed("a file that is cut off")

    def _settle(self, most: int) -> None:
        """Wait until no more than so many pictures are to be encoded; raise what went wrong."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _encode(self, writer: cv2.VideoWriter, picture: Pixels) -> None:
        """Add a picture to the file, unless one before it could not be."""
        if self._is_broken:
            return
        if shutil.disk_usage(self._path.parent).free < _SPARE_BYTES:
            self._is_broken = True
            raise self._failed("a full disk")
        writer.write(cv2.cvtColor(letterbox(picture, *self._size), cv2.COLOR_RGB2BGR))

    def _open(self) -> cv2.VideoWriter:
        quiet_opencv()
        fourcc = cv2.VideoWriter.fourcc(*self._codec)
        path = str(self._path.absolute())
        writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, fourcc, self._fps, self._size)
        if not writer.isOpened():
            raise self._failed(
                f"that OpenCV cannot open a {self._codec} encoder for it",
                f"name a file that ends with another of {', '.join(CODECS)}",
            )
        return writer

    def _failed(self, found: str, do: str = "free some space, or write elsewhere") -> RunError:
        return RunError(
            expected=f"to write the annotated video to '{self._path}'",
            found=found,
            do=f"{do}; the JSON lines do not depend on it",
        )


def codec_for(path: str | Path) -> str:
    """The FourCC for a video's name.

    Raises:
        UsageError: for a suffix that is not in CODECS.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CODECS:
        raise UsageError(
            expected=f"a file name that ends with {', '.join(CODECS)}",
            found=f"'{path}'",
            do="rename it; .webm plays in every browser",
        )
    return CODECS[suffix]


def letterbox(picture: Pixels, width: int, height: int) -> Pixels:
    """``picture`` scaled to fit into (height, width, 3) with black bars; itself if it fits."""
    old_height, old_width = picture.shape[:2]
    if (old_width, old_height) == (width, height):
        return picture
    factor = min(width / old_width, height / old_height)
    new_width, new_height = max(round(old_width * factor), 1), max(round(old_height * factor), 1)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    boxed = np.zeros((height, width, 3), np.uint8)
    boxed[top : top + new_height, left : left + new_width] = cv2.resize(
        picture, (new_width, new_height), interpolation=cv2.INTER_AREA
    )
    return boxed
