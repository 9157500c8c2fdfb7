"""SubRip subtitles: what was said and when, for any player beside the clip.

One cue for each stretch of frames with the same caption and the same verdict. The cue that is open
is on disk from its first frame on, and is written over with a later end as the stretch goes on, so
that a run that is killed leaves a file that plays up to its last frame.

Times are the frames' own, of one source: those of its files follow each other. Pictures have none:
each takes as long as it does in an annotated video, for which such subtitles are good.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.reasons import one_line
from srd_edge.runtime.records import Result
from srd_edge.runtime.sinks import FALLBACK_FPS, check_writable, write_failed

SUBTITLES_SUFFIX: Final = ".srt"

_LONGEST_GAP_S: Final = 2.0
"""Frames that are further apart do not belong to one stretch: a stream was away between them."""
_LOOKALIKES: Final = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})
"""SubRip has no way to escape what players take for markup."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A stretch of frames that say the same.

    Args:
        number: from 1 on.
        start_s: seconds on the subtitles' own time, which only rises.
        end_s: likewise.
        text: one line, as it is shown.
    """

    number: int
    start_s: float
    end_s: float
    text: str

    def __str__(self) -> str:
        return f"{self.number}\n{stamp(self.start_s)} --> {stamp(self.end_s)}\n{self.text}\n\n"


class Subtitles:
    """The sink.

    Args:
        path: ends with .srt, and is or becomes a file; written anew from the first caption on.
        fps: frames a second, which says how long the last frame lasts; None for five.

    Raises:
        UsageError: here, for another suffix, or for a pipe, in which nothing can be written over.
        RunError: here if the path cannot be written, from ``write`` if the disk is full.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self._path, self._gap_s = named_subtitles(path), 1.0 / (fps or FALLBACK_FPS)
        self._file: int | None = None
        self._cue: Cue | None = None
        self._place = self._end = 0
        self._count = 0
        self._source: str | None = None
        self._time_s, self._start_s, self._base_s = 0.0, -self._gap_s, 0.0
        check_writable(self._path)

    def write(self, frame: Frame, result: Result) -> None:
        last_s, text = self._start_s, shown(result)
        start_s = self._start_s = self._on_own_time(result)
        cue = self._cue
        if cue is not None and start_s - last_s <= _LONGEST_GAP_S:
            goes_on = cue.text == text
            self._put(frame, replace(cue, end_s=start_s + self._gap_s if goes_on else start_s))
            if goes_on:
                return
        self._cue, self._place = None, self._end
        if text is not None:
            self._count += 1
            self._put(frame, Cue(self._count, start_s, start_s + self._gap_s, text))

    def close(self) -> None:
        """Close the file; without a single caption there is none."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _on_own_time(self, result: Result) -> float:
        """When the frame begins: times start anew with each file, these go on."""
        if result.source != self._source or result.time_s <= self._time_s:
            next_s = self._start_s + self._gap_s
            is_same = result.source == self._source
            self._base_s = next_s - (result.time_s if is_same else 0.0)
        self._source, self._time_s = result.source, result.time_s
        return self._base_s + result.time_s

    def _put(self, frame: Frame, cue: Cue) -> None:
        """Write ``cue`` where the last one lies, or after all of them; whole or not at all."""
        data = str(cue).encode()
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            done = os.pwrite(self._file, data, self._place)
            if done < len(data):
                done += os.pwrite(self._file, data[done:], self._place + done)
        except OSError as error:
            if self._file is not None and self._cue is None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._place)
            raise write_failed(f"the subtitle of frame {frame.index}", self._path, error) from error
        self._cue, self._end = cue, self._place + len(data)


def shown(result: Result) -> str | None:
    """One line for the screen, marked with any verdict but clean; None where there is no caption.

    A caption is what an attacker may have chosen: it can neither begin a cue nor hold markup.
    """
    said = one_line((result.caption or "").translate(_LOOKALIKES))
    if not said:
        return None
    return said if result.verdict == "clean" else f"[{result.verdict}] {said}"


def stamp(seconds: float) -> str:
    """``seconds`` as SubRip writes them: hours, minutes, seconds and milliseconds."""
    rest, ms = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d},{ms:03d}"


def named_subtitles(path: str | Path) -> Path:
    """``path``, if subtitles can be written there.

    Raises:
        UsageError: for another suffix than .srt, and for what is there and no file.
    """
    path = Path(path)
    is_other = path.exists() and not path.is_file() and not path.is_dir()
    if path.suffix.lower() != SUBTITLES_SUFFIX or is_other:
        raise UsageError(
            expected=f"a file name that ends with {SUBTITLES_SUFFIX}",
            found=f"'{path}'" + (", which is no file" if is_other else ""),
            do="name a file such as captions.srt",
        )
    return path
