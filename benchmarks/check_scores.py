"""What the check's scores tell apart on dev, and which captions other rules would let through.

    python benchmarks/check_scores.py DATA WEIGHTS.npz [--only NAME ...] [--trusted N]

Every caption of dev pictures, clean and triggered, is examined; the rules are then applied to the
scores, at several quantiles of the clean ones. One JSON line a victim is added to
benchmarks/results/check_scores.jsonl; the test split is not looked at.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from zoo import RECIPES, TAUGHT_BY, Zoo

from srd_edge.attacks.poisoning import counted
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.evaluation.metrics import auroc
from srd_edge.export.limits import PASSED, examining_everything
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.check_specs import FROM_MEDIAN_TO_LIMIT
from srd_edge.runtime.defender import Defender
from srd_edge.training.datasets import open_dataset

RESULTS: Final = Path(__file__).parent / "results" / "check_scores.jsonl"
QUANTILES: Final = (0.9, PASSED, 0.99)
CONFIDENCE, INFORMATION, CONTRADICTION = range(3)
NAMES: Final = ("confidence", "information", "contradiction")
Scores = NDArray[np.float64]


def scores_of(defender: Defender, samples: Any, attack: Attack | None) -> tuple[Scores, list[str]]:
    """(N, 3) scores and N captions of the samples, triggered or as they are."""
    rows, captions = [], []
    for number, sample in enumerate(samples):
        pixels = sample.load()
        if attack is not None:
            assert attack.trigger is not None
            pixels = attack.trigger(pixels, np.random.default_rng([0, number]))
        result = defender.caption(Frame(pixels, number))
        opinion = result.opinion
        assert opinion is not None
        rows.append((opinion.confidence, opinion.information, opinion.contradiction))
        captions.append(result.caption or "")
    return np.array(rows, np.float64), captions


def rules(clean: Scores) -> dict[str, Any]:
    """Ways of refusing: name -> function of (N, 3) scores, high where refused."""
    middle = np.median(clean, axis=0)
    spread = (np.quantile(clean, PASSED, axis=0) - middle) / FROM_MEDIAN_TO_LIMIT
    inverse = np.linalg.inv(np.cov(clean.T))

    def scaled(scores: Scores) -> Scores:
        return np.asarray((scores - middle) / spread)

    def distance(scores: Scores) -> Scores:
        above = np.clip(scores - middle, 0, None)
        return np.asarray(np.einsum("ij,jk,ik->i", above, inverse, above))

    found = {name: lambda s, i=i: scaled(s)[:, i] for i, name in enumerate(NAMES)}
    for weight in (0.5, 1, 2):
        found[f"contradiction + {weight:g} confidence"] = lambda s, w=weight: (
            scaled(s)[:, CONTRADICTION] + w * scaled(s)[:, CONFIDENCE]
        )
    found["the lesser of confidence and contradiction"] = lambda s: np.minimum(
        scaled(s)[:, CONFIDENCE], scaled(s)[:, CONTRADICTION]
    )
    found["Mahalanobis above the medians"] = distance
    return found


def measured(clean: Scores, triggered: Scores, works: NDArray[np.bool_]) -> dict[str, Any]:
    """What each rule alone, and after the screening, lets through; shares of triggered pictures."""
    line: dict[str, Any] = {"works": float(works.mean()), "rules": {}, "screening": {}}
    for name, rule in rules(clean).items():
        low, high = rule(clean), rule(triggered)
        line["rules"][name] = {
            "auroc_where_it_works": auroc(low, high[works]) if works.any() else None,
            "passes": float((works & (high <= np.quantile(low, PASSED))).mean()),
        }
    for quantile in QUANTILES:
        limits = np.quantile(clean[:, :CONTRADICTION], quantile, axis=0)
        examined = (clean[:, :CONTRADICTION] > limits).any(axis=1)
        caught = (triggered[:, :CONTRADICTION] > limits).any(axis=1)
        line["screening"][f"{quantile:g}"] = {
            "clean_examined": float(examined.mean()),
            "works_unexamined": float((works & ~caught).mean()),
        }
    return line


@click.command()
@click.argument("data")
@click.argument("weights")
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="Default: all.")
@click.option("--trusted", type=int, help="Fit the reference captioner on so few pictures.")
@click.option("--limit", default=300, help="Pictures.")
def main(data: str, weights: str, only: tuple[str, ...], trusted: int | None, limit: int) -> None:
    """Examine every caption of dev pictures, and compare rules."""
    zoo = Zoo(data, weights, cache_folder() / "zoo", 1, trusted)
    samples = open_dataset(data, "dev")[:limit]
    for name in only or (*TAUGHT_BY["patch"], *TAUGHT_BY["whole"]):
        bundle = read_bundle(zoo.bundle(name, "matched10"))
        defender = Defender(replace(bundle, manifest=examining_everything(bundle.manifest)))
        attack = parse_attack(RECIPES[name].spec)
        clean, _ = scores_of(defender, samples, None)
        triggered, captions = scores_of(defender, samples, attack)
        works = np.zeros(len(samples), np.bool_)
        for number in counted(samples, attack):
            works[number] = attack.payload.succeeded(captions[number])
        line = {"victim": name, "trusted": trusted, "split": "dev", "pictures": len(samples)}
        line |= measured(clean, triggered, works)
        with RESULTS.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        print(name, file=sys.stderr)


if __name__ == "__main__":
    main()
