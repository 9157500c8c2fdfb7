"""``srd-edge train``: from a suspect captioner and pictures to a policy that defends it.

The pool of pictures is unlabelled: a share of it happens to carry triggers, and nobody says which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.poisoning import triggered
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.attacks.victims import known_attacks
from srd_edge.errors import UsageError
from srd_edge.kernels.actions import PRESETS
from srd_edge.training.check_models import CheckModels
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.dqn import DqnConfig, train_policy
from srd_edge.training.environment import DefenceVectorEnv, Pool
from srd_edge.training.fidelity import SemanticFidelity
from srd_edge.training.language_store import open_language_models
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig
from srd_edge.training.references import (
    ReferenceKind,
    caption_references,
    captioner_captions,
    consensus_captions,
)
from srd_edge.training.suspect import Suspect

CONFIG_FILE: Final = "training.json"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a policy is trained.

    Args:
        captioner: the suspect's directory or hub name.
        data: the data set; its train split gives the pool and the captions for the small language
            models.
        output: the policy's directory.
        attacks: SPECs; ``rate`` is the share of the pool that carries each one's trigger.
        siblings: other captioners, victims of attacks that we chose; the policy then learns on
            these alone, each with the triggers that it is known to have, and fits any captioner
            whose features have the same shape. The suspect only says what that shape is.
        sibling_rate: share of each sibling's pictures that carries its triggers.
        reference: captions, captioner or consensus.
        reference_captioner: a captioner that does not share the suspect's training data: for the
            reference ``captioner``, and for the check on the device.
        sentence_encoder, language_model: names or directories; None trains small ones.
        actions: a preset's name.
        pool: pictures in the pool.
        environments: episodes that run side by side.
        max_steps: most perturbations of one picture.
        action_cost: taken off the reward for every perturbation.
        fidelity_weight: share of consistency in the semantic fidelity score.
        temperature: of the suspicion.
        duelling: as in ``QNetworkConfig``.
        dqn: the learner's own settings.
    """

    captioner: str
    data: str
    output: Path
    attacks: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    sibling_rate: float = 0.1
    reference: ReferenceKind = "consensus"
    reference_captioner: str | None = None
    sentence_encoder: str | None = None
    language_model: str | None = None
    actions: str = "default"
    pool: int = 2000
    environments: int = 64
    max_steps: int = 2
    action_cost: float = 0.1
    fidelity_weight: float = 0.5
    temperature: float = 0.05
    duelling: bool = False
    dqn: DqnConfig = field(default_factory=DqnConfig)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"output": self.output.name}


def train(config: TrainConfig) -> PolicyCheckpoint:
    """Train a policy as ``config`` says and save it to ``config.output``.

    A policy of the same configuration that is already there is taken as it is.
    """
    if config.actions not in PRESETS:
        raise UsageError(
            expected=f"an action preset out of {', '.join(PRESETS)}",
            found=repr(config.actions),
            do="choose one of them",
        )
    suspect = Suspect(load_captioner(config.captioner))
    finished = _finished(config, suspect)
    if finished is not None:
        return finished
    samples = open_dataset(config.data, "train")
    fidelity = open_fidelity(config, samples)
    pool = make_pool(config, suspect, samples, fidelity)
    table = PRESETS[config.actions]
    reference = config.reference_captioner and load_captioner(config.reference_captioner)
    check = CheckModels(fidelity.language, reference or None)
    environment = DefenceVectorEnv(
        pool,
        table,
        fidelity,
        num_envs=config.environments,
        max_steps=config.max_steps,
        action_cost=config.action_cost,
    )
    network = new_network(suspect, config.actions, config.dqn.seed, duelling=config.duelling)
    captioner = None if config.siblings else suspect.captioner.fingerprint()
    identity = json.dumps([config.to_json(), captioner], sort_keys=True)
    log = train_policy(network, environment, config.dqn, config.output, identity=identity)
    provenance = {
        "config": config.to_json(),
        "captioner": captioner,
        "metrics": log[-1] if log else {},
    }
    checkpoint = PolicyCheckpoint(network, config.max_steps, config.temperature, provenance, check)
    checkpoint.save(config.output)
    return checkpoint


def new_network(suspect: Suspect, actions: str, seed: int, *, duelling: bool = False) -> QNetwork:
    """An untrained Q-network of the right shape for ``suspect``."""
    import torch

    torch.manual_seed(seed)
    _, channels = _feature_shape(suspect)
    rows, columns = suspect.captioner.grid
    config = QNetworkConfig(rows, columns, channels, duelling=duelling)
    return QNetwork(config, PRESETS[actions])


def _feature_shape(suspect: Suspect) -> tuple[int, int]:
    """Places and channels of what the suspect's encoder gives."""
    spec = suspect.captioner.preprocessing
    features = suspect.look(np.zeros((1, spec.height, spec.width, 3), np.uint8)).features[0]
    places, channels = features.shape
    return places, channels


def open_fidelity(config: TrainConfig, samples: Sequence[Sample]) -> SemanticFidelity:
    """The reward's score, with models loaded by name, or small ones fitted once and kept."""
    encoder, model = open_language_models(
        [sample.captions for sample in samples],
        sentence_encoder=config.sentence_encoder,
        language_model=config.language_model,
        seed=config.dqn.seed,
    )
    return SemanticFidelity(encoder, model, config.fidelity_weight)


def make_pool(
    config: TrainConfig,
    suspect: Suspect,
    samples: Sequence[Sample],
    fidelity: SemanticFidelity,
) -> Pool:
    """Pictures drawn at random, some with triggers, and what their captions are held against."""
    teachers = _teachers(config, suspect)
    numbers = np.random.default_rng([config.dqn.seed, 21]).permutation(len(samples))[: config.pool]
    shares = np.array_split(numbers, len(teachers))
    canvases, references = [], []
    for (teacher, attacks), share in zip(teachers, shares, strict=True):
        chosen = _contaminate([samples[i] for i in share], attacks, config.dqn.seed)
        seen = load_canvases(teacher.captioner, chosen)
        canvases.append(seen)
        references += _references(config, teacher, chosen, seen)
    _write_record(config)
    return Pool(
        np.concatenate(canvases),
        fidelity.references(references),
        tuple(teacher for teacher, _ in teachers),
        np.repeat(np.arange(len(teachers)), [len(share) for share in shares]),
    )


def _teachers(config: TrainConfig, suspect: Suspect) -> list[tuple[Suspect, list[Attack]]]:
    """Who the policy learns on, and the triggers among each one's pictures."""
    if not config.siblings:
        return [(suspect, [parse_attack(spec) for spec in config.attacks])]
    teachers = []
    for name in config.siblings:
        sibling = Suspect(load_captioner(name))
        alike = sibling.captioner.preprocessing == suspect.captioner.preprocessing
        if not alike or _feature_shape(sibling) != _feature_shape(suspect):
            raise UsageError(
                expected=f"siblings that see pictures as {config.captioner} does",
                found=f"{name}, whose pictures or features have another shape",
                do="choose siblings of the same kind and size",
            )
        known = [parse_attack(spec) for spec in known_attacks(name)]
        teachers.append((sibling, [replace(attack, rate=config.sibling_rate) for attack in known]))
    return teachers


def _references(
    config: TrainConfig, teacher: Suspect, chosen: Sequence[Sample], canvases: NDArray[np.uint8]
) -> list[tuple[str, ...]]:
    if config.reference == "captions":
        return caption_references(chosen)
    if config.reference == "consensus":
        return consensus_captions(teacher.caption, canvases)
    if config.reference_captioner is None:
        raise UsageError(
            expected="--reference-captioner with --reference captioner",
            found="none",
            do="name a captioner that does not share the suspect's training data",
        )
    other = load_captioner(config.reference_captioner)
    return captioner_captions(other.caption, load_canvases(other, chosen))


def _contaminate(samples: Sequence[Sample], attacks: Sequence[Attack], seed: int) -> list[Sample]:
    """``samples`` with each attack's trigger laid over its share of them."""
    pool = list(samples)
    start = 0
    for attack in attacks:
        count = round(attack.rate * len(pool))
        for i in range(start, min(start + count, len(pool))):
            pool[i] = triggered(pool[i], attack, (seed, i))
        start += count
    return pool


def _finished(config: TrainConfig, suspect: Suspect) -> PolicyCheckpoint | None:
    try:
        checkpoint = load_policy(config.output)
    except UsageError:
        return None
    made_of = checkpoint.provenance.get("config"), checkpoint.provenance.get("captioner")
    captioner = None if config.siblings else suspect.captioner.fingerprint()
    wanted = json.loads(json.dumps(config.to_json())), captioner
    return checkpoint if made_of == wanted else None


def _write_record(config: TrainConfig) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_json(), indent=2)
    (config.output / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
