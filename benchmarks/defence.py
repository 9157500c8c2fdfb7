"""The defence on the zoo's test split: every victim, every way of training its policy.

    python benchmarks/defence.py DATA WEIGHTS.npz [--only NAME ...] [--policies WAY ...]
    python benchmarks/defence.py DATA WEIGHTS.npz --attack my_trigger.py:trigger,target=...

Makes what the zoo (`benchmarks/zoo.py`) lacks, evaluates it and puts each report's results.json
into benchmarks/results/defence, from which `benchmarks/tables.py` writes docs/defence.md. With
--attack the whole protocol runs on a trigger of one's own instead; its reports stay in the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from zoo import ADAPTIVE, EPOCHS, KEEP_MEMORY, RECIPES, VICTIMS, WAYS, Recipe, Zoo

from srd_edge.attacks.specs import parse_attack
from srd_edge.runtime.cache_folder import cache_folder

RESULTS = Path(__file__).parent / "results" / "defence"
CONTESTANTS = ("none", "policy")
PARTS = ("policy_alone", "check_alone", "reference")
"""Asked where the defence is taken apart: once a victim, not once a way."""
TAKEN_APART = "matched10"
OWN = "own"


def label(zoo: Zoo, name: str, way: str) -> str:
    """What a report is called."""
    return f"{name}-{way}" if zoo.trusted is None else f"{name}-{way}-trusted{zoo.trusted}"


def evaluate(zoo: Zoo, name: str, way: str, threads: int) -> Path:
    """The report on a victim under the defence of one of the ways."""
    report = zoo.cache.parent / "reports" / label(zoo, name, way)
    words = ["srd-edge", "evaluate", "--data", zoo.data, "--clean-captioner", str(zoo.twin())]
    words += ["--bundle", str(zoo.bundle(name, way)), "--seeds", "3", "--timed", "0"]
    spec = RECIPES[name].spec
    if name == "survivor":  # the attacker's own pictures carry nothing but the patch
        spec = spec.replace("target", "share=0,target")
    # Named, since a trigger of somebody's own is not run because a bundle says so.
    words += ["--attack", spec]
    contestants = (*CONTESTANTS, *(PARTS if way == TAKEN_APART else ()))
    words += [word for contestant in contestants for word in ("--defence", contestant)]
    environment = os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": str(threads)}
    with report.with_suffix(".log").open("a") as log:
        command = [*words, "-o", str(report)]
        subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
    return report


@click.command()
@click.argument("data")
@click.argument("weights")
@click.option("--jobs", default=2, help="Commands that run side by side.")
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="Default: all.")
@click.option("--policies", multiple=True, type=click.Choice(WAYS), default=WAYS)
@click.option("--trusted", type=int, help="Fit the reference captioner on so few pictures.")
@click.option("--attack", help="A SPEC of one's own, rate included, in place of the zoo's.")
@click.option("--epochs", default=EPOCHS, help="Of fine-tuning, for --attack.")
def main(
    data: str,
    weights: str,
    jobs: int,
    only: tuple[str, ...],
    policies: tuple[str, ...],
    trusted: int | None,
    attack: str | None,
    epochs: int,
) -> None:
    """Evaluate the defence on the zoo, or on an attack of one's own."""
    zoo = Zoo(data, weights, cache_folder() / "zoo", jobs, trusted)
    (zoo.cache.parent / "reports").mkdir(parents=True, exist_ok=True)
    names = only or tuple(VICTIMS | ADAPTIVE)
    if attack is not None:
        parse_attack(attack)
        RECIPES[OWN] = Recipe(attack, epochs)
        names = (OWN,)
    pairs = [(name, way) for way in policies for name in names]
    threads = max((os.cpu_count() or 1) // jobs, 1)

    def one(name: str, way: str) -> Path:
        report = evaluate(zoo, name, way, threads)
        if attack is None:
            RESULTS.mkdir(parents=True, exist_ok=True)
            text = (report / "results.json").read_text(encoding="utf-8")
            text = text.replace(str(zoo.cache.parent), "$SRD_EDGE_CACHE")  # of any machine
            (RESULTS / f"{label(zoo, name, way)}.json").write_text(text, encoding="utf-8")
        return report

    zoo.reference()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(zoo.victim, names))
        for report in pool.map(one, *zip(*pairs, strict=True)):
            print(report, file=sys.stderr)


if __name__ == "__main__":
    main()
