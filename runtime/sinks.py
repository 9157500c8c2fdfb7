"""Where results go, and the first place of all: JSON lines.

Sinks of files refuse what they cannot write before the first frame, touch no file until it comes,
and leave something useful behind when the run is killed: here whole lines.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from srd_edge.errors import RunError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result

STANDARD_OUTPUT: Final = "-"

FALLBACK_FPS: Final = 5.0
"""Of what has no frame rate: slow enough to look at pictures."""


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
