"""The speed table of docs/families.md, from benchmarks/results/export_speed.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "export_speed.jsonl"
_HEAD = (
    *("model", "by", "MB", "encode ms", "bound", "decode ms", "a token", "bound", "total ms"),
    *("times eager", "captions as eager's"),
)


def speeds() -> str:
    """Every contestant of the last run of each model on each device."""
    last = {}
    for text in RESULTS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        last[line["model"], line["device"]] = line
    rows = [row for line in last.values() for row in _rows(line)]
    head = [f"| {' | '.join(_HEAD)} |", "|---|---" + "|---:" * (len(_HEAD) - 2) + "|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _rows(line: dict[str, Any]) -> Iterator[list[str]]:
    for name, found in line["seconds"].items():
        if not isinstance(found, dict):
            continue
        bound = line["bounds"].get(name)
        parts = ["–"] * 5
        if "encode" in found:
            encode, decode, tokens = (found[key] for key in ("encode", "decode", "tokens"))
            parts = [f"{encode * 1e3:.0f}", f"{bound['encode_ms']:.0f}", f"{decode * 1e3:.0f}"]
            # The end token takes a call too, where it is said; here nothing ends early.
            parts += [f"{decode * 1e3 / tokens:.1f}", f"{bound['read_ms_a_token']:.1f}"]
        equal = found.get("captions_equal")
        yield [
            *(line["model"], name, f"{bound['bundle_mb']:.0f}" if bound else "–", *parts),
            *(f"{found['total'] * 1e3:.0f}", f"{found['times_eager']:.2f}"),
            "–" if equal is None else f"{equal:.0%}",
        ]
