"""Write the README's results table from benchmarks/results/builtin.json."""

from __future__ import annotations

import json
from pathlib import Path

from srd_edge.evaluation.report import markdown

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "benchmarks" / "results" / "builtin.json"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def main() -> None:
    """Put the table between the README's two markers."""
    document = json.loads(SOURCE.read_text(encoding="utf-8"))
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    intro = (
        f"`srd-edge evaluate` on the built-in bundle, {document['pictures']} {document['split']} "
        f"pictures of {document['data']} ([how](docs/measuring.md), "
        "[data](benchmarks/results/builtin.json)):"
    )
    text = f"{BEGIN}\n{intro}\n\n{markdown(document)}\n{END}"
    readme.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()
