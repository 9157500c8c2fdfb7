"""The files that a SPEC names: a file, a directory, a glob, a list or the built-in clip."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Final, Literal, TypeAlias

from srd_edge.errors import SourceError
from srd_edge.runtime.addresses import without_secrets
from srd_edge.runtime.clips import CLIP_SUFFIXES
from srd_edge.runtime.pictures import PICTURE_SUFFIXES, looks_like_picture, unreadable

Kind: TypeAlias = Literal["video", "image", "any"]
"""``image`` takes pictures only; ``video`` takes pictures too, as the frames of a sequence."""

DEMO: Final = "demo"
DEMO_CLIP: Final = Path(__file__).with_name("assets") / "demo.webm"
LIST_SUFFIX: Final = ".txt"

_NAMES: Final = (
    "a file, directory, glob, list, camera number, address or 'demo'",
    "a picture, directory, glob or list",
)
"""Of what is asked for: videos, or pictures alone."""


def find_files(spec: str, kind: Kind) -> list[Path]:
    """The files that ``spec`` names, in order; at least one.

    Args:
        spec: a name, a pattern or "demo". A file or directory of that name goes before a glob.
        kind: what the user asked for.

    Raises:
        SourceError: where there is none, or none of that kind.
    """
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
    shown = without_secrets(spec)
    if not glob.has_magic(spec):
        raise SourceError(
            expected=f"{_NAMES[kind == 'image']} as '{shown}'",
            found="a device or pipe" if path.exists() else "no such file or directory",
            do=f"read it from standard input: --video - < '{shown}'"
            if path.exists()
            else "check the spelling and the working directory",
        )
    # Path.glob takes neither absolute patterns nor "..".
    matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    found = [match for match in matches if match.is_file() and _is_readable(match)]
    if not found:
        raise SourceError(
            expected=f"a picture or video that matches '{shown}'",
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
    pictures = [path for path in paths if is_picture(path)]
    if not pictures:
        raise not_a_picture(spec, "only video")
    return pictures


def not_a_picture(spec: str, found: str) -> SourceError:
    """The SourceError for a ``spec`` that is no picture, but ``found``."""
    return SourceError(
        expected=f"a picture, or several, as '{without_secrets(spec)}'",
        found=found,
        do="use --video for it",
    )


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES | CLIP_SUFFIXES


def is_picture(path: Path) -> bool:
    """Whether a file is a picture: by its suffix or, if that says nothing, by its first bytes."""
    suffix = path.suffix.lower()
    return suffix in PICTURE_SUFFIXES or (suffix not in CLIP_SUFFIXES and looks_like_picture(path))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts "frame 10" after "frame 9"."""
    pieces = re.split(r"(\d+)", str(path).casefold())
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece
    ]
