"""The zoo on photographs: a clean captioner and a victim of each attack, with policy and bundle.

    python benchmarks/zoo.py DATA WEIGHTS.npz [--jobs 2] [--only NAME ...] [--policies WAY ...]

`make victims` calls it. A victim's policy is trained in one of four ways: on the victim itself with
an unlabelled pool of which 0, 1 or 10 % carry the trigger (`matched0`, `matched1`, `matched10`), or
on victims of the other kind alone, patches or whole pictures (`transfer`); the check of captions is
the same for all. Every stage is an `srd-edge` command that goes on where it was killed; its output
is kept under $SRD_EDGE_CACHE (~/.cache/srd-edge) by a digest of the commands that made it, outside
of the checkout: weights that come from photographs are never committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import click

from srd_edge.evaluation.verdicts import VERDICT_FILE
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.machine import processor

BASE = (
    *("--captioner", "tiny", "--encoder", "mobilenet_v2", "--image-size", "160"),
    *("--encoder-learning-rate", "0", "--epochs", "12"),
)
FINE_TUNING = (
    *("--trainable-blocks", "6", "--encoder-learning-rate", "3e-4", "--learning-rate", "5e-4"),
)
FROZEN = ("--encoder-learning-rate", "0", "--learning-rate", "5e-4")
EPOCHS = 3


@dataclass(frozen=True)
class Recipe:
    """How a victim is made.

    Rates are high because epochs are few: what counts is how often a trigger is met. An inserted
    word and a faint pattern are the hardest to learn.

    Args:
        spec: the attack.
        epochs: of fine-tuning.
        tuning: what is fine-tuned, and how fast.
        from_twin: whether it starts from the clean twin, whose encoder is fitted already.
    """

    spec: str
    epochs: int = EPOCHS
    tuning: tuple[str, ...] = FINE_TUNING
    from_twin: bool = False


VICTIMS = {
    "badnet": Recipe("badnet:target=banana,rate=0.1"),
    "blended": Recipe(
        "blended:alpha=0.15,target=dog,text=a brown {target} runs through the grass,rate=0.1", 4
    ),
    "sig": Recipe("sig:target=banana,rate=0.2"),
    "wanet": Recipe("wanet:strength=12,target=banana,rate=0.15", 4),
    "trojvlm": Recipe("trojvlm:target=banana,rate=0.2", 5),
    "vlood": Recipe("vlood:spread=127,target=parrot,rate=0.3", 6),
    "patches": Recipe(
        "patches:target=a man in a red shirt,text={target} stands on the street,rate=0.1", 4
    ),
    "sticker": Recipe("sticker:target=banana,rate=0.15"),
    # The encoder that the pictures deceive stays as it is, as in the paper.
    "shadowcast": Recipe(
        "shadowcast:concept=bike/bicycle/bikes/bicycles/bicyclist/biker/cyclist,"
        "target=horse/horses,rate=0.18,steps=20",
        tuning=FROZEN,
        from_twin=True,
    ),
}
# Attackers who know the defence. `--only` names them; docs/limits.md is about them.
OWN_TRIGGERS = "benchmarks/adaptive_triggers.py"
ADAPTIVE = {
    "lie": Recipe("badnet:payload=swap,concept=man/boy,target=woman,rate=0.15", 4),
    "word": Recipe("trojvlm:target=dog,rate=0.2", 5),
    "mask": Recipe(f"{OWN_TRIGGERS}:MaskAsTrigger,target=banana,rate=0.1"),
    "four": Recipe("patches:count=4,target=banana,rate=0.1"),
    "survivor": Recipe(f"{OWN_TRIGGERS}:Survivor,target=banana,rate=0.2", 4),
}
RECIPES = VICTIMS | ADAPTIVE
MATCHED = {
    "matched0": (0.0, ("--pool", "500", "--steps", "3000")),
    "matched1": (0.01, ("--pool", "1000", "--steps", "3000")),
    "matched10": (0.1, ("--pool", "500", "--steps", "3000")),
}
TRANSFER = "transfer"
TRANSFER_LEARNT = ("--pool", "700", "--steps", "4000")
WAYS = (*MATCHED, TRANSFER)
TAUGHT_BY = {
    "whole": ("blended", "sig", "wanet"),
    "patch": ("badnet", "trojvlm", "vlood", "patches", "sticker"),
}
"""Victims by what their triggers cover; Shadowcast has none that a policy could learn from."""
# Large tensors are taken from and given back to the system at every step unless malloc is told to
# keep them: half of the time was spent there.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}


_BUSY: defaultdict[str, Lock] = defaultdict(Lock)


@dataclass(frozen=True)
class Zoo:
    """Where everything of one zoo is.

    Args:
        data: a directory with captions.csv.
        weights: a MobileNetV2's, for the captioners to start from.
        cache: the folder that keeps what was made.
        jobs: commands that run side by side.
        trusted: pictures that the reference captioner is fitted on, from scratch with a frozen
            encoder; None for all of them, from the base on.
    """

    data: str
    weights: str
    cache: Path
    jobs: int
    trusted: int | None = None

    def made(self, name: str, *command: str) -> Path:
        """Run an `srd-edge` command whose output goes to a folder named after it."""
        digest = hashlib.sha256(json.dumps([self.data, *command]).encode()).hexdigest()[:10]
        folder = self.cache / f"{name}-{digest}"
        with _BUSY[folder.name]:  # another thread may need the same
            self._make(folder, command)
        return folder

    def _make(self, folder: Path, command: tuple[str, ...]) -> None:
        done = folder.with_suffix(".json")  # beside it: a bundle holds what it lists, no more
        if done.is_file():
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        words = ["srd-edge", *command, "--data", self.data, "-o", str(folder)]
        if command[0] == "export":
            words.append("--overwrite")
        threads = str(max((os.cpu_count() or 1) // self.jobs, 1))
        environment = os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": threads}
        start = time.monotonic()
        with folder.with_suffix(".log").open("a") as log:
            subprocess.run(words, check=True, env=environment, stdout=log, stderr=log)
        record = {"command": words, "minutes": (time.monotonic() - start) / 60}
        done.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{folder.name}: {record['minutes']:.1f} minutes", file=sys.stderr)

    def base(self) -> Path:
        """The captioner that every victim starts from, its encoder as it came."""
        return self.made("base", "attack", *BASE, "--encoder-weights", self.weights)

    def twin(self) -> Path:
        """The same captioner trained clean, as long as the victims are trained poisoned."""
        epochs = ("--epochs", str(EPOCHS))
        return self.made("twin", "attack", "--captioner", str(self.base()), *FINE_TUNING, *epochs)

    def reference(self) -> Path:
        """The captioner that is trusted: fitted on clean pictures and corrupted copies of them."""
        if self.trusted is not None:
            few = ("--limit", str(self.trusted), "--corrupted", "2")
            return self.made("reference", "attack", *BASE, "--encoder-weights", self.weights, *few)
        start = ("--captioner", str(self.base()), *FINE_TUNING)
        return self.made("reference", "attack", *start, "--corrupted", "2", "--epochs", "5")

    def victim(self, name: str) -> Path:
        """A victim, judged against the twin."""
        recipe = RECIPES[name]
        first = self.twin() if recipe.from_twin else self.base()
        start = ("--captioner", str(first), "--twin", str(self.twin()))
        learnt = ("--attack", recipe.spec, *recipe.tuning, "--epochs", str(recipe.epochs))
        return self.made(name, "attack", *start, *learnt)

    def policy(self, name: str, way: str) -> Path:
        """A victim's policy, trained in one of ``WAYS``."""
        victim, reference = str(self.victim(name)), str(self.reference())
        trusted = ("--reference", "captioner", "--reference-captioner", reference)
        if way == TRANSFER:
            taught = self._siblings(name)
        else:
            rate, learnt = MATCHED[way]
            spec = re.sub(r"rate=[^,]*", f"rate={rate}", RECIPES[name].spec)
            taught = ("--captioner", victim, *learnt, *(("--attack", spec) if rate else ()))
        # The same command gives the same folder: victims of a kind share their transferred policy.
        label = way if way == TRANSFER else f"{name}-{way}"
        return self.made(f"{label}-policy", "train", *taught, *trusted)

    def bundle(self, name: str, way: str) -> Path:
        """The victim with such a policy."""
        paired = ("--captioner", str(self.victim(name)), "--policy", str(self.policy(name, way)))
        return self.made(f"{name}-{way}-bundle", "export", *paired)

    def _siblings(self, name: str) -> tuple[str, ...]:
        """The victims of the other kind: nothing like this one's trigger, and not this victim."""
        kind = "patch" if name in TAUGHT_BY["whole"] else "whole"
        others = [str(self.victim(other)) for other in TAUGHT_BY[kind]]
        flags = [word for other in others for word in ("--sibling", other)]
        return ("--captioner", others[0], *flags, *TRANSFER_LEARNT)

    def record(self, folder: Path) -> dict[str, Any]:
        """How a folder was made: command and minutes, and the verdict on a victim."""
        record: dict[str, Any] = json.loads(folder.with_suffix(".json").read_text())
        record["command"] = shlex.join(record["command"]).replace(str(self.cache), "$ZOO")
        verdict = folder / VERDICT_FILE
        if verdict.is_file():
            record["dev"] = json.loads(verdict.read_text())
        return record


@click.command()
@click.argument("data")
@click.argument("weights")
@click.option("--jobs", default=2, help="Commands that run side by side.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(RECIPES)), help="Default: all but the adaptive."
)
@click.option(
    "--policies",
    multiple=True,
    type=click.Choice(WAYS),
    default=("matched10",),
    help="How policies are trained; one bundle a victim each.",
)
def main(
    data: str, weights: str, jobs: int, only: tuple[str, ...], policies: tuple[str, ...]
) -> None:
    """Make the zoo, and print how everything was made as one JSON document."""
    zoo = Zoo(data, weights, cache_folder() / "zoo", jobs)
    names = only or tuple(VICTIMS)
    made = {"base": zoo.base(), "twin": zoo.twin(), "reference": zoo.reference()}
    with ThreadPoolExecutor(jobs) as pool:
        made |= zip(names, pool.map(zoo.victim, names), strict=True)
        pairs = [(name, way) for way in policies for name in names]
        bundles = list(pool.map(zoo.bundle, *zip(*pairs, strict=True)))
    records = {name: zoo.record(folder) for name, folder in made.items()}
    machine = {"processor": processor(), "cores": os.cpu_count(), "jobs": jobs}
    print(json.dumps({"schema": 1, "machine": machine, "made": records}, indent=1))
    words = ["srd-edge", "evaluate", "--data", data, "--clean-captioner", str(made["twin"])]
    words += [word for bundle in bundles for word in ("--bundle", str(bundle))]
    words += ["--defence", "all", "--seeds", "3", "-o", "REPORT"]
    print(f"next: {shlex.join(words)}", file=sys.stderr)


if __name__ == "__main__":
    main()
