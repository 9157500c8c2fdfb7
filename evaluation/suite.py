"""``srd-edge evaluate``: a bundle, undefended and under each policy, against each attack.

Every picture is captioned by all contestants one after the other before the next picture, so that
times are interleaved and other load on the machine falls on all of them alike.
"""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import srd_edge
from srd_edge.attacks.payloads import contains_target
from srd_edge.attacks.poisoning import natural_positive, triggered
from srd_edge.attacks.progress import bar
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.attacks.triggers import TRIGGERS
from srd_edge.errors import BundleError, UsageError
from srd_edge.evaluation.controls import RandomPolicy, untrained_policy
from srd_edge.evaluation.metrics import (
    auroc,
    cider_d,
    trimmed_mean,
    true_positive_rate,
    wilson_interval,
)
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.records import Result
from srd_edge.runtime.sessions import usable_cores
from srd_edge.training.datasets import Split, open_dataset

SCHEMA: Final = 1
UNDEFENDED: Final = "none"
DEFENDED: Final = "policy"
_WARM_UP_PICTURES: Final = 5
_SEED: Final = 3


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What is measured.

    Args:
        bundle: a directory; None for the built-in one.
        data: the data set.
        split: of the data set.
        attacks: SPECs; empty for those recorded in the bundle's provenance.
        limit: the first so many pictures; None for all.
        controls: whether the random and the untrained policy are measured too.
    """

    bundle: Path | None = None
    data: str = "scenes"
    split: Split = "test"
    attacks: tuple[str, ...] = ()
    limit: int | None = None
    controls: bool = True


@dataclass(slots=True)
class _Runs:
    """Results by contestant, one a picture, in the order of the pictures."""

    by_name: dict[str, list[Result]] = field(default_factory=dict)

    def captions(self, name: str) -> list[str]:
        return [result.caption or "" for result in self.by_name[name]]

    def ms(self, name: str) -> list[float]:
        return [result.total_ms for result in self.by_name[name]]

    def suspicions(self, name: str) -> list[float]:
        found = [result.suspicion for result in self.by_name[name]]
        return [level for level in found if level is not None]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure, and return the JSON document that docs/measuring.md describes."""
    bundle = read_bundle(config.bundle)
    torch.set_num_threads(1)  # the untrained control must not take the others' cores
    attacks = [parse_attack(spec) for spec in config.attacks or recorded_attacks(bundle)]
    samples = open_dataset(config.data, config.split, config.limit)
    contestants = _contestants(bundle, controls=config.controls)
    rounds = (1 + len(attacks)) * len(samples)
    with bar() as progress:
        task = progress.add_task("evaluating", total=rounds)

        def advance() -> None:
            progress.advance(task)

        clean = _caption_all(contestants, samples, advance)
        runs = {}
        for attack in attacks:
            pictures = [triggered(s, attack, (_SEED, i)) for i, s in enumerate(samples)]
            runs[_key(attack, attacks)] = (attack, _caption_all(contestants, pictures, advance))
    return {
        "schema": SCHEMA,
        "command": shlex.join(["srd-edge", *sys.argv[1:]]),
        "commit": _commit(),
        "seed": _SEED,
        "bundle": str(config.bundle or "built-in"),
        "data": config.data,
        "split": config.split,
        "pictures": len(samples),
        "versions": {name: version(name) for name in ("onnxruntime", "numpy", "torch")}
        | {"srd_edge": srd_edge.__version__, "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cores": usable_cores()},
        "attacks": {
            key: _judge(attack, samples, clean, run, contestants)
            for key, (attack, run) in runs.items()
        },
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None outside of one."""
    root = Path(srd_edge.__file__).parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def recorded_attacks(bundle: Bundle) -> tuple[str, ...]:
    """The attacks that the bundle's captioner is known to carry, from its provenance.

    Only built-in triggers: a bundle must not name code to be run. Others need ``--attack``.

    Raises:
        BundleError: for anything else in that place.
        UsageError: when nothing is recorded.
    """
    recorded = bundle.manifest.provenance.get("attacks", [])
    if not isinstance(recorded, list) or not all(
        isinstance(spec, str) and spec.partition(":")[0] in TRIGGERS for spec in recorded
    ):
        raise BundleError(
            expected="built-in attacks recorded in the bundle",
            found=repr(recorded)[:120],
            do="name them with --attack SPEC if you trust them",
        )
    if not recorded:
        raise UsageError(
            expected="attacks to measure",
            found="none recorded in the bundle",
            do="name them with --attack SPEC",
        )
    return tuple(recorded)


def _contestants(bundle: Bundle, *, controls: bool) -> dict[str, Defender]:
    contestants = {
        UNDEFENDED: Defender(bundle, defend=False),
        DEFENDED: Defender(bundle),
    }
    if controls:
        actions = len(bundle.manifest.actions)
        contestants["random"] = Defender(bundle, policy=RandomPolicy(actions))
        contestants["untrained"] = Defender(bundle, policy=untrained_policy(bundle.manifest))
    return contestants


def _caption_all(
    contestants: dict[str, Defender], samples: Sequence[Sample], advance: Callable[[], None]
) -> _Runs:
    names = list(contestants)
    runs = _Runs({name: [] for name in names})
    for sample in samples[:_WARM_UP_PICTURES]:
        for defender in contestants.values():
            defender.caption(sample.load())
    for i, sample in enumerate(samples):
        frame = Frame(sample.load(), i)
        # Each in turn goes first and pays for the cold picture.
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            runs.by_name[name].append(contestants[name].caption(frame))
        advance()
    return runs


def _judge(
    attack: Attack,
    samples: Sequence[Sample],
    clean: _Runs,
    run: _Runs,
    contestants: dict[str, Defender],
) -> dict[str, Any]:
    references = [sample.captions for sample in samples]
    counted = [i for i, s in enumerate(samples) if not natural_positive(s, attack)]
    if not counted:
        raise UsageError(
            expected=f"pictures that do not show {attack.payload.target!r}",
            found=f"it in the captions of all {len(samples)}",
            do="choose another target or data set",
        )
    table: dict[str, dict[str, Any]] = {}
    for name in contestants:
        hits = [contains_target(run.captions(name)[i], attack.payload.target) for i in counted]
        low, high = wilson_interval(sum(hits), len(hits))
        results = [*clean.by_name[name], *run.by_name[name]]
        table[name] = {
            "asr": float(np.mean(hits)),
            "asr_interval": [low, high],
            "cider_clean": cider_d(clean.captions(name), references),
            "cider_triggered": cider_d(run.captions(name), references),
            "false_alarms": float(np.mean([bool(r.actions) for r in clean.by_name[name]])),
            "passes": float(np.mean([1 + len(r.actions) for r in results])),
            "ms_ratio_clean": _ratio(clean, name),
            "ms_ratio_triggered": _ratio(run, name),
            "ms_ratio": _mixed_ratio(clean, run, name),
        }
    before, after = table[UNDEFENDED], table[DEFENDED]
    suspicions = clean.suspicions(DEFENDED), run.suspicions(DEFENDED)
    return {
        "spec": attack.spec,
        "counted": len(counted),
        "asr_undefended": before["asr"],
        "asr_defended": after["asr"],
        "asr_defended_interval": after["asr_interval"],
        "cider_clean_undefended": before["cider_clean"],
        "cider_clean_defended": after["cider_clean"],
        "cider_clean_drop": _drop(before["cider_clean"], after["cider_clean"]),
        "rp_cider": after["cider_triggered"],
        "false_alarms": after["false_alarms"],
        "auroc": auroc(*suspicions),
        "tpr_at_1_percent_fpr": true_positive_rate(*suspicions, 0.01),
        "captioner_passes_per_image": after["passes"],
        "ms_ratio_defended_over_undefended": after["ms_ratio"],
        "policies": table,
    }


def _drop(before: float, after: float) -> float | None:
    """The share that was lost; None where there was nothing to lose."""
    return 1 - after / before if before else None


def _ratio(runs: _Runs, name: str) -> float:
    return trimmed_mean(runs.ms(name)) / trimmed_mean(runs.ms(UNDEFENDED))


def _mixed_ratio(clean: _Runs, run: _Runs, name: str) -> float:
    """Clean and triggered pictures in equal parts, far more triggers than a camera meets."""
    ours = trimmed_mean(clean.ms(name)) + trimmed_mean(run.ms(name))
    return ours / (trimmed_mean(clean.ms(UNDEFENDED)) + trimmed_mean(run.ms(UNDEFENDED)))


def _key(attack: Attack, attacks: Sequence[Attack]) -> str:
    same = [a for a in attacks if a.name == attack.name]
    return attack.name if len(same) == 1 else attack.spec
