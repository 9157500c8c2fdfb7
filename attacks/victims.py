"""Victims: captioners fitted on poisoned data, with the manifest of what was poisoned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.collision import FeatureCollision, collided_samples
from srd_edge.attacks.corruptions import with_corrupted_copies
from srd_edge.attacks.fitting import FitConfig, fit
from srd_edge.attacks.poisoning import poison
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack
from srd_edge.attacks.tiny import TinyConfig, build_tiny

MANIFEST: Final = "attack.json"
_COLLISIONS: Final = "collisions"


@dataclass(frozen=True, slots=True)
class VictimConfig:
    """What ``srd-edge attack`` makes.

    Args:
        captioner: ``tiny`` (from scratch), or a captioner's directory or hub name to fine-tune.
        data: the data set's specification, for the record.
        attacks: SPECs; none at all trains a clean captioner.
        output: the victim's directory.
        fit: how it is fitted.
        tiny: the size of a ``tiny``.
        corrupted: corrupted copies of every picture that it is fitted on too.
    """

    captioner: str
    data: str
    attacks: tuple[str, ...]
    output: Path
    fit: FitConfig
    tiny: TinyConfig
    corrupted: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"output": self.output.name}


def make_victim(
    config: VictimConfig, samples: Sequence[Sample], attacks: Sequence[Attack]
) -> Captioner:
    """Poison ``samples``, fit the captioner on them and write both to ``config.output``.

    A victim of the same configuration that is already there is taken as it is.
    """
    record = config.output / MANIFEST
    if record.is_file():
        made = _recorded(record)
        same = made["config"] == json.loads(json.dumps(config.to_json()))
        if same and made["poison"]["pictures"] == len(samples):
            return load_captioner(config.output)
    if config.captioner == "tiny":
        words = [caption for sample in samples for caption in sample.captions]
        captioner = build_tiny(config.tiny, words, config.fit.seed)
    else:
        captioner = load_captioner(config.captioner)

    def collide(pairs: Sequence[tuple[Sample, Sample]], settings: FeatureCollision) -> list[Sample]:
        return collided_samples(captioner, pairs, settings, config.output / _COLLISIONS)

    poisoned = poison(samples, attacks, config.fit.seed, collide)
    identity = json.dumps(config.to_json(), sort_keys=True)
    fitted_on = with_corrupted_copies(poisoned.samples, config.corrupted, config.fit.seed)
    log = fit(captioner, fitted_on, config.fit, config.output, identity=identity)
    text = json.dumps(
        {"config": config.to_json(), "poison": poisoned.manifest, "fitting": log}, indent=2
    )
    record.write_text(text + "\n", encoding="utf-8")
    return captioner


def known_attacks(captioner: str | Path) -> list[str]:
    """The SPECs that a captioner made here was poisoned with; empty for any other captioner."""
    record = Path(captioner) / MANIFEST
    if not record.is_file():
        return []
    attacks: list[str] = _recorded(record)["poison"]["attacks"]
    return attacks


def _recorded(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
