"""What pays in training a policy: variants of the learner, or of the reward, on one victim.

    srd-edge attack --captioner tiny --data scenes --limit 4000 --epochs 9 \\
        --attack badnet:target=banana,rate=0.1 --attack trojvlm:target=parrot,rate=0.15 -o VICTIM
    python benchmarks/policy_ablation.py learner VICTIM
    python benchmarks/policy_ablation.py reward VICTIM --reference-captioner REFERENCE

Every variant and seed learns on the same pool of scenes, a tenth of it with each of the victim's
recorded triggers. All are judged alike, greedily on dev scenes, half of them triggered, by their
fidelity to the scenes' own captions. RESULTS gets one JSON line for the victim without a policy,
one a training (`n_step` 3 is Monte Carlo: an episode has two perturbations at most) and one a
variant, with mean and standard deviation over the seeds. Goes on where it was killed.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.machine import processor
from srd_edge.runtime.policy import choose
from srd_edge.training.datasets import open_dataset
from srd_edge.training.dqn import DqnConfig, train_policy
from srd_edge.training.environment import DefenceVectorEnv, Pool
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.policy_training import TrainConfig, make_pool, new_network, open_fidelity
from srd_edge.training.qnetwork import QNetwork
from srd_edge.training.references import ReferenceKind
from srd_edge.training.suspect import Suspect

ROOT = Path(__file__).resolve().parents[1]
WORK = cache_folder() / "policy_ablation"
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Variant:
    """One way to train: settings of the learner, of the Q-network's head, and of the reward.

    Args:
        dqn: over ``DqnConfig``'s defaults.
        duelling: the head.
        reference: what the reward holds captions against, in training.
        weight: of consistency in the reward; the rest is fluency's.
    """

    dqn: Mapping[str, Any] = field(default_factory=dict)
    duelling: bool = False
    reference: ReferenceKind = "captions"
    weight: float = 0.5


VARIANTS = {
    "learner": {
        "plain": Variant({"double": False}),
        "double": Variant(),
        "double+duelling": Variant(duelling=True),
        "double+3-step": Variant({"n_step": 3}),
        "double+prioritised": Variant({"prioritised": True}),
        "all": Variant({"n_step": 3, "prioritised": True}, duelling=True),
    },
    "reward": {
        "captions": Variant(),
        "captions, consistency alone": Variant(weight=1.0),
        "captions, fluency alone": Variant(weight=0.0),
        "captioner": Variant(reference="captioner"),
        "consensus": Variant(reference="consensus"),
        "consensus, consistency alone": Variant(reference="consensus", weight=1.0),
    },
}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Bench:
    """What all variants share: pictures to learn on, and dev pictures, triggered ones by attack.

    Args:
        config: of the trainings, as far as they are alike.
        suspect: the victim.
        train: pictures, of which a pool is drawn.
        fidelity: what everything is judged by.
        clean, attacked: what is judged.
    """

    config: TrainConfig
    suspect: Suspect
    train: Sequence[Sample]
    fidelity: SemanticFidelity
    clean: Pool
    attacked: Sequence[tuple[Attack, Pool]]
    _pools: dict[ReferenceKind, Pool] = field(default_factory=dict)

    def pool(self, reference: ReferenceKind) -> Pool:
        """What is learnt on; the same pictures, whatever they are held against."""
        if reference not in self._pools:
            config = replace(self.config, reference=reference)
            self._pools[reference] = make_pool(config, self.suspect, self.train, self.fidelity)
        return self._pools[reference]


def open_bench(victim: str, captioner: str | None, pool: int, pictures: int) -> Bench:
    # A sibling of itself: its pool then has the triggers that it is known to have.
    config = TrainConfig(
        victim, "scenes", WORK, siblings=(victim,), reference_captioner=captioner, pool=pool
    )
    suspect, samples = Suspect(load_captioner(victim)), open_dataset("scenes", "train")
    fidelity = open_fidelity(config, samples)

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
    clean = judged_on(dev[: len(dev) // 2])
    return Bench(config, suspect, samples, fidelity, clean, attacked)


@torch.inference_mode()
def defend(
    bench: Bench, pool: Pool, network: QNetwork | None
) -> tuple[list[str], list[float], list[bool]]:
    """Captions, their fidelity, and whether it was left alone, of every picture in any order."""
    environment = DefenceVectorEnv(pool, DEFAULT_TABLE, bench.fidelity, num_envs=len(pool.canvases))
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
    figures = {"fidelity_clean": fmean(clean), "clean_left_alone": fmean(left_alone)}
    hits: list[bool] = []
    scores: list[float] = []
    for attack, pool in bench.attacked:
        captions, fidelity, _ = defend(bench, pool, network)
        own = [attack.payload.succeeded(caption) for caption in captions]
        figures[f"asr_{attack.name}"] = fmean(own)
        hits += own
        scores += fidelity
    return figures | {"fidelity_triggered": fmean(scores), "asr": fmean(hits)}


def measure(
    bench: Bench, name: str, variant: Variant, seed: int, settings: Mapping[str, Any]
) -> dict[str, float]:
    network = new_network(bench.suspect, "default", seed, duelling=variant.duelling)
    reward = replace(bench.fidelity, weight=variant.weight)
    environment = DefenceVectorEnv(
        bench.pool(variant.reference), DEFAULT_TABLE, reward, num_envs=64
    )
    config = DqnConfig(steps=settings["steps"], seed=seed, **variant.dqn)
    start = time.process_time()
    train_policy(
        network, environment, config, WORK / f"{name}-{seed}", identity=json.dumps(settings)
    )
    minutes = (time.process_time() - start) / 60
    return judge(bench, network) | {"cpu_minutes": minutes}


def provenance() -> dict[str, Any]:
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": subprocess.run(describe, capture_output=True, text=True).stdout.strip(),
        "versions": {name: version(name) for name in ("gymnasium", "numpy", "srd-edge", "torch")}
        | {"python": platform.python_version()},
        "machine": {"processor": processor(), "threads": torch.get_num_threads()},
    }


@click.command()
@click.argument("part", type=click.Choice(list(VARIANTS)))
@click.argument("victim")
@click.option("--reference-captioner", help="For the rewards that are held against one.")
@click.option("--steps", default=6000, help="Environment steps of a training.")
@click.option("--pool", default=600, help="Pictures to learn on.")
@click.option("--pictures", default=600, help="Dev pictures to be judged on.")
@click.option("-o", "results", type=click.Path(path_type=Path))
def main(
    part: str,
    victim: str,
    reference_captioner: str | None,
    steps: int,
    pool: int,
    pictures: int,
    results: Path | None,
) -> None:
    """Train and judge what RESULTS lacks, and end it with the means."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    made_by = provenance()  # now: the checkout may move on while this runs
    results = results or RESULTS / f"{part}_ablation.jsonl"
    bench = open_bench(victim, reference_captioner, pool, pictures)
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
    variants = VARIANTS[part]
    left = [pair for pair in product(variants, SEEDS) if pair not in done]
    for name, seed in tracked(left, "trainings"):
        record(name, seed, measure(bench, name, variants[name], seed, settings))
    for name in variants:
        if (name, None) not in done:
            runs = [done[name, seed] for seed in SEEDS]
            figures = [key for key, value in runs[0].items() if isinstance(value, float)]
            record(name, None, {key: spread([run[key] for run in runs]) for key in figures})


if __name__ == "__main__":
    main()
