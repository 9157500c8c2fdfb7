"""Progress bars on standard error, which leave standard output to results."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

_T = TypeVar("_T")


def tracked(items: Iterable[_T], description: str, total: int | None = None) -> Iterable[_T]:
    """``items`` with a bar that goes away at the end; ``total`` where they have no length."""
    return track(items, description, total=total, console=Console(stderr=True), transient=True)


def status(text: str) -> AbstractContextManager[object]:
    """Says what is being done, for as long as it is, where nothing can be counted."""
    return Console(stderr=True).status(text)


def bar() -> Progress:
    """A bar to be moved by hand."""
    return Progress(console=Console(stderr=True), transient=True)
