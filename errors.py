"""The errors srd-edge raises, as one tree.

Every message says what was expected, what was found and what to do about it, on one line;
every class also inherits the builtin a caller would catch without knowing this package; and
every class carries the exit code that the command line ends with.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar


class SrdEdgeError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns.

    Args:
        expected: what would have been right.
        found: what was there instead.
        do: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *, expected: str, found: str, do: str) -> None:
        self.expected, self.found, self.do = expected, found, do
        super().__init__(f"expected {expected}, found {found}: {do}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle gives a class what __init__ gave Exception, which is one sentence.
        return partial(type(self), expected=self.expected, found=self.found, do=self.do), ()


class RunError(SrdEdgeError, RuntimeError):
    """Something failed while running: a sink that cannot be written, a late frame under strict."""


class UsageError(SrdEdgeError, ValueError):
    """A request that cannot be meant: an unknown name, a value out of range."""

    exit_code = 2


class ShapeError(UsageError):
    """An array whose shape or dtype is not the documented one."""


class BundleError(SrdEdgeError, ValueError):
    """A bundle that is refused: damaged, incomplete, altered or of an unknown schema."""

    exit_code = 3


class SourceError(SrdEdgeError, OSError):
    """Pictures that cannot be read: no such file, not a video, nothing in it."""

    exit_code = 4


class DatasetError(SourceError):
    """A data set directory without the files or columns it should have."""


class ProviderError(SrdEdgeError, RuntimeError):
    """An execution provider that was demanded and is not there."""

    exit_code = 5
