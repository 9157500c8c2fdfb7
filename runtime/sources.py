"""Where frames come from: one SPEC in, numbered frames out.

    video file | picture | directory | glob | list file (.txt) | camera number | address | "demo"

Frames are numbered over the whole run, one number for each frame that is *read*; with ``every=N``
each Nth is yielded and keeps its number. Files are read losslessly: every frame, in order, none
twice. Live sources (a camera, rtsp://, http://) are read the same way, one frame after the other,
so a consumer that is slower than the camera falls behind by what the driver or network buffers.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, Literal, Protocol, Self, TypeAlias

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.clips import (
    CLIP_SUFFIXES,
    ClipHeader,
    open_clip,
    open_stream,
    read_clip,
    read_stream,
)
from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.pictures import PICTURE_SUFFIXES, looks_like_picture, read_picture, unreadable
from srd_edge.runtime.reader_thread import ReaderThread, SourcedFrame

Kind: TypeAlias = Literal["video", "image", "any"]
"""``image`` takes pictures only; ``video`` takes pictures too, as the frames of a sequence."""

DEMO: Final = "demo"
DEMO_CLIP: Final = Path(__file__).with_name("assets") / "demo.webm"
LIST_SUFFIX: Final = ".txt"

_ADDRESS: Final = re.compile(r"(rtsps?|https?)://", re.IGNORECASE)


class Source(Protocol):
    """Frames to go through once: an iterator and a context manager.

    What goes wrong while reading is raised as a SourceError by ``next``, after the frames before
    it. ``close`` may be called at any time, more than once.
    """

    @property
    def name(self) -> str:
        """The SPEC that it was opened with."""

    @property
    def files(self) -> int:
        """How many files (or streams) the frames come from."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read, a list file too, resolved: no output may be one of them."""

    @property
    def frames(self) -> int | None:
        """How many frames to expect after ``every`` and ``max_frames``; None if nobody knows.

        An estimate for video files: many containers state a duration only.
        """

    @property
    def fps(self) -> float | None:
        """How many of the frames *yielded* make a second of the (first) clip's time, if any."""

    @property
    def live(self) -> bool:
        """Whether the frames come as they happen."""

    def __iter__(self) -> Iterator[SourcedFrame]: ...
    def __next__(self) -> SourcedFrame: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def close(self) -> None: ...


def open_source(
    spec: str, *, kind: Kind = "any", every: int = 1, max_frames: int | None = None
) -> Source:
    """Open what ``spec`` names. Clips and streams are opened here, so most bad input fails here.

    Args:
        spec: see the module's text. A file or directory of that name goes before a glob; relative
            paths in a list file count from the list's own folder.
        kind: what the user asked for.
        every: yield every Nth frame, counted over the whole run.
        max_frames: stop after that many frames have been yielded.

    Raises:
        SourceError: for anything that cannot be read, here or while iterating.
        UsageError: for ``every`` or ``max_frames`` below 1.
    """
    for name, value in (("every", every), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise UsageError(expected=f"{name} of at least 1", found=str(value), do="raise it")
    quiet_opencv()
    if (spec.isascii() and spec.isdigit()) or _ADDRESS.match(spec):
        return _open_live(spec, kind, every, max_frames)
    paths = _find(spec, kind)
    headers = [_header(path) for path in paths]
    counts = [header.frames for header in headers if header.frames is not None]
    fps = next((header.fps for header in headers if header.fps), None)
    expected: int | None = None
    if len(counts) == len(headers):
        expected = min(-(-sum(counts) // every), max_frames or sum(counts))
    return ReaderThread(
        _read_files(paths, every),
        name=spec,
        files=len(paths),
        paths=tuple(path.resolve() for path in {*paths, Path(spec).expanduser()}),
        frames=expected,
        fps=fps / every if fps else None,
        live=False,
        max_frames=max_frames,
    )


def _open_live(spec: str, kind: Kind, every: int, max_frames: int | None) -> Source:
    is_camera = spec.isdigit()
    if kind == "image":
        raise _not_a_picture(spec, "a camera" if is_camera else "a stream")
    capture, header = open_stream(int(spec) if is_camera else spec)
    name = f"camera {spec}" if is_camera else spec
    # Over http there may be a whole file, which may end; a camera may not.
    endless = is_camera or not spec.lower().startswith("http")
    stream = read_stream(capture, name, every, endless=endless)
    return ReaderThread(
        (SourcedFrame(frame, name) for frame in stream),
        name=spec,
        files=1,
        paths=(),
        frames=max_frames,
        fps=header.fps / every if header.fps else None,
        live=True,
        max_frames=max_frames,
    )


def _read_files(paths: list[Path], every: int) -> Generator[SourcedFrame]:
    numbers = itertools.count()
    for path in paths:
        if not _is_picture(path):
            for frame in read_clip(path, numbers, every):
                yield SourcedFrame(frame, str(path))
        elif (number := next(numbers)) % every == 0:
            yield SourcedFrame(Frame(read_picture(path), number), str(path))


def _header(path: Path) -> ClipHeader:
    if _is_picture(path):
        return ClipHeader(1, None)
    capture, header = open_clip(path)
    capture.release()
    return header


def _find(spec: str, kind: Kind) -> list[Path]:
    """The files that ``spec`` names, in order; at least one."""
    if spec == DEMO:
        if not DEMO_CLIP.is_file():
            raise SourceError(
                expected=f"the built-in clip at '{DEMO_CLIP}'",
                found="no such file",
                do="install srd-edge again, or name a video of your own",
            )
        return _of_kind([DEMO_CLIP], spec, kind)
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return _of_kind(_in_directory(path), spec, kind)
        if path.is_file():
            listed = _in_list(path) if path.suffix.lower() == LIST_SUFFIX else [path]
            return _of_kind(listed, spec, kind)
    except SourceError:  # an OSError too
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    if not glob.has_magic(spec):
        raise SourceError(
            expected=f"a file, directory, glob, list, camera number, address or 'demo' as '{spec}'",
            found="a device or pipe" if path.exists() else "no such file or directory",
            do="check the spelling and the working directory",
        )
    # Path.glob takes neither absolute patterns nor "..".
    matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    found = [match for match in matches if match.is_file() and _is_readable(match)]
    if not found:
        raise SourceError(
            expected=f"a picture or video that matches '{spec}'",
            found="no match",
            do="check the pattern, and quote it so that the shell leaves it alone",
        )
    return _of_kind(sorted(found, key=_natural), spec, kind)


def _in_directory(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in visible if path.is_file() and _is_readable(path)]
    if not found:
        raise SourceError(
            expected=f"pictures or videos in the directory '{folder}'",
            found="none (sub-directories are not searched)",
            do="name the directory they are in, or a glob such as 'folder/**/*.jpg'",
        )
    return sorted(found, key=_natural)


def _in_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise unreadable(path, error) from error
    found: list[Path] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = path.parent / Path(line.strip()).expanduser()
        if "\0" in line or not entry.is_file():
            raise SourceError(
                expected=f"the path of a file in line {number} of '{path}'",
                found=f"{os.fspath(entry)[:200]!r}, which is no file",
                do="correct the list: one path a line, relative to the list's own folder",
            )
        found.append(entry)
    if not found:
        raise SourceError(
            expected=f"at least one path in the list '{path}'",
            found="none",
            do="write one path a line",
        )
    return found


def _of_kind(paths: list[Path], spec: str, kind: Kind) -> list[Path]:
    if kind != "image":
        return paths
    pictures = [path for path in paths if _is_picture(path)]
    if not pictures:
        raise _not_a_picture(spec, "only video")
    return pictures


def _not_a_picture(spec: str, found: str) -> SourceError:
    return SourceError(
        expected=f"a picture, or several, as '{spec}'", found=found, do="use --video for it"
    )


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES | CLIP_SUFFIXES


def _is_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in PICTURE_SUFFIXES or (suffix not in CLIP_SUFFIXES and looks_like_picture(path))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts "frame 10" after "frame 9"."""
    pieces = re.split(r"(\d+)", str(path).casefold())
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece
    ]
