"""What an evaluation is to measure, and where its figures come from."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import srd_edge
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.attacks.triggers import TRIGGERS
from srd_edge.errors import BundleError, UsageError
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.machine import processor, usable_cores
from srd_edge.runtime.provenance import commit
from srd_edge.training.caption_metrics import unavailable
from srd_edge.training.datasets import Split

SCHEMA: Final = 2


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What is measured.

    Args:
        output: the report's directory; what an earlier run left there is gone on from.
        bundles: directories; none for the built-in one.
        data: the data set; its dev split is for thresholds, its train split for language models.
        split: whose pictures are captioned.
        attacks: SPECs; empty for those recorded in each bundle's provenance.
        contestants: names of the registry, ``default``, ``all`` or ``file.py:object``.
        seeds: how many, from 0; what draws nothing is asked once.
        limit: the first so many pictures; None for all.
        clean_captioner: the same captioner trained clean: a victim is judged by it, and SRD as
            coded takes its captions for references.
        fidelity: whether captions are scored with the semantic fidelity score too.
        sentence_encoder, language_model: names or directories; None fits small ones.
        timed: pictures that times are measured on; 0 for none.
        images: whether every case is kept as pictures.
    """

    output: Path
    bundles: tuple[Path, ...] = ()
    data: str = "scenes"
    split: Split = "test"
    attacks: tuple[str, ...] = ()
    contestants: tuple[str, ...] = ("default",)
    seeds: int = 1
    limit: int | None = None
    clean_captioner: str | None = None
    fidelity: bool = False
    sentence_encoder: str | None = None
    language_model: str | None = None
    timed: int = 24
    images: bool = False


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
            found=f"none recorded in {bundle.directory}",
            do="name them with --attack SPEC",
        )
    return tuple(recorded)


def bundles_and_attacks(config: EvaluateConfig) -> list[tuple[Bundle, Attack]]:
    """Every bundle with every attack that it is to be measured against."""
    bundles = [read_bundle(directory) for directory in config.bundles or (None,)]
    pairs = [
        (bundle, parse_attack(spec))
        for bundle in bundles
        for spec in config.attacks or recorded_attacks(bundle)
    ]
    for _, attack in pairs:
        if attack.text is not None:
            raise UsageError(
                expected="attacks on the picture: exported captioners take no prompt yet",
                found=f"{attack.spec!r}, which has a trigger in the prompt",
                do="leave it out; `srd-edge attack` measures it when it makes the victim",
            )
    return pairs


def attack_keys(attacks: Sequence[Attack]) -> list[str]:
    """A short name for each attack: its trigger's, with a number where several share it."""
    names = [attack.name for attack in attacks]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]


def header(config: EvaluateConfig, samples: Sequence[Sample]) -> dict[str, Any]:
    """What results.json says of where its figures come from."""
    return {
        "schema": SCHEMA,
        "command": shlex.join(["srd-edge", *sys.argv[1:]]),
        "commit": commit(),
        "versions": {name: version(name) for name in ("onnxruntime", "numpy", "torch")}
        | {"srd_edge": srd_edge.__version__, "python": platform.python_version()},
        "machine": {"processor": processor(), "cores": usable_cores()},
        "data": config.data,
        "split": config.split,
        "pictures": len(samples),
        "seeds": list(range(config.seeds)),
        "unavailable_metrics": unavailable() | _not_asked_for(config),
    }


def _not_asked_for(config: EvaluateConfig) -> dict[str, str]:
    return {} if config.fidelity else {"sfs": "not asked for (--sfs)"}
