"""The evaluation's document as tables: for the terminal, and in Markdown for the README."""

from __future__ import annotations

from typing import Any, Final

COLUMNS: Final = (
    "attack",
    "policy",
    "ASR %",
    "95 %",
    "clean",
    "attacked",
    "alarm %",
    "passes",
    "time",
)
LEGEND: Final = (
    "clean, attacked: CIDEr-D on clean and on triggered pictures; alarm: clean pictures that "
    "were perturbed; passes: of the encoder, a picture; time: ratio to the undefended captioner, "
    "half of the pictures triggered"
)


def rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each attack and contestant, as text, in the order of ``COLUMNS``."""
    table: list[tuple[str, ...]] = []
    for attack, judged in document["attacks"].items():
        for name, row in judged["policies"].items():
            low, high = row["asr_interval"]
            table.append(
                (
                    attack,
                    name,
                    f"{100 * row['asr']:.1f}",
                    f"{100 * low:.1f}-{100 * high:.1f}",
                    f"{row['cider_clean']:.3f}",
                    f"{row['cider_triggered']:.3f}",
                    f"{100 * row['false_alarms']:.1f}",
                    f"{row['passes']:.2f}",
                    f"{row['ms_ratio']:.2f}",
                )
            )
    return table


def print_table(document: dict[str, Any]) -> None:
    """For a person, on standard error."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{document['pictures']} {document['split']} pictures of {document['data']}"
    table = Table(*COLUMNS, title=title, caption=LEGEND, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows(document):
        table.add_row(*row)
    Console(stderr=True).print(table)


def markdown(document: dict[str, Any]) -> str:
    """For the README."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
        *("| " + " | ".join(row) + " |" for row in rows(document)),
        "",
        LEGEND[0].upper() + LEGEND[1:] + ".",
    ]
    return "\n".join(lines)
