"""Reading sources in tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from srd_edge.errors import SourceError
from srd_edge.runtime.source import SourcedFrame
from srd_edge.runtime.sources import open_source


def cut(path: Path, share: float) -> Path:
    """The same file, that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read_all(spec: str | Path, **options: object) -> list[SourcedFrame]:
    with open_source(str(spec), **options) as source:  # type: ignore[arg-type]
        return list(source)


def assert_refused(spec: str | Path, *words: str, **options: object) -> None:
    """In one line that holds ``words``."""
    with pytest.raises(SourceError) as caught:
        read_all(spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
