"""Where results go: JSON lines, and an annotated video for eyes.

Both refuse what they cannot write before the first frame, touch no file until it comes, and leave
something useful behind when the run is killed: whole lines, and (as .webm or .avi) a video that
plays up to there.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import cv2
import numpy as np

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.containers import is_finished
from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.records import Result

STANDARD_OUTPUT: Final = "-"

CODECS: Final = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG"}
"""FourCC by suffix. VP80 since OpenCV's VP90 encodes twenty times slower."""

FALLBACK_FPS: Final = 5.0
"""Of what has no frame rate: slow enough to look at pictures."""
_SPARE_BYTES: Final = 1 << 20


class Sink(Protocol):
    """Takes every result of a run with its frame, in order. ``close`` may be called twice."""

    def write(self, frame: Frame, result: Result) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Lossy(Protocol):
    """A sink that loses results rather than hold up the run, and counts them."""

    @property
    def name(self) -> str:
        """What people know it by; nothing secret is in it."""

    @property
    def lost(self) -> int:
        """How many results were not delivered and will not be."""


class NoReaderError(BrokenPipeError):
    """Whoever read the lines has seen enough: no mistake, but there is nothing left to do."""


class JsonLines:
    """One JSON object a line, each on disk (or down the pipe) before the next frame.

    A line goes out in one write, so that an interrupted run ends with a whole line.

    Args:
        path: a file, written anew from the first frame on; ``-`` for standard output.

    Raises:
        RunError: here if the path cannot be written, from ``write`` if the disk is full.
        NoReaderError: from ``write`` if nobody reads the pipe any more.
    """

    def __init__(self, path: str | Path) -> None:
        self._name = "standard output" if str(path) == STANDARD_OUTPUT else Path(path)
        self._path = Path(path)
        self._is_file = str(path) != STANDARD_OUTPUT
        self._file: io.FileIO | None = None
        if self._is_file:
            check_writable(self._path)
        elif sys.stdout is None:
            raise RunError(
                expected="standard output to write the lines to",
                found="that it is closed",
                do="name a file with -o",
            )

    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        line = json.dumps(result.to_json(), allow_nan=False) + "\n"
        try:
            if self._is_file:
                self._file = self._file or io.FileIO(self._path, "w")
                _write_whole(self._file, line.encode("ascii"))
            else:
                sys.stdout.write(line)
                sys.stdout.flush()
        except BrokenPipeError as error:
            raise NoReaderError(*error.args) from error
        except OSError as error:
            raise write_failed(f"frame {result.frame}", self._name, error) from error

    def close(self) -> None:
        """Close the file; without a single frame there is none."""
        if self._file is not None:
            self._file.close()


class AnnotatedVideo:
    """A video of annotated frames, as large as the first one; others are letterboxed into it.

    Args:
        path: .webm (plays in every browser, and up to where it was cut off), .avi or .mp4.
        fps: frames a second; None for a slow five, which suits pictures.

    Raises:
        UsageError: here, for another suffix.
        RunError: here if the path cannot be written; from ``write`` or ``close`` if the disk is
            full or the encoder does not work.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self._path = Path(path)
        self._codec, self._fps = codec_for(path), fps or FALLBACK_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._compare = False
        check_writable(self._path)

    def write(self, frame: Frame, result: Result) -> None:
        if self._writer is None:
            self._compare = result.raw_caption is not None
        picture = annotate(frame, result, compare=self._compare)
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            self._writer = self._open()
        self._check_space()
        self._writer.write(cv2.cvtColor(letterbox(picture, *self._size), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file; without a single frame there is none."""
        if self._writer is None or not self._writer.isOpened():
            return
        self._writer.release()
        # OpenCV tells nobody that a write failed.
        if not is_finished(self._path):
            raise self._failed("a file that is cut off")

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

    def _check_space(self) -> None:
        if shutil.disk_usage(self._path.parent).free < _SPARE_BYTES:
            raise self._failed("a full disk")

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


def check_writable(path: Path) -> None:
    """Find out whether ``path`` can be written, and leave everything as it was.

    A pipe or a device is left alone: whoever reads it would take the end of this for the end.

    Raises:
        RunError: if it cannot be.
    """
    try:
        target = path.resolve()  # so that a link is never what is removed
        is_new = not target.exists()
        if is_new or target.is_file() or target.is_dir():
            target.open("ab").close()
        if is_new:
            target.unlink()
    except OSError as error:
        raise _not_writable(path, error) from error


def write_failed(what: str, where: Path | str, error: OSError) -> RunError:
    """The error for a text file that takes no more, all of it up to there being whole."""
    return RunError(
        expected=f"to write {what} to " + (where if isinstance(where, str) else f"'{where}'"),
        found=error.strerror or type(error).__name__,
        do="free some space, or write elsewhere; what came before it is whole",
    )


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


def _write_whole(file: io.FileIO, line: bytes) -> None:
    """Write ``line`` at the end of ``file``, or nothing of it."""
    start, done = file.tell() if file.seekable() else None, 0
    try:
        while done < len(line):
            done += file.write(line[done:]) or 0
    except OSError:
        if start is not None:
            with contextlib.suppress(OSError):
                file.truncate(start)
        raise


def _not_writable(path: Path, error: OSError) -> RunError:
    is_missing = not path.parent.is_dir()
    reason = error.strerror or type(error).__name__
    return RunError(
        expected=f"a file that can be written at '{path}'",
        found=f"no directory '{path.parent}'" if is_missing else reason,
        do="create the directory first" if is_missing else "choose another path",
    )
