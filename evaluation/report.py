"""The evaluation's documents as tables: for the terminal, in Markdown, and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from srd_edge.evaluation.metrics import spread

Document: TypeAlias = Mapping[str, Any]
"""results.json or timing.json; `srd_edge.evaluation.results_schema` says what is in them."""

COLUMNS: Final = (
    "attack",
    "contestant",
    "ASR %",
    "95 %",
    "clean",
    "drop %",
    "RP",
    "alarm %",
    "AUROC",
    "TPR %",
    "passes",
    "time",
)
LEGEND: Final = (
    "ASR: triggered pictures whose caption is the attacker's, with its Wilson interval; clean: "
    "CIDEr-D on clean pictures; drop: what the defence costs of it; RP: CIDEr-D on triggered "
    "pictures over that of the undefended captioner on clean ones; alarm: clean pictures that were "
    "suspected; TPR: triggered pictures suspected at 1 % false alarms; passes: of the captioner, a "
    "clean picture; time: a clean picture's, over the undefended captioner's"
)
VICTIM_COLUMNS: Final = ("attack", "spec", "ASR %", "95 %", "clean", "twin", "loss %", "verdict")
VICTIM_LEGEND: Final = (
    "undefended; clean: CIDEr-D on clean pictures; twin: that of the same captioner trained clean; "
    "loss: what the attack costs of it"
)
TIMES: Final = ("ms_clean", "ms_triggered", "p50_ms", "p95_ms", "ratio_clean", "ratio_triggered")
QUALITY: Final = ("cider_d", "bleu_4", "rouge_l", "meteor", "spice", "sfs")
NOTHING: Final = "–"
"""What stands where nothing was measured."""

_ATTACK_FIELDS: Final = ("key", "bundle", "spec", "trigger", "payload", "target", "counted")
_CONTESTANT_FIGURES: Final = (
    "target_rate_clean",  # not in documents older than it
    "rp",
    "false_alarms",
    "auroc",
    "tpr_at_1_percent_fpr",
    "mask_iou",
    "captioner_passes_clean",
    "captioner_passes_triggered",
    "policy_passes",
)
CSV_COLUMNS: Final = (
    *("attack" if field == "key" else field for field in _ATTACK_FIELDS),
    "verdict",
    "contestant",
    "kind",
    "asr",
    "asr_low",
    "asr_high",
    "asr_by_seed",
    *(f"{pictures}_{metric}" for pictures in ("clean", "triggered") for metric in QUALITY),
    "clean_drop",
    "clean_drop_by_seed",
    *_CONTESTANT_FIGURES,
    *TIMES,
)


def number(value: float | None, digits: int) -> str:
    """``value`` for a person."""
    return NOTHING if value is None else f"{value:z.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as so many in a hundred, without the sign."""
    return NOTHING if share is None else f"{100 * share:z.{digits}f}"


def between(interval: Sequence[float], digits: int = 1) -> str:
    """An interval of shares in percent."""
    low, high = interval
    return f"{percent(low, digits)}–{percent(high, digits)}"


def contestant_times(timing: Document | None, attack: str, contestant: str) -> Mapping[str, Any]:
    """The figures of ``TIMES``, each None where it was not measured."""
    measured = {} if timing is None else timing["attacks"].get(attack, {}).get(contestant, {})
    return {name: measured.get(name) for name in TIMES}


def rows(
    document: Document, timing: Document | None = None, *, spreads: bool = False
) -> list[tuple[str, ...]]:
    """One row for each attack and contestant, as text, in the order of ``COLUMNS``.

    Args:
        document, timing: results.json and timing.json.
        spreads: whether ASR and drop say how far seeds lie apart.
    """
    share = _with_spread if spreads else _mean
    return [
        (
            _named(attack),
            row["name"],
            share(row["asr_by_seed"]),
            between(row["asr_interval"]),
            number(row["clean"]["cider_d"], 3),
            share(row["clean_drop_by_seed"]),
            number(row["rp"], 2),
            percent(row["false_alarms"]),
            number(row["auroc"], 3),
            percent(row["tpr_at_1_percent_fpr"]),
            number(row["captioner_passes_clean"], 2),
            number(contestant_times(timing, attack["key"], row["name"])["ratio_clean"], 2),
        )
        for attack, row in _pairs(document)
    ]


def victim_rows(document: Document) -> list[tuple[str, ...]]:
    """One row for each attack, as text, in the order of ``VICTIM_COLUMNS``."""
    return [
        (
            attack["key"],
            attack["spec"],
            percent(attack["victim"]["asr"]),
            between(attack["victim"]["asr_interval"]),
            number(attack["victim"]["cider_d_clean"], 3),
            number(attack["victim"]["cider_d_twin"], 3),
            percent(attack["victim"]["clean_loss"]),
            attack["victim"]["verdict"],
        )
        for attack in document["attacks"]
    ]


def print_table(document: Document, timing: Document | None = None) -> None:
    """A table for each attack, for a person, on standard error; a failed attack's is dim."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    console.print(
        Text(f"{document['pictures']} {document['split']} pictures of {document['data']}")
    )
    every = iter(rows(document, timing))
    for attack in document["attacks"]:
        dim = "dim" if attack["victim"]["verdict"] == "failed attack" else ""
        # As Text: what stands in brackets in a SPEC is no mark-up.
        console.print(Text(f"\n{attack['key']}: {attack['spec']}", style=f"bold {dim}"))
        console.print(Text(f"{attack['victim']['verdict']}: {attack['victim']['why']}", style=dim))
        table = Table(box=box.SIMPLE, show_edge=False, padding=0, style=dim)
        table.add_column(COLUMNS[1], overflow="fold")
        for name in COLUMNS[2:]:
            table.add_column(name, justify="right", no_wrap=True)
        for _ in attack["contestants"]:
            table.add_row(*map(Text, next(every)[1:]), style=dim)
        console.print(table)
    console.print(Text(f"\n{LEGEND}", style="italic"))


def markdown(document: Document, timing: Document | None = None) -> str:
    """The table of contestants, for a page; with seeds' spread where there are several."""
    legend = LEGEND
    if len(document["seeds"]) > 1:
        legend += "; ±: standard deviation over seeds, where they differ"
    return _markdown(COLUMNS, 2, rows(document, timing, spreads=True), legend)


def victims_markdown(document: Document) -> str:
    """The table of attacks, for a page."""
    return _markdown(VICTIM_COLUMNS, 2, victim_rows(document), VICTIM_LEGEND)


def write_csv(document: Document, timing: Document | None, path: Path) -> None:
    """One row for each attack and contestant, every figure of it at full precision.

    The columns are ``CSV_COLUMNS``. Figures by seed are a JSON list in one field; what was not
    measured is empty.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for attack, row in _pairs(document):
            times = contestant_times(timing, attack["key"], row["name"])
            writer.writerow(
                [
                    *(attack[field] for field in _ATTACK_FIELDS),
                    attack["victim"]["verdict"],
                    row["name"],
                    row["kind"],
                    row["asr"],
                    *row["asr_interval"],
                    json.dumps(row["asr_by_seed"]),
                    *(row[pictures][m] for pictures in ("clean", "triggered") for m in QUALITY),
                    row["clean_drop"],
                    json.dumps(row["clean_drop_by_seed"]),
                    *(row.get(figure) for figure in _CONTESTANT_FIGURES),
                    *(times[figure] for figure in TIMES),
                ]
            )


def _pairs(document: Document) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every attack with every contestant that met it."""
    for attack in document["attacks"]:
        for row in attack["contestants"]:
            yield attack, row


def _mean(by_seed: Sequence[float | None]) -> str:
    return _with_spread(by_seed).partition(" ")[0]


def _with_spread(by_seed: Sequence[float | None]) -> str:
    """The mean in percent, and the standard deviation over seeds where they differ."""
    shares = [share for share in by_seed if share is not None]
    if len(shares) < len(by_seed):
        return NOTHING
    mean, deviation = spread(shares)
    differ = len(set(shares)) > 1
    return f"{percent(mean)} ± {percent(deviation)}" if differ else percent(mean)


def _named(attack: Mapping[str, Any]) -> str:
    failed = attack["victim"]["verdict"] == "failed attack"
    return f"{attack['key']} (failed attack)" if failed else attack["key"]


def _markdown(
    columns: Sequence[str], left: int, table: Sequence[tuple[str, ...]], legend: str
) -> str:
    """``left`` columns of words, then figures."""
    lines = [
        _line(columns),
        "|" + "---|" * left + "---:|" * (len(columns) - left),
        *map(_line, table),
        "",
        legend[0].upper() + legend[1:] + ".",
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
