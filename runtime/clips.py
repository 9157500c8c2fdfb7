"""Video files: opened, read frame by frame, and judged when they end early."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2

from srd_edge.errors import SourceError
from srd_edge.kernels.frames import Frame, Pixels, rgb_from_cv2
from srd_edge.runtime.containers import missing_bytes, mp4_boxes
from srd_edge.runtime.pictures import check_area, empty_file, unreadable

# fmt: off
CLIP_SUFFIXES: Final = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))
# fmt: on
_PLAUSIBLE_FRAMES: Final = 1e9
_PLAUSIBLE_FPS: Final = 1000.0
_TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class ClipHeader:
    """What a clip says about itself; ``frames`` is an estimate in most containers."""

    frames: int | None
    fps: float | None


def open_clip(path: Path) -> tuple[cv2.VideoCapture, ClipHeader]:
    """Open a video file; the caller releases the capture.

    Raises:
        SourceError: for a file that is missing, empty, too large a picture or no video.
    """
    try:
        if path.stat().st_size == 0:
            raise empty_file(path, "a video")
        with path.open("rb") as file:
            boxes = mp4_boxes(file)
    except SourceError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    # The absolute path, since FFmpeg takes a name such as "cam:1.mp4" for a protocol; FFmpeg by
    # name, since OpenCV's other backends take "shot_01.mp4" for a sequence of pictures.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        is_cut = bool(boxes) and b"moov" not in boxes
        raise SourceError(
            expected=f"a video that FFmpeg can read in '{path}'",
            found="an MP4 that is cut off: its index (moov) is missing" if is_cut else "no video",
            do="copy or download it again" if is_cut else "check that it plays in a video player",
        )
    try:
        check_area(
            f"'{path}'",
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
    except SourceError:
        capture.release()
        raise
    return capture, header_of(capture)


def read_clip(path: Path, numbers: Iterator[int], every: int) -> Generator[Frame]:
    """The frames of a video file in order, each with its number and its time in this file.

    A clip whose picture size changes midway is scaled to its first size by OpenCV.

    Args:
        path: the file.
        numbers: one is taken for each frame read.
        every: only frames whose number is a multiple of it are decoded to pixels and yielded.

    Raises:
        SourceError: if it cannot be opened, holds no frame, or is cut off; the last after what
            there is has been yielded. A file with all its bytes may hold fewer frames than its
            header says (edit lists, sound that lasts longer): that is no error.
    """
    capture, header = open_clip(path)
    count, last_s = yield from read_frames(capture, header, str(path), numbers, every)
    if _ends_early(path, header, count, last_s):
        raise _cut_off(f"'{path}'", header, count)


def read_frames(
    capture: cv2.VideoCapture, header: ClipHeader, name: str, numbers: Iterator[int], every: int
) -> Generator[Frame, None, tuple[int, float]]:
    """Every ``every``th frame of an opened clip, which is released at the end.

    Returns:
        How many frames were read, and the time of the last in seconds.

    Raises:
        SourceError: if there is none, or one that cannot be decoded.
    """
    count, last_s = 0, 0.0
    try:
        while capture.grab():
            time_s = max(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, 0.0)
            if count and time_s <= last_s and header.fps:  # some containers carry no times
                time_s = count / header.fps
            number = next(numbers)
            if number % every == 0:
                yield Frame(_retrieve(capture, name, count), number, time_s)
            last_s = time_s
            count += 1
    finally:
        capture.release()
    if not count:
        raise SourceError(
            expected=f"at least one frame in '{name}'",
            found="a video without any that can be decoded",
            do="record or download it again",
        )
    return count, last_s


def read_streamed(
    capture: cv2.VideoCapture, header: ClipHeader, name: str, every: int
) -> Generator[Frame]:
    """As ``read_frames``, of a clip that comes from no file and is numbered from 0.

    Raises:
        SourceError: also if it ends before it should, after what there is has been yielded.
    """
    count, last_s = yield from read_frames(capture, header, name, itertools.count(), every)
    if _falls_short(header, count, last_s):
        raise _cut_off(name, header, count)


def _falls_short(header: ClipHeader, count: int, last_s: float) -> bool:
    """Whether ``count`` frames, the last at ``last_s`` seconds, are fewer than there should be.

    The header's count alone cannot tell: it counts frames that an edit list hides, and is
    a guess from the longest track's duration in WebM and AVI. Count and duration must both fall
    short.
    """
    if header.frames is None:
        return False
    slack = max(2.0, _TOLERANCE * header.frames)
    short_count = header.frames - count > slack
    return short_count and (header.fps is None or header.frames - last_s * header.fps - 1 > slack)


def _cut_off(what: str, header: ClipHeader, count: int) -> SourceError:
    """The SourceError for a clip that ended after ``count`` frames, too early."""
    total = f"{header.frames} frames" if header.frames else "a whole video"
    return SourceError(
        expected=f"{total} in {what}",
        found=f"{count}: the file is cut off",
        do="copy or download it again; the frames up to there were processed",
    )


def _ends_early(path: Path, header: ClipHeader, count: int, last_s: float) -> bool:
    """Whether the file's own size says so or, where the container does not state it, the count."""
    missing = missing_bytes(path)
    if missing:
        return header.frames is None or count < header.frames
    return missing is None and _falls_short(header, count, last_s)


def _retrieve(capture: cv2.VideoCapture, name: str, index: int) -> Pixels:
    ok, image = capture.retrieve()
    if not ok:
        raise SourceError(
            expected=f"a picture in frame {index} of '{name}'",
            found="one that cannot be decoded",
            do="check that the video plays there, or convert it with ffmpeg",
        )
    return rgb_from_cv2(image)


def header_of(capture: cv2.VideoCapture) -> ClipHeader:
    """What an opened capture says of its clip."""
    frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    return ClipHeader(
        round(frames) if 0 < frames < _PLAUSIBLE_FRAMES else None,
        fps if math.isfinite(fps) and 0 < fps <= _PLAUSIBLE_FPS else None,
    )
