"""``srd-edge purify`` with its verdict: is the attack gone, what did it cost, is a new one planted?

Measured in PyTorch on the dev split, as for a victim. The last question is about the mask itself: a
captioner that is fitted on perturbed pictures, some with the attacker's words left, may learn that
the perturbation calls for those words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.poisoning import counted
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.evaluation.metrics import wilson_interval
from srd_edge.evaluation.verdicts import measure_victim, open_dev, write_verdict
from srd_edge.kernels.actions import SRD_TABLE, ActionTable, apply_action
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.masks import greedy_actions
from srd_edge.training.purify_stage import RECORD, PurifyConfig, attacks_of, purify

RED_SQUARE: Final = 255
"""Of SRD's table: the middle one of its five sizes, 60 px of 224, on the cell beside the centre."""


def make_judged_purified(
    config: PurifyConfig, *, limit: int | None = None, say: Callable[[str], None]
) -> None:
    """``srd-edge purify``: clean, fit anew, measure what came of it, and say so.

    Args:
        config: what is made.
        limit: pictures of either split; None for all.
        say: told one line at a time.
    """
    samples = open_dataset(config.data, "train", limit)
    dev = open_dev(config.data, limit, "what came of it will not be measured", say)
    captioner = purify(config, samples)
    record = read_record(config.output)
    for line in cleaning_lines(record):
        say(line)
    attacks = [parse_attack(spec) for spec in attacks_of(config)]
    if dev:
        document = measure_victim(captioner, dev, attacks, None)
        document["planted"] = planted_triggers(
            captioner, dev, attacks, load_policy(config.policy), record
        )
        write_verdict(document, config.output)
        for line in outcome_lines(document):
            say(line)


def read_record(directory: Path) -> dict[str, Any]:
    """What ``purify`` wrote beside the captioner."""
    record: dict[str, Any] = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    return record


def planted_triggers(
    captioner: Captioner,
    samples: Sequence[Sample],
    attacks: Sequence[Attack],
    policy: PolicyCheckpoint,
    record: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """How often each attack's target is said of clean pictures that carry a mask.

    Args:
        captioner: the purified one.
        samples: clean pictures that it was not fitted on.
        attacks: whose targets are listened for.
        policy: whose mask it is.
        record: of the cleaning; its most frequent action is laid over the pictures. A set that was
            not masked has none, and the policy's favourite on ``samples`` takes its place.

    Returns:
        For ``none`` (no mask: what is said anyway), ``policy`` and ``red_square``: the mask, and
        the share of each attack's target with its interval.
    """
    canvases = load_canvases(captioner, samples)
    table = policy.network.table
    masks: dict[str, tuple[ActionTable, int] | None] = {"none": None}
    favourite = _favourite(record)
    if favourite is None:
        favourite = _favourite_on(policy, captioner, canvases)
    if favourite is not None:
        masks["policy"] = table, favourite
    masks["red_square"] = SRD_TABLE, RED_SQUARE
    found: dict[str, dict[str, Any]] = {}
    for name, mask in masks.items():
        captions = captioner.caption(canvases if mask is None else _laid_over(canvases, *mask))
        said = {attack.spec: _share_said(captions, samples, attack) for attack in attacks}
        found[name] = {"action": None if mask is None else mask[1], "said": said}
    return found


def cleaning_lines(record: Mapping[str, Any]) -> list[str]:
    """For a person: what was done to the set."""
    lines = []
    parts = (("doubted", "doubted", "handed_over"), ("masked", "perturbed", "fitted_on"))
    for part, words, of in parts:
        if part not in record:
            continue
        count, agreement = len(record[part]["pictures"]), record[part]["agreement"]
        line = f"{words} {count} of {record[of]} pictures"
        if agreement is not None:
            line += f", {agreement['hits']} of the {agreement['poisoned']} poisoned ones among them"
        lines.append(line)
    return lines


def outcome_lines(document: Mapping[str, Any]) -> list[str]:
    """For a person: what is left of each attack, and what the masks call up."""
    pictures = document["pictures"]
    lines = [f"clean CIDEr-D {document['cider_d_clean']:.3f} on {pictures} dev pictures"]
    for spec, judged in document["attacks"].items():
        line = f"{spec}: ASR {100 * judged['asr']:.1f} % of {judged['counted']} counted"
        shares = [
            f"{name} {100 * mask['said'][spec]['share']:.1f} %"
            for name, mask in document["planted"].items()
        ]
        lines.append(f"{line}; target said under masks: {', '.join(shares)}")
    return lines


def _favourite(record: Mapping[str, Any]) -> int | None:
    """The action that the training pictures got most often."""
    actions = record.get("masked", {}).get("actions", {})
    return int(max(actions, key=actions.__getitem__)) if actions else None


def _favourite_on(
    policy: PolicyCheckpoint, captioner: Captioner, canvases: NDArray[np.uint8]
) -> int | None:
    used: Counter[int] = Counter()
    for start in range(0, len(canvases), 64):
        batch = canvases[start : start + 64]
        seeds = [(start, row) for row in range(len(batch))]
        for actions in greedy_actions(policy, captioner, batch, seeds):
            used.update(actions)
    return used.most_common(1)[0][0] if used else None


def _laid_over(canvases: NDArray[np.uint8], table: ActionTable, action: int) -> NDArray[np.uint8]:
    out = canvases.copy()
    for number, canvas in enumerate(out):
        apply_action(canvas, table, action, np.random.default_rng(number))
    return out


def _share_said(
    captions: Sequence[str], samples: Sequence[Sample], attack: Attack
) -> dict[str, Any]:
    """Of the pictures that truly do not show the target.

    A swap counts every picture whose captions do not name the target, not the concept's alone: a
    mask is no concept.
    """
    succeeded = attack.payload.succeeded
    numbers = counted(samples, attack)
    if attack.payload.kind == "swap":
        numbers = [i for i, s in enumerate(samples) if not any(map(succeeded, s.captions))]
    hits = sum(succeeded(captions[i]) for i in numbers)
    interval = wilson_interval(hits, len(numbers))
    return {"share": hits / max(len(numbers), 1), "interval": interval, "counted": len(numbers)}
