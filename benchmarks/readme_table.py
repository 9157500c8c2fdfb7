"""Write the README's results table from benchmarks/results/builtin.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "benchmarks" / "results" / "builtin.json"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
COLUMNS = (
    "attack",
    "policy",
    "ASR % (95 %)",
    "CIDEr-D clean",
    "CIDEr-D triggered",
    "false alarms %",
    "encoder passes",
    "time, clean",
    "time, half triggered",
)


def rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each attack and contestant, as text."""
    table = []
    for attack, judged in document["attacks"].items():
        for name, row in judged["policies"].items():
            low, high = row["asr_interval"]
            table.append(
                (
                    attack,
                    name,
                    f"{100 * row['asr']:.1f} ({100 * low:.1f}-{100 * high:.1f})",
                    f"{row['cider_clean']:.3f}",
                    f"{row['cider_triggered']:.3f}",
                    f"{100 * row['false_alarms']:.1f}",
                    f"{row['passes']:.2f}",
                    f"{row['ms_ratio_clean']:.2f}",
                    f"{row['ms_ratio']:.2f}",
                )
            )
    return table


def markdown(document: dict[str, Any]) -> str:
    """The table and the sentence that says what it is."""
    lines = [
        f"`srd-edge evaluate` on the built-in bundle, {document['pictures']} {document['split']} "
        f"pictures of {document['data']}; times are ratios to the undefended captioner "
        "([how](docs/measuring.md), [data](benchmarks/results/builtin.json)).",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
        *("| " + " | ".join(row) + " |" for row in rows(document)),
    ]
    return "\n".join(lines)


def main() -> None:
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    document = json.loads(SOURCE.read_text(encoding="utf-8"))
    readme.write_text(f"{before}{BEGIN}\n{markdown(document)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
