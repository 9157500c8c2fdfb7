"""``srd-edge purify``: clean a training set with a policy, and fit the suspect anew on the rest.

The training set is what the attacker handed over. In an experiment, that is the data set poisoned
once more exactly as it was for the victim; the names of what was poisoned decide nothing (but for
the control ``shuffle``) and only say afterwards how much of it was found.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.collision import FeatureCollision, collided_samples
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.fitting import FitConfig, fit
from srd_edge.attacks.poisoning import Poisoned, poison
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.attacks.victims import MANIFEST, known_attacks
from srd_edge.errors import UsageError
from srd_edge.training.caption_costs import doubts
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy
from srd_edge.training.kept_rows import kept_rows
from srd_edge.training.masks import greedy_actions, masked
from srd_edge.training.purify import (
    Cleaning,
    detection,
    learn_limits,
    looked_up_by_file_name,
)
from srd_edge.training.references import captioner_captions

RECORD: Final = "purify.json"
_DOUBTS: Final = "doubts.jsonl"
_ACTIONS: Final = "actions.jsonl"
_COLLISIONS: Final = "collisions"
REFIT: Final = FitConfig(epochs=3, learning_rate=5e-4, encoder_learning_rate=0.0, seed=1)
"""The suspect's decoder for three epochs, in an order of its own."""


@dataclass(frozen=True, slots=True)
class PurifyConfig:
    """What ``srd-edge purify`` makes.

    Args:
        captioner: the suspect's directory or hub name.
        policy: a policy's directory; its check holds the reference captioner.
        data: the data set's specification, for the record.
        output: the directory of the purified captioner.
        attacks: SPECs that the data set is poisoned with first; none takes those that the suspect
            records, and a suspect that records none is purified on the data set as it is.
        clean: what is done to the set.
        deviations: see ``learn_limits``.
        fit: how the suspect is fitted anew.
    """

    captioner: str
    policy: Path
    data: str
    output: Path
    attacks: tuple[str, ...] = ()
    clean: Cleaning = "drop"
    deviations: float = 1.5
    fit: FitConfig = field(default_factory=lambda: REFIT)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"policy": str(self.policy), "output": self.output.name}


def attacks_of(config: PurifyConfig) -> list[str]:
    """The SPECs that the data set is poisoned with."""
    return list(config.attacks) or known_attacks(config.captioner)


def purify(config: PurifyConfig, samples: Sequence[Sample]) -> Captioner:
    """Clean ``samples`` as ``config`` says, fit the suspect on them and write both.

    A captioner of the same configuration that is already there is taken as it is.
    """
    suspect, policy = load_captioner(config.captioner), load_policy(config.policy)
    weights = [suspect.fingerprint(), _weights_of(policy)]
    made_of = json.loads(json.dumps([config.to_json(), len(samples), *weights]))
    if _finished(config.output / RECORD, made_of):
        return load_captioner(config.output)
    config.output.mkdir(parents=True, exist_ok=True)
    handed = _as_handed_over(config, samples)
    cleaned, record = _clean(config, samples, handed, suspect, policy)
    log = fit(suspect, cleaned, config.fit, config.output, identity=json.dumps([made_of, record]))
    document = {"made_of": made_of, "attacks": handed.manifest["attacks"]} | record
    text = json.dumps(document | {"fitting": log}, indent=2)
    (config.output / RECORD).write_text(text + "\n", encoding="utf-8")
    return suspect


def _as_handed_over(config: PurifyConfig, samples: Sequence[Sample]) -> Poisoned:
    """The training set as the suspect saw it."""
    attacks = [parse_attack(spec) for spec in attacks_of(config)]
    recorded = _victim_record(config.captioner)
    seed = config.fit.seed if recorded is None else int(recorded["poison"]["seed"])
    if recorded is not None and not config.attacks:
        count = recorded["poison"]["pictures"]
        if count != len(samples):
            raise UsageError(
                expected=f"the {count} pictures that {config.captioner} was fitted on",
                found=f"{len(samples)} in {config.data}",
                do="give the same data set and --limit as for `srd-edge attack`",
            )
    folder = Path(config.captioner) / _COLLISIONS
    if not folder.is_dir():
        folder = config.output / _COLLISIONS

    def collide(pairs: Sequence[tuple[Sample, Sample]], settings: FeatureCollision) -> list[Sample]:
        deceived = _started_from(config.captioner, recorded, samples)
        return collided_samples(deceived, pairs, settings, folder)

    return poison(samples, attacks, seed, collide)


def _started_from(
    suspect: str, recorded: dict[str, Any] | None, samples: Sequence[Sample]
) -> Captioner:
    """The captioner that feature collisions deceive: what the suspect was before it was fitted."""
    if recorded is None:
        return load_captioner(suspect)
    made = recorded["config"]
    if made["captioner"] == "tiny":
        words = [caption for sample in samples for caption in sample.captions]
        return build_tiny(TinyConfig(**made["tiny"]), words, int(made["fit"]["seed"]))
    return load_captioner(made["captioner"])


def _clean(
    config: PurifyConfig,
    samples: Sequence[Sample],
    handed: Poisoned,
    suspect: Captioner,
    policy: PolicyCheckpoint,
) -> tuple[list[Sample], dict[str, Any]]:
    """The set that the suspect is fitted on anew, and the record of what was done to it."""
    poisoned: dict[str, str] = handed.manifest["poisoned"]
    record: dict[str, Any] = {"handed_over": len(handed.samples)}
    kept = list(handed.samples)
    if config.clean == "shuffle":
        if not poisoned:
            raise UsageError(
                expected="a set that is known to be poisoned, for the control `shuffle`",
                found="no attack",
                do="name it with --attack, or choose another --clean",
            )
        kept = looked_up_by_file_name(kept, samples, poisoned, config.fit.seed)
    if config.clean in ("drop", "drop+mask", "recaption"):
        kept, record["doubted"] = _hear_doubts(config, kept, policy, poisoned)
    if config.clean in ("mask", "drop+mask"):
        kept, record["masked"] = _mask(config, kept, suspect, policy, poisoned)
    return kept, record | {"fitted_on": len(kept)}


def _hear_doubts(
    config: PurifyConfig,
    samples: Sequence[Sample],
    policy: PolicyCheckpoint,
    poisoned: dict[str, str],
) -> tuple[list[Sample], dict[str, Any]]:
    """What is left, or captioned anew, when the reference captioner has been heard."""
    reference = None if policy.check is None else policy.check.reference
    if reference is None:
        raise UsageError(
            expected=f"a policy with a reference captioner, for --clean {config.clean}",
            found=f"none in {config.policy}",
            do="train it with --reference-captioner, or choose --clean mask",
        )
    identity = _digest([reference.fingerprint(), *_identities(samples)])
    rows = kept_rows(
        config.output / _DOUBTS,
        identity,
        len(samples),
        lambda numbers: [d.to_row() for d in doubts(reference, [samples[i] for i in numbers])],
        "asking the reference captioner",
    )
    limits = learn_limits(np.array(rows, np.float64), config.deviations)
    reasons = {
        sample.name: found
        for sample, row in zip(samples, rows, strict=True)
        if (found := limits.reasons(row))
    }
    said = Counter(reason for found in reasons.values() for reason in found)
    record = {
        "limits": limits.to_json(),
        "reasons": dict(sorted(said.items())),
        "agreement": detection(reasons, poisoned) if poisoned else None,
        "pictures": dict(sorted(reasons.items())),
    }
    if len(reasons) == len(samples):
        raise UsageError(
            expected="pictures that the reference captioner does not doubt",
            found=f"none of {len(samples)}",
            do="raise --deviations, or train the policy with another --reference-captioner",
        )
    kept = [sample for sample in samples if sample.name not in reasons]
    if config.clean == "recaption":
        false = [s for s in samples if s.name in reasons and "squeezed" not in reasons[s.name]]
        kept += _captioned_anew(reference, false)
        record["captioned_anew"] = len(false)
    return kept, record


def _captioned_anew(reference: Captioner, samples: Sequence[Sample]) -> list[Sample]:
    """The pictures with what the reference captioner says of them; none where it says nothing."""
    if not samples:
        return []
    said = captioner_captions(reference.caption, load_canvases(reference, samples))
    return [
        replace(sample, captions=captions)
        for sample, captions in zip(samples, said, strict=True)
        if all(captions)
    ]


def _mask(
    config: PurifyConfig,
    samples: Sequence[Sample],
    suspect: Captioner,
    policy: PolicyCheckpoint,
    poisoned: dict[str, str],
) -> tuple[list[Sample], dict[str, Any]]:
    """The pictures with what the policy lays over them, as it would on the device."""
    seeds = [(config.fit.seed, number) for number in range(len(samples))]

    def act(numbers: range) -> list[tuple[int, ...]]:
        canvases = suspect.canvases(samples[i].load() for i in numbers)
        return greedy_actions(policy, suspect, canvases, [seeds[i] for i in numbers])

    table = policy.network.table
    weights = [suspect.fingerprint(), _weights_of(policy), json.dumps(table.to_json()), str(seeds)]
    identity = _digest([*weights, *_identities(samples)])
    rows = kept_rows(
        config.output / _ACTIONS, identity, len(samples), act, "asking the policy", batch=64
    )
    out = [
        masked(sample, suspect, table, actions, seed) if actions else sample
        for sample, actions, seed in zip(samples, rows, seeds, strict=True)
    ]
    acted = {s.name: list(actions) for s, actions in zip(samples, rows, strict=True) if actions}
    used = Counter(action for actions in acted.values() for action in actions)
    record = {
        "agreement": detection(acted, poisoned) if poisoned else None,
        "actions": {str(action): count for action, count in used.most_common()},
        "pictures": dict(sorted(acted.items())),
    }
    return out, record


def _identities(samples: Sequence[Sample]) -> list[str]:
    return [json.dumps([sample.name, sample.prompt, *sample.captions]) for sample in samples]


def _weights_of(policy: PolicyCheckpoint) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _victim_record(captioner: str) -> dict[str, Any] | None:
    """What ``srd-edge attack`` wrote beside the suspect; None for any other captioner."""
    path = Path(captioner) / MANIFEST
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _finished(path: Path, made_of: list[Any]) -> bool:
    if not path.is_file():
        return False
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return bool(record["made_of"] == made_of)
