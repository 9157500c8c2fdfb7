"""The tables of docs/budget.md: frames on time, and what a further source costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"


def deadlines() -> str:
    """Budgets, on an idle machine and beside busy processes."""
    report = _read("deadlines")
    head = ("budget", "beside", "on time", "captioned in time", "held", "age p50, p99")
    lines = [
        f"| {' | '.join(head)} | given up | undefended | attacker's words |",
        "|---|---|" + "---:|" * 4 + "---|---:|---:|",
    ]
    for run in report["runs"]:
        frames = run["frames"]
        own = frames - run["verdicts"]["held"]
        ages = run["held_for"]
        given_up = ", ".join(f"{name} {count}" for name, count in sorted(run["given_up"].items()))
        beside = f"{run['competing']} busy processes" if run["competing"] else "nothing"
        cells = (
            f"{run['times_undefended']:g} x undefended",
            beside,
            f"{run['within']:.2%}",
            f"{own / frames:.1%}",
            f"{run['verdicts']['held'] / frames:.1%}",
            "–" if ages is None else f"{ages['50']}, {ages['99']}",
            given_up or "–",
            str(run["undefended"]),
            str(run["attackers_words"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def streams() -> str:
    """A frame of several sources at once, and one by one."""
    report = _read("streams")
    lines = [
        "| sources | ms a frame, one by one | at once | at once / one by one | same captions |",
        "|---:|---:|---:|---:|---:|",
    ]
    for run in report["runs"]:
        cells = (
            str(run["sources"]),
            f"{run['in_turn_ms_a_frame']:.1f}",
            f"{run['at_once_ms_a_frame']:.1f}",
            f"{run['at_once_of_in_turn']:.2f}",
            f"{run['captions_equal']:.1%}",
        )
        lines += [f"| {' | '.join(cells)} |"]
    return "\n".join(lines)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found
