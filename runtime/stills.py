"""Annotated pictures for eyes: one file for the only frame, or a folder with one for each frame.

Each appears whole or not at all: it is written beside its place under a hidden name, then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal, TypeAlias

import cv2

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.annotated_video import CODECS
from srd_edge.runtime.pictures import PICTURE_SUFFIXES
from srd_edge.runtime.records import Result
from srd_edge.runtime.sinks import check_writable

STILL_SUFFIXES: Final = (".png", ".jpg", ".jpeg")

Form: TypeAlias = Literal["video", "picture", "folder"]

_JPEG_QUALITY: Final = 92
_MOST_NAME_BYTES: Final = 200
"""Of the 255 that a file's name may have; numbers and suffixes come on top."""


def form_of(name: str) -> Form:
    """What is to be written under ``name``.

    Raises:
        UsageError: for a suffix that is neither a video's nor a picture's.
    """
    suffix = Path(name).suffix.lower()
    if name.endswith(("/", os.sep)) or Path(name).is_dir():
        return "folder"
    if suffix in CODECS:
        return "video"
    if suffix in STILL_SUFFIXES:
        return "picture"
    raise UsageError(
        expected=f"a file name that ends with {', '.join((*CODECS, *STILL_SUFFIXES))}, or a folder",
        found=f"'{name}'",
        do="rename it, or put / at the end of a folder's name; .webm plays in every browser",
    )


class AnnotatedPicture:
    """The first frame, annotated; a clip may turn out to hold more than it said.

    Args:
        path: .png or .jpg; replaced if it is there.

    Raises:
        RunError: here if the path cannot be written, from ``write`` if the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._is_written = False
        check_writable(self._path)

    def write(self, frame: Frame, result: Result) -> None:
        if not self._is_written:
            _write(self._path, annotate(frame, result))
            self._is_written = True

    def close(self) -> None:
        """Nothing is open."""


class AnnotatedPictures:
    """A folder with every frame annotated, as PNG under the name of the file that it is from.

    Frames of clips have their number at the end, and so has a picture whose name is taken: by one
    from another folder, or by a file in ``reserved``. A run again replaces what the last one wrote.

    Args:
        folder: made when the first frame comes, in a folder that is there.
        only: the file's name for results without one, which are all from the same.
        reserved: resolved paths that are never written.

    Raises:
        RunError: here if the folder cannot be written to, from ``write`` if the disk is full.
    """

    def __init__(
        self, folder: str | Path, *, only: str, reserved: Collection[Path] = frozenset()
    ) -> None:
        self._folder, self._only, self._reserved = Path(folder), only, reserved
        self._taken: set[str] = set()
        if self._folder.is_file():
            raise RunError(
                expected=f"a folder at '{folder}'", found="a file", do="choose another name"
            )
        is_new = not self._folder.exists()
        check_writable(self._folder if is_new else self._folder / _part_name())

    def write(self, frame: Frame, result: Result) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _failed(self._folder, error) from error
        name = self._name(result.source or self._only, frame.index)
        _write(self._folder / name, annotate(frame, result))

    def close(self) -> None:
        """Nothing is open."""

    def _name(self, source: str, index: int) -> str:
        path = Path(source)
        stem = os.fsdecode(os.fsencode(path.stem)[:_MOST_NAME_BYTES])
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            stem += f"-{index:06d}"
        # In lower case, since there are file systems on which A.png is a.png.
        while f"{stem}.png".lower() in self._taken or self._is_reserved(f"{stem}.png"):
            stem += f"-{index:06d}"
        self._taken.add(f"{stem}.png".lower())
        return f"{stem}.png"

    def _is_reserved(self, name: str) -> bool:
        return (self._folder / name).resolve() in self._reserved


def _write(path: Path, picture: Pixels) -> None:
    """Put ``picture`` at ``path``, whole; where a link stands, at what it leads to."""
    target = path.resolve()
    beside = target.with_name(_part_name())
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)[1]
    try:
        beside.write_bytes(data.tobytes())
        beside.replace(target)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _failed(path, error) from error
        raise


def _part_name() -> str:
    return f".srd-edge-{os.getpid()}.part"


def _failed(path: Path, error: OSError) -> RunError:
    return RunError(
        expected=f"to write the annotated picture '{path}'",
        found=error.strerror or type(error).__name__,
        do="free some space, or write elsewhere; the JSON lines do not depend on it",
    )
