"""Rows that are dear to make, kept as JSON lines while they are made: a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srd_edge.attacks.progress import tracked


def kept_rows(
    path: Path,
    identity: str,
    count: int,
    make: Callable[[range], Sequence[Any]],
    description: str,
    *,
    batch: int = 32,
) -> list[Any]:
    """Rows 0 to ``count``, made in batches where the file does not hold them yet.

    Args:
        path: the file; its first line is the identity.
        identity: of everything that the rows are made of; a file of another one starts anew.
        make: numbers of rows -> those rows, plain JSON each.
        description: for the progress bar.
        batch: rows that are made, and written, at once.
    """
    rows = _read(path, identity)[:count]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in ({"identity": identity}, *rows))
        for start in tracked(range(len(rows), count, batch), description):
            made = make(range(start, min(start + batch, count)))
            file.writelines(json.dumps(row) + "\n" for row in made)
            file.flush()
            rows += made
    return rows


def _read(path: Path, identity: str) -> list[Any]:
    """The whole rows of the file; none where it is not there or of another identity."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last one may be cut
    if not lines or json.loads(lines[0]) != {"identity": identity}:
        return []
    return [json.loads(line) for line in lines[1:]]
