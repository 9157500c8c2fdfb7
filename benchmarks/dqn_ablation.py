"""Which of the learner's options pay: variants of DQN, trained alike on one victim.

    python benchmarks/dqn_ablation.py [VICTIM] [--steps 6000] [--pool 600] [--pictures 600]

Every variant and seed learns on the same pool of scenes, a tenth of it with each of the
victim's recorded triggers, for the same reward against the scenes' own captions. It is judged
greedily on dev scenes, half of them triggered. RESULTS gets one JSON line for the victim without
a policy, one a training (`n_step` 3 is Monte Carlo: an episode has two perturbations at most) and
one a variant, with mean and standard deviation over the seeds. Goes on where it was killed.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
import torch
from transformers.utils import logging

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.poisoning import counted, triggered
from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.attacks.victims import known_attacks
from srd_edge.evaluation.metrics import spread
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.runtime.policy import choose
from srd_edge.training.datasets import open_dataset
from srd_edge.training.dqn import DqnConfig, train_policy
from srd_edge.training.environment import DefenceVectorEnv, Pool
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.language_store import cache_folder
from srd_edge.training.policy_training import TrainConfig, make_pool, new_network, open_fidelity
from srd_edge.training.qnetwork import QNetwork
from srd_edge.training.suspect import Suspect

ROOT = Path(__file__).resolve().parents[1]
WORK = cache_folder() / "dqn_ablation"
RESULTS = ROOT / "benchmarks" / "results" / "dqn_ablation.jsonl"
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"double": False},
    "double": {},
    "double+duelling": {"duelling": True},
    "double+3-step": {"n_step": 3},
    "double+prioritised": {"prioritised": True},
    "all": {"duelling": True, "n_step": 3, "prioritised": True},
}
SEEDS = (0, 1, 2)
FIGURES = ("fidelity_triggered", "fidelity_clean", "clean_left_alone", "asr", "cpu_minutes")


@dataclass(frozen=True)
class Bench:
    """What all variants share: pictures to learn on, and dev pictures, triggered ones by attack."""

    suspect: Suspect
    fidelity: SemanticFidelity
    pool: Pool
    clean: Pool
    attacked: Sequence[tuple[Attack, Pool]]

    def environment(self, pool: Pool, num_envs: int) -> DefenceVectorEnv:
        return DefenceVectorEnv(pool, DEFAULT_TABLE, self.fidelity, num_envs=num_envs)


def open_bench(victim: str, pool: int, pictures: int) -> Bench:
    # A sibling of itself: its pool then has the triggers that it is known to have.
    config = TrainConfig(
        victim, "scenes", WORK, siblings=(victim,), reference="captions", pool=pool
    )
    suspect, samples = Suspect(load_captioner(victim)), open_dataset("scenes", "train")
    fidelity = open_fidelity(config, samples)
    learnt_on = make_pool(config, suspect, samples, fidelity)

    def judged_on(chosen: Sequence[Sample]) -> Pool:
        references = fidelity.references([sample.captions for sample in chosen])
        return Pool(load_canvases(suspect.captioner, chosen), references, (suspect,))

    dev = open_dataset("scenes", "dev", pictures)
    attacks = [parse_attack(spec) for spec in known_attacks(victim)]
    attacked = []
    for number, attack in enumerate(attacks):
        share = dev[len(dev) // 2 + number :: len(attacks)]
        chosen = [triggered(share[i], attack, (3, i)) for i in counted(share, attack)]
        attacked.append((attack, judged_on(chosen)))
    return Bench(suspect, fidelity, learnt_on, judged_on(dev[: len(dev) // 2]), attacked)


@torch.inference_mode()
def defend(
    bench: Bench, pool: Pool, network: QNetwork | None
) -> tuple[list[str], list[float], list[bool]]:
    """Captions, their fidelity, and whether it was left alone, of every picture in any order."""
    environment = bench.environment(pool, len(pool.canvases))
    observations, info = environment.reset(seed=0)
    captions, scores = info["captions"], info["score"].tolist()
    taken: list[list[int]] = [[] for _ in captions]
    live = np.full(len(captions), network is not None)
    while network is not None and live.any():
        seen = (torch.from_numpy(observations[key]) for key in ("features", "coverage"))
        values = network(*seen).numpy()
        actions = np.array([choose(row, past) for row, past in zip(values, taken, strict=True)])
        observations, _, over, _, info = environment.step(actions)
        for i in np.flatnonzero(live & (actions != DEFAULT_TABLE.stop_index)):
            taken[i].append(actions[i])
            captions[i], scores[i] = info["captions"][i], float(info["score"][i])
        live &= ~over
    return captions, scores, [not past for past in taken]


def judge(bench: Bench, network: QNetwork | None) -> dict[str, float]:
    _, clean, left_alone = defend(bench, bench.clean, network)
    hits, scores = [], []
    for attack, pool in bench.attacked:
        captions, fidelity, _ = defend(bench, pool, network)
        hits += [attack.payload.succeeded(caption) for caption in captions]
        scores += fidelity
    figures = fmean(scores), fmean(clean), fmean(left_alone), fmean(hits)
    return dict(zip(FIGURES, figures, strict=False))


def measure(bench: Bench, name: str, seed: int, steps: int, identity: str) -> dict[str, float]:
    options = dict(VARIANTS[name])
    duelling = options.pop("duelling", False)
    network = new_network(bench.suspect, "default", seed, duelling=duelling)
    environment = bench.environment(bench.pool, 64)
    config = DqnConfig(steps=steps, seed=seed, **options)
    start = time.process_time()
    train_policy(network, environment, config, WORK / f"{name}-{seed}", identity=identity)
    minutes = (time.process_time() - start) / 60

    return judge(bench, network) | {"cpu_minutes": minutes}


def provenance() -> dict[str, Any]:
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": subprocess.run(describe, capture_output=True, text=True).stdout.strip(),
        "versions": {name: version(name) for name in ("gymnasium", "numpy", "srd-edge", "torch")}
        | {"python": platform.python_version()},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }


@click.command()
@click.argument("victim", default="runs/bundle/victim")
@click.option("--steps", default=6000, help="Environment steps of a training.")
@click.option("--pool", default=600, help="Pictures to learn on.")
@click.option("--pictures", default=600, help="Dev pictures to be judged on.")
@click.option("-o", "results", default=RESULTS, type=click.Path(path_type=Path))
def main(victim: str, steps: int, pool: int, pictures: int, results: Path) -> None:
    """Train and judge what RESULTS lacks, and end it with the means."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    made_by = provenance()  # now: the checkout may move on while this runs
    bench = open_bench(victim, pool, pictures)
    fingerprint = bench.suspect.captioner.fingerprint()
    settings = {"victim": fingerprint, "steps": steps, "pool": pool, "pictures": pictures}
    text = results.read_text(encoding="utf-8") if results.is_file() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    done = {(r["variant"], r.get("seed")): r for r in lines if r["settings"] == settings}

    def record(name: str, seed: int | None, figures: dict[str, Any]) -> None:
        line = {"variant": name, "seed": seed, "settings": settings} | figures | made_by
        done[name, seed] = line
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    if ("no policy", None) not in done:
        record("no policy", None, judge(bench, None))
    left = [pair for pair in product(VARIANTS, SEEDS) if pair not in done]
    for name, seed in tracked(left, "trainings"):
        record(name, seed, measure(bench, name, seed, steps, json.dumps(settings)))
    for name in VARIANTS:
        if (name, None) not in done:
            runs = [done[name, seed] for seed in SEEDS]
            record(name, None, {key: spread([run[key] for run in runs]) for key in FIGURES})


if __name__ == "__main__":
    main()
