"""The table of docs/kernels.md, for a page and for a terminal, from results/kernels.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.table import Table

RESULTS: Final = Path(__file__).parent / "results" / "kernels.json"
PEERS: Final = ("numpy", "Pillow", "albumentations")
GOALS: Final[Mapping[str, float]] = {
    "numpy": 3.0,
    "Pillow": 1.0,
    "albumentations": 1.0,
    "exponent": 1.1,
}
"""Times ours that a peer is to take at least, and what the exponent may be at most."""
_HEAD: Final = ("kernel", "of", "ms", *(f"{peer} / ours" for peer in PEERS), "exponent")


def kernels() -> str:
    """As Markdown; what misses its goal is bold."""
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = [f"| {' | '.join(_HEAD)} |", "|---|---" + "|---:" * (len(_HEAD) - 2) + "|"]
    for cells in _rows(report):
        marked = (f"**{text}**" if missed else text for text, missed in cells)
        lines.append(f"| {' | '.join(marked)} |")
    return "\n".join(lines)


def screen(report: Mapping[str, Any]) -> Table:
    """For a terminal; what misses its goal is red."""
    table = Table(title="Kernels: others' time over ours, and time against pixels")
    for number, name in enumerate(_HEAD):
        table.add_column(name, justify="left" if number < 2 else "right")
    for cells in _rows(report):
        table.add_row(*(f"[red]{text}[/red]" if missed else text for text, missed in cells))
    return table


def _rows(report: Mapping[str, Any]) -> Iterator[list[tuple[str, bool]]]:
    """Texts, and whether each misses its goal."""
    for row in report["rows"]:
        cells = [(row["kernel"], False), (row["what"], False), (f"{row['ours_ms']:.2f}", False)]
        for peer in PEERS:
            found = row.get(peer)
            if found is None:
                cells.append(("–", False))
                continue
            ratio = found["times_ours"]
            small = "" if found["frame"] == report["frame"] else " *"
            cells.append((f"{ratio:.2f}{small}", ratio < GOALS[peer]))
        grown = row.get("growth")
        exponent = None if grown is None else grown["exponent"]
        text = "–" if exponent is None else f"{exponent:.2f}"
        cells.append((text, exponent is not None and exponent > GOALS["exponent"]))
        yield cells
