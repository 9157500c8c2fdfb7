"""Sinks of others: found by name, module or file, given their settings, refused in one line."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from srd_edge.errors import UsageError
from srd_edge.runtime import own_sinks
from srd_edge.runtime.own_sinks import ENTRY_POINTS, own_sink
from srd_edge.runtime.sinks import JsonLines

OWN = """
class Kept:
    def __init__(self, where="here", **others):
        self.settings = {"where": where, **others}
    def write(self, frame, result): ...
    def close(self): ...
class NoSink: ...
class Half(NoSink):
    write = close = 3
def broken(): raise OSError("two\\nlines")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_file_with_settings(own: Path) -> None:
    sink: Any = own_sink(f"{own}:Kept")
    assert sink.settings == {"where": "here"}
    sink = own_sink(f"{own}:Kept,where=there, size = 3,url=a:b=c")
    assert sink.settings == {"where": "there", "size": "3", "url": "a:b=c"}


def test_a_module_and_an_installed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert isinstance(own_sink(f"srd_edge.runtime.sinks:JsonLines,path={path}"), JsonLines)
    point = EntryPoint("theirs", "srd_edge.runtime.sinks:JsonLines", ENTRY_POINTS)

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        return [point] if (group, name) == (ENTRY_POINTS, "theirs") else []

    monkeypatch.setattr(own_sinks, "entry_points", entry_points)
    assert isinstance(own_sink(f"theirs:path={path}"), JsonLines)


@pytest.mark.parametrize(
    "tail",
    ["", ":Nothing", ":broken", ":NoSink", ":Half", ":Kept,where", ":broken,x=1", ":Kept:x"],
)
def test_what_is_no_sink(own: Path, tail: str) -> None:
    with pytest.raises(UsageError, match="correct --sink") as caught:
        own_sink(f"{own}{tail}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["", ":", "nothing", "no.such.module:x", "no/such/file.py:x"])
def test_what_is_not_there(spec: str) -> None:
    with pytest.raises(UsageError, match="expected a sink"):
        own_sink(spec)
