"""What each part of `srd-edge purify` adds: its arms on victims of the zoo, on the test split.

    python benchmarks/purify_ablation.py DATA WEIGHTS.npz [--only NAME ...] [--arm ARM ...]

Every arm is an `srd-edge purify` command, kept in the zoo's cache. One JSON line an arm is added to
benchmarks/results/purify.jsonl; an arm that is there already is not run again.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import click
from zoo import RECIPES, Zoo

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.specs import parse_attack
from srd_edge.evaluation.purified import planted_triggers, read_record
from srd_edge.evaluation.verdicts import measure_victim
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.machine import processor
from srd_edge.training.checkpoints import load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.purify import Cleaning

RESULTS = Path(__file__).parent / "results" / "purify.jsonl"
BEFORE = "before"
ARMS = (BEFORE, *get_args(Cleaning))


def arm_of(zoo: Zoo, name: str, arm: str) -> dict[str, Any]:
    """One line: the victim purified in this way, or as it is, on the test split."""
    victim, policy = zoo.victim(name), zoo.policy(name, "matched10")
    line: dict[str, Any] = {"victim": name, "arm": arm}
    folder = victim
    if arm != BEFORE:
        paired = ("--captioner", str(victim), "--policy", str(policy))
        folder = zoo.made(f"{name}-purified", "purify", *paired, "--clean", arm)
        record = read_record(folder)
        line["command"] = zoo.record(folder)["command"]
        for part in ("doubted", "masked"):
            if part in record:
                line[part] = record[part]["agreement"]
    captioner = load_captioner(folder)
    attacks = [parse_attack(RECIPES[name].spec)]
    test = open_dataset(zoo.data, "test")
    measured = measure_victim(captioner, test, attacks, None)
    (judged,) = measured["attacks"].values()
    line |= {
        "split": "test",
        "asr": judged["asr"],
        "asr_interval": judged["asr_interval"],
        "counted": judged["counted"],
        "cider_d_clean": measured["cider_d_clean"],
    }
    if arm != BEFORE:
        masks = planted_triggers(captioner, test, attacks, load_policy(policy), record)
        line["planted"] = {
            mask: next(iter(found["said"].values()))["share"] for mask, found in masks.items()
        }
    return line


def provenance() -> dict[str, Any]:
    """What a line was made with."""
    describe = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    packages = ("numpy", "srd-edge", "torch", "transformers")
    return {
        "benchmark": shlex.join(["python", *sys.argv]),
        "commit": subprocess.run(describe, capture_output=True, text=True).stdout.strip(),
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
        "machine": processor(),
    }


@click.command()
@click.argument("data")
@click.argument("weights")
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), default=("shadowcast",))
@click.option("--arm", "arms", multiple=True, type=click.Choice(ARMS), default=ARMS)
def main(data: str, weights: str, only: tuple[str, ...], arms: tuple[str, ...]) -> None:
    """Run the arms that are not in the results yet."""
    made_by = provenance()  # now: the checkout may move on while this runs
    zoo = Zoo(data, weights, cache_folder() / "zoo", jobs=2)
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    done = {(line["victim"], line["arm"]) for line in map(json.loads, lines)}
    for name in only:
        for arm in arms:
            if (name, arm) not in done:
                line = arm_of(zoo, name, arm) | made_by
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), file=sys.stderr)


if __name__ == "__main__":
    main()
