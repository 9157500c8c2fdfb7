"""Sinks of other packages, and of one's own.

A SPEC names an entry point of the group `srd_edge.sinks` (``name:key=value,...``), an object of a
module (``package.module:object,key=value,...``) or of a file (``path/to/file.py:object,...``). The
object is called with the settings, as text, by keyword, and what it returns is the sink.
"""

from __future__ import annotations

import runpy
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from srd_edge.errors import UsageError
from srd_edge.runtime.sinks import Sink

ENTRY_POINTS: Final = "srd_edge.sinks"


def own_sink(spec: str) -> Sink:
    """The sink that ``spec`` names, made.

    Raises:
        UsageError: for what cannot be loaded or made, or has no ``write`` and ``close``.
    """
    try:
        make, settings = _load(spec)
        sink = make(**_settings(settings))
        has_all = callable(sink.write) and callable(sink.close)
    except Exception as error:  # whatever the other package raises
        found = " ".join(f"{type(error).__name__}: {error}".split())
        raise _refused(spec, found) from error
    if not has_all:
        raise _refused(spec, f"{sink!r}, which has no write and close")
    made: Sink = sink
    return made


def _load(spec: str) -> tuple[Any, str]:
    """What is to be called, and the settings that follow."""
    head, _, tail = spec.partition(":")
    for installed in entry_points(group=ENTRY_POINTS, name=head):
        return installed.load(), tail
    name, _, settings = tail.partition(",")
    if head.endswith(".py"):
        return runpy.run_path(head)[name], settings
    return getattr(import_module(head), name), settings


def _settings(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    for key, equals, _ in pairs:
        if not equals:
            raise ValueError(f"'{key}' is not written as key=value")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _refused(spec: str, found: str) -> UsageError:
    return UsageError(
        expected="a sink: NAME[:key=value,...], package.module:object or file.py:object",
        found=found,
        do=f"correct --sink '{spec}'",
    )
