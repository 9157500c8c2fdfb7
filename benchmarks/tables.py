"""Write the tables of the README and of docs from the files of benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from defence_tables import (
    ablation_table,
    adaptive_table,
    equal_drop_table,
    figures_table,
    parts_table,
    purify_table,
    ways_table,
    weak_reference_table,
)
from export_tables import speeds
from footprint_tables import footprint, soak
from kernel_tables import kernels
from runtime_tables import deadlines, streams

from srd_edge.evaluation.report import NOTHING, markdown, number, percent, victims_markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MAIN_WAY = "matched10"
MADE = RESULTS / "zoo" / "made.json"


def read(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A report's results and its times, as `benchmarks/results` keeps them."""
    results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    times = RESULTS / f"{name}.timing.json"
    return results, json.loads(times.read_text(encoding="utf-8")) if times.is_file() else None


def read_zoo(names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reports on the victims out of ``names`` as one, in that order."""
    reports = [
        read(f"zoo/{name}") for name in names if (RESULTS / "zoo" / f"{name}.json").is_file()
    ]
    first, _ = reports[0]
    attacks = [attack for results, _ in reports for attack in results["attacks"]]
    times = {key: by for _, timing in reports if timing for key, by in timing["attacks"].items()}
    return first | {"attacks": attacks}, {"attacks": times}


def recipes(made: dict[str, Any]) -> str:
    """How the zoo was made: minutes, the verdict on dev, and the command of each captioner."""
    lines = [
        "| captioner | minutes | ASR % on dev | loss % on dev | command |",
        "|---|---:|---:|---:|---|",
    ]
    for name, record in made.items():
        dev = record.get("dev", {"attacks": {}})
        success = [percent(judged["asr"]) for judged in dev["attacks"].values()]
        cells = (
            name,
            number(record["minutes"], 1),
            ", ".join(success) or NOTHING,
            percent(dev.get("clean_loss")),
            f"`{record['command']}`",
        )
        lines.append(_line(cells))
    return "\n".join(lines)


def overview(document: dict[str, Any], timing: dict[str, Any]) -> str:
    """ASR of every contestant against every attack, and what it costs where nobody attacks."""
    attacks = document["attacks"]
    columns = ["defence", *(attack["key"] for attack in attacks), "drop %", "passes", "time"]
    lines = [_line(columns), "|---|" + "---:|" * (len(columns) - 1)]
    for name in (row["name"] for row in attacks[0]["contestants"]):
        rows = [row for attack in attacks for row in attack["contestants"] if row["name"] == name]
        ratios = [by[name]["ratio_clean"] for by in timing["attacks"].values() if name in by]
        costs = (
            percent(fmean(row["clean_drop"] for row in rows)),
            number(fmean(row["captioner_passes_clean"] for row in rows), 2),
            number(fmean(ratios), 2) if ratios else NOTHING,
        )
        lines.append(_line([name, *(percent(row["asr"]) for row in rows), *costs]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def put(page: Path, label: str, text: str) -> None:
    """Put ``text`` between the two markers of ``label`` in a page."""
    begin, end = f"<!-- {label}:begin -->", f"<!-- {label}:end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Write every table that there are results for."""
    results, timing = read("builtin")
    intro = (
        f"`srd-edge evaluate` on the built-in bundle, {results['pictures']} {results['split']} "
        f"pictures of {results['data']} ([how](docs/measuring.md), "
        "[data](benchmarks/results/builtin.json)):"
    )
    put(ROOT / "README.md", "results", f"{intro}\n\n{markdown(results, timing)}")
    page = ROOT / "docs" / "attacks.md"
    made = json.loads(MADE.read_text(encoding="utf-8"))["made"]
    put(page, "recipes", recipes(made))
    results, timing = read_zoo(list(made))
    put(page, "victims", victims_markdown(results))
    put(page, "overview", overview(results, timing))
    put(page, "rivals", markdown(results, timing))
    page = ROOT / "docs" / "defence.md"
    put(page, "ways", ways_table())
    put(page, "figures", figures_table(MAIN_WAY))
    put(page, "parts", parts_table(MAIN_WAY))
    put(page, "weak", weak_reference_table(MAIN_WAY, 1000))
    put(page, "equal-drop", equal_drop_table(MAIN_WAY))
    page = ROOT / "docs" / "training.md"
    put(page, "purify", purify_table("shadowcast"))
    put(page, "reward", ablation_table("reward"))
    put(page, "learner", ablation_table("learner"))
    put(ROOT / "docs" / "limits.md", "adaptive", adaptive_table(MAIN_WAY))
    put(ROOT / "docs" / "families.md", "speed", speeds())
    put(ROOT / "docs" / "budget.md", "deadlines", deadlines())
    put(ROOT / "docs" / "budget.md", "streams", streams())
    put(ROOT / "docs" / "kernels.md", "kernels", kernels())
    page = ROOT / "docs" / "devices.md"
    put(page, "footprint", footprint())
    put(page, "soak", soak())


if __name__ == "__main__":
    main()
