"""Where what is dear to make and can be made again is kept, and what of it nobody else may touch.

$SRD_EDGE_CACHE, by default ~/.cache/srd-edge. What is run when it is read back, such as a compiled
engine, lies in a folder of the user's own that others cannot write to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NoReturn

from srd_edge.errors import RunError

_PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """The cache's root; it may not exist yet.

    Raises:
        RunError: this user has no home, and no other place is named.
    """
    named = os.environ.get("SRD_EDGE_CACHE")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "srd-edge"
    except RuntimeError as error:  # a user that the system does not know, as in a container
        raise RunError(
            expected="a home for the cache", found=str(error), do="name a folder in SRD_EDGE_CACHE"
        ) from error


def private_folder(folder: Path) -> Path:
    """Make ``folder`` if it is not there, for this user alone.

    Returns:
        The folder, absolute and without links on its way.

    Raises:
        RunError: it belongs to somebody else, others may write to it or put another one in its
            place, or it cannot be made.
    """
    try:
        # One by one: the mode of mkdir's parents is not the one that is asked for.
        for parent in reversed(folder.absolute().parents):
            if not parent.exists():
                parent.mkdir(_PRIVATE)
        place = folder.parent.resolve() / folder.name
        if not place.is_symlink() and not place.exists():
            place.mkdir(_PRIVATE)
        about = place.lstat()
        ways = [(parent, parent.stat()) for parent in place.parents]
    except OSError as error:
        _refuse(folder, str(error), error)
    if not stat.S_ISDIR(about.st_mode):
        _refuse(folder, "a link" if stat.S_ISLNK(about.st_mode) else "no folder")
    if about.st_uid != os.geteuid():
        _refuse(folder, f"one of user {about.st_uid}'s")
    if about.st_mode & _OTHERS_WRITE:
        _refuse(folder, f"one that others may write to ({stat.filemode(about.st_mode)})")
    for parent, way in ways:
        anybody = way.st_mode & stat.S_IWOTH and not way.st_mode & stat.S_ISVTX
        if anybody or way.st_uid not in (0, os.geteuid()):
            _refuse(folder, f"one that whoever owns or writes to {parent} can replace")
    return place


def _refuse(folder: Path, found: str, cause: OSError | None = None) -> NoReturn:
    raise RunError(
        expected=f"a folder {folder} of this user's own, closed to others",
        found=found,
        do="remove it or give it mode 0700, or name another cache with SRD_EDGE_CACHE",
    ) from cause
