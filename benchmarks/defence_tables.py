"""The tables of docs/defence.md and docs/limits.md, from benchmarks/results/defence and zoo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo import ADAPTIVE, VICTIMS, WAYS

from srd_edge.evaluation.report import NOTHING, number, percent

RESULTS = Path(__file__).resolve().parent / "results"
RIVALS = ("best_fixed", "oracle", "random", "untrained", "strip", "onion", "mask_vote", "srd")
AT_EQUAL_DROP = ("best_fixed", "random", "untrained")
PARTS = ("none", "policy", "policy_alone", "check_alone", "reference")


def attack_of(folder: str, name: str) -> dict[str, Any] | None:
    """The one attack of a report; None where it was not made."""
    path = RESULTS / folder / f"{name}.json"
    if not path.is_file():
        return None
    attack: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["attacks"][0]
    return attack


def contestants(attack: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in attack["contestants"]}


def ways_table() -> str:
    """ASR of every victim, by the way its policy was trained."""
    ways = [way for way in WAYS if any(attack_of("defence", f"{n}-{way}") for n in VICTIMS)]
    rows = []
    for name in VICTIMS:
        by_way = [attack_of("defence", f"{name}-{way}") for way in ways]
        known = [attack for attack in by_way if attack is not None]
        if known:
            undefended = percent(contestants(known[0])["none"]["asr"])
            rows.append((name, undefended, *(_asr(attack) for attack in by_way)))
    return table(("attack", "undefended", *ways), rows)


def figures_table(way: str) -> str:
    """All figures of the whole defence, victim by victim."""
    columns = "attack|counted|ASR % (95 %)|by seed|anyway %|drop %|RP|AUROC|TPR %|alarm %|passes"
    rows = []
    for name, attack in _measured(VICTIMS, way):
        by_name = contestants(attack)
        row = by_name["policy"]
        cells = (
            str(attack["counted"]),
            _asr(attack),
            " ".join(percent(value) for value in row["asr_by_seed"]),
            percent(by_name["none"].get("target_rate_clean")),
            percent(row["clean_drop"]),
            number(row["rp"], 2),
            number(row["auroc"], 3),
            percent(row["tpr_at_1_percent_fpr"]),
            percent(row["false_alarms"]),
            number(row["captioner_passes_clean"], 2),
        )
        rows.append((name, *cells))
    return table(columns.split("|"), rows)


def parts_table(way: str) -> str:
    """What each part of the defence does alone: ASR / RP, and the mean clean drop."""
    names = [name for name, _ in _measured(VICTIMS, way)]
    lines = []
    for part in (*PARTS, *RIVALS):
        folder, ending = ("zoo", "") if part in RIVALS else ("defence", f"-{way}")
        rows = [_row(folder, f"{name}{ending}", part) for name in names]
        lines.append((part, *(_asr_rp(row) for row in rows), _mean_drop(rows)))
    return table(("contestant", *names, "drop %"), lines)


def weak_reference_table(way: str, trusted: int) -> str:
    """The defence with a reference captioner that was fitted on ``trusted`` pictures."""
    columns = "attack|AUROC|policy|policy_alone|check_alone|reference|drop % of policy|of reference"
    lines = []
    for name, attack in _measured(VICTIMS, f"{way}-trusted{trusted}"):
        rows = contestants(attack)
        cells = (
            number(rows["policy"]["auroc"], 3),
            *(
                _asr_rp(rows[part])
                for part in ("policy", "policy_alone", "check_alone", "reference")
            ),
            percent(rows["policy"]["clean_drop"]),
            percent(rows["reference"]["clean_drop"]),
        )
        lines.append((name, *cells))
    return table(columns.split("|"), lines)


def equal_drop_table(way: str) -> str:
    """ASR at the clean drop of the Q-network alone, of what is laid over a share of the pictures.

    A perturbation that loses more is laid over so many pictures, drawn at random, that it loses as
    much: its ASR lies as far between its own and the undefended one's.
    """
    lines = []
    for name, attack in _measured(VICTIMS, way):
        own = contestants(attack)
        cells = [percent(own["policy_alone"]["clean_drop"]), percent(own["policy_alone"]["asr"])]
        for rival in AT_EQUAL_DROP:
            row = _row("zoo", name, rival)
            allowed = own["policy_alone"]["clean_drop"]
            cells.append(NOTHING if row is None else percent(_mixed(own["none"], row, allowed)))
        lines.append((name, *cells))
    return table(("attack", "drop %", "policy_alone", *AT_EQUAL_DROP), lines)


def _mixed(none: dict[str, Any], row: dict[str, Any], drop: float) -> float:
    """The ASR of ``row`` laid over as many pictures as keep the loss at ``drop``."""
    lost = row["clean_drop"]
    share = 1.0 if lost <= max(drop, 0) else max(drop, 0) / lost
    asr: float = none["asr"] + share * (row["asr"] - none["asr"])
    return asr


def adaptive_table(way: str) -> str:
    """Attackers who know the defence."""
    columns = "attack|undefended|ASR %, policy|RP|AUROC|policy alone|check alone"
    lines = []
    for name, attack in _measured(ADAPTIVE, way):
        rows = contestants(attack)
        cells = (
            percent(rows["none"]["asr"]),
            _asr(attack),
            number(rows["policy"]["rp"], 2),
            number(rows["policy"]["auroc"], 3),
            percent(rows["policy_alone"]["asr"]),
            percent(rows["check_alone"]["asr"]),
        )
        lines.append((name, *cells))
    return table(columns.split("|"), lines)


def purify_table(victim: str) -> str:
    """What each part of `srd-edge purify` adds."""
    columns = "arm|ASR % (95 %)|counted|clean CIDEr-D|left out|of which poisoned %|planted %"
    path = RESULTS / "purify.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = []
    for arm in map(json.loads, lines):
        if arm["victim"] != victim:
            continue
        low, high = arm["asr_interval"]
        doubted, planted = arm.get("doubted"), arm.get("planted", {})
        cells = (
            f"{percent(arm['asr'])} ({percent(low)}–{percent(high)})",
            str(arm["counted"]),
            number(arm["cider_d_clean"], 3),
            str(doubted["found"]) if doubted else NOTHING,
            percent(doubted["precision"]) if doubted else NOTHING,
            " / ".join(percent(share) for share in planted.values()) or NOTHING,
        )
        rows.append((arm["arm"], *cells))
    return table(columns.split("|"), rows)


def ablation_table(part: str) -> str:
    """Variants of the learner or of the reward: mean and standard deviation over the seeds."""
    path = RESULTS / f"{part}_ablation.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    runs = [json.loads(entry) for entry in text.splitlines()]
    means = [run for run in runs if run["seed"] is None]
    if not means:
        return table(("variant",), [])
    attacks = [key for key in means[-1] if key.startswith("asr_")] or ["asr"]
    figures = ("fidelity_triggered", "fidelity_clean", "clean_left_alone", *attacks)
    rows = [(run["variant"], *(_spread(run[figure]) for figure in figures)) for run in means]
    return table(("variant", *(figure.replace("_", " ") for figure in figures)), rows)


def _spread(value: float | list[float]) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    mean, deviation = value
    return f"{mean:.2f} ± {deviation:.2f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, the first column to the left; one sentence where there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    rule = "|---|" + "---:|" * (len(columns) - 1)
    return "\n".join([f"| {' | '.join(columns)} |", rule, *lines]) if lines else "Not measured yet."


def _measured(names: Iterable[str], way: str) -> list[tuple[str, dict[str, Any]]]:
    reports = [(name, attack_of("defence", f"{name}-{way}")) for name in names]
    return [(name, attack) for name, attack in reports if attack is not None]


def _row(folder: str, name: str, contestant: str) -> dict[str, Any] | None:
    attack = attack_of(folder, name)
    return None if attack is None else contestants(attack).get(contestant)


def _asr(attack: dict[str, Any] | None) -> str:
    if attack is None:
        return NOTHING
    row = contestants(attack)["policy"]
    low, high = row["asr_interval"]
    return f"{percent(row['asr'])} ({percent(low)}–{percent(high)})"


def _asr_rp(row: dict[str, Any] | None) -> str:
    return NOTHING if row is None else f"{percent(row['asr'])} / {number(row['rp'], 2)}"


def _mean_drop(rows: list[dict[str, Any] | None]) -> str:
    drops = [row["clean_drop"] for row in rows if row is not None]
    return percent(sum(drops) / len(drops)) if drops else NOTHING
