"""The tables of docs/devices.md on disk, memory and endurance, from two files of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHOWN = 7


def footprint() -> str:
    """Disk by package, then memory and start by size of picture."""
    found = _read("footprint")
    disk, machine = found["disk"], found["machine"]
    largest = list(disk["largest_mb"].items())[:SHOWN]
    packages = ", ".join(f"{name} {size:.0f}" for name, size in largest)
    lines = [
        f"The environment takes {disk['environment_mb']:.0f} MB of disk, "
        f"{disk['of_them_pip_and_setuptools_mb']:.0f} of them pip and setuptools. The largest "
        f"folders: {packages}.",
        "",
        "| video | most memory, MB | first caption after, s | with a budget: MB | s |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {size.replace('x', ' x ')} | {run['peak_mb']:.0f} | {run['first_caption_s']:.2f} "
            f"| {found['runs_in_a_budget'][size]['peak_mb']:.0f} "
            f"| {found['runs_in_a_budget'][size]['first_caption_s']:.2f} |"
            for size, run in found["runs"].items()
        ),
        "",
        f"{machine['cores']} cores of {machine['processor']}, load {machine['load']:.1f}.",
    ]
    return "\n".join(lines)


def soak() -> str:
    """Both runs of the last soak."""
    found = _read("soak")
    lines = [
        f"| {found['minutes']:g} minutes of {found['size'][0]} x {found['size'][1]} | frames | "
        "MB in the second minute | most after | times | threads | handles | flat |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, leg in found["legs"].items():
        rss, thirds = leg["rss_mb"], leg["first_and_last_third"]
        counts = (
            f"{first:.0f}, {last:.0f}" for first, last in (thirds["threads"], thirds["handles"])
        )
        cells = (
            *(name, str(leg["frames"]), f"{rss['second_minute']:.1f}", f"{rss['most']:.1f}"),
            *(f"{rss['times']:.3f}", *counts, "yes" if leg["flat"] else "no"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found
