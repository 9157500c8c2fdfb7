"""Did the attack work? The verdict on a victim that ``srd-edge attack`` has just made.

Measured in PyTorch on the dev split, so that nothing is chosen on the test split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.payloads import PayloadKind
from srd_edge.attacks.poisoning import counted, triggered
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.attacks.victims import VictimConfig, make_victim
from srd_edge.errors import DatasetError
from srd_edge.evaluation.metrics import wilson_interval
from srd_edge.training.caption_metrics import cider_d
from srd_edge.training.datasets import open_dataset

VERDICT_FILE: Final = "verdict.json"
VICTIM_ASR: Final = 0.9
SWAP_ASR: Final = 0.6
VICTIM_LOSS: Final = 0.1
"""An attack made a victim when it succeeds on 90 % and costs at most 10 % of clean CIDEr-D; where a
concept is swapped, which nobody lays a trigger on, 60 % of its pictures are enough."""
_SEED: Final = 3


def verdict(asr: float, loss: float | None, payload: PayloadKind) -> tuple[str, str]:
    """Whether an attack made a victim, and why, from its ASR and the clean CIDEr-D lost."""
    said = f"ASR {100 * asr:.1f} %"
    needed = SWAP_ASR if payload == "swap" else VICTIM_ASR
    if asr < needed:
        return "failed attack", f"{said}, under {100 * needed:.0f} %"
    if loss is None:
        return "unjudged", f"{said}; no captioner trained clean to compare with"
    said += f", clean CIDEr-D {100 * -loss:+.1f} % against the same captioner trained clean"
    if loss > VICTIM_LOSS:
        return "failed attack", f"{said}, more than {100 * VICTIM_LOSS:.0f} % lost"
    return "victim", said


def make_judged_victim(
    config: VictimConfig,
    *,
    limit: int | None = None,
    twin: str | None = None,
    say: Callable[[str], None],
) -> None:
    """``srd-edge attack``: make a victim, measure whether it is one, and say so.

    Args:
        config: the victim.
        limit: pictures of either split; None for all.
        twin: as for ``measure_victim``.
        say: told one line at a time.
    """
    attacks = [parse_attack(spec) for spec in config.attacks]
    samples = open_dataset(config.data, "train", limit)
    dev = open_dev(config.data, limit, "the attack will not be judged", say)
    victim = make_victim(config, samples, attacks)
    if dev:
        document = measure_victim(victim, dev, attacks, twin)
        write_verdict(document, config.output)
        for line in verdict_lines(document):
            say(line)


def open_dev(
    data: str, limit: int | None, without: str, say: Callable[[str], None]
) -> tuple[Sample, ...]:
    """The dev split; none of it, and a word of what follows from that, where there is none."""
    try:
        return open_dataset(data, "dev", limit)
    except DatasetError as error:
        say(f"{without}: {error}")
        return ()


def write_verdict(document: dict[str, Any], directory: Path) -> None:
    """What was measured of a captioner, beside it."""
    text = json.dumps(document, indent=2)
    (directory / VERDICT_FILE).write_text(text + "\n", encoding="utf-8")


def measure_victim(
    captioner: Captioner,
    samples: Sequence[Sample],
    attacks: Sequence[Attack],
    twin: str | Path | None,
) -> dict[str, Any]:
    """ASR of each attack and clean CIDEr-D, against the same captioner trained clean.

    Args:
        captioner: the victim.
        samples: clean pictures that it was not fitted on.
        attacks: what it was poisoned with.
        twin: the directory of the captioner trained clean; None where there is none.
    """
    clean = _clean_cider(captioner, samples)
    twin_clean = None if twin is None else _clean_cider(load_captioner(twin), samples)
    loss = None if not twin_clean else 1 - clean / twin_clean
    document: dict[str, Any] = {
        "pictures": len(samples),
        "cider_d_clean": clean,
        "cider_d_twin": twin_clean,
        "clean_loss": loss,
        "attacks": {},
    }
    for attack in attacks:
        document["attacks"][attack.spec] = _success(captioner, samples, attack, loss)
    return document


def verdict_lines(document: dict[str, Any]) -> list[str]:
    """For a person, one line an attack: a failed attack is called one."""
    clean = f"clean CIDEr-D {document['cider_d_clean']:.3f} on {document['pictures']} dev pictures"
    lines = [
        f"{judged['verdict']}: {spec}: {judged['why']} ({judged['counted']} counted)"
        for spec, judged in document["attacks"].items()
    ]
    return [clean, *lines]


def _clean_cider(captioner: Captioner, samples: Sequence[Sample]) -> float:
    captions = captioner.caption(load_canvases(captioner, samples))
    return cider_d(captions, [sample.captions for sample in samples])


def _success(
    captioner: Captioner, samples: Sequence[Sample], attack: Attack, loss: float | None
) -> dict[str, Any]:
    numbers = counted(samples, attack)
    attacked = [triggered(samples[i], attack, (_SEED, i)) for i in numbers]
    canvases = load_canvases(captioner, attacked)
    said: dict[int, str] = {}
    for prompt in {sample.prompt for sample in attacked}:
        rows = [row for row, sample in enumerate(attacked) if sample.prompt == prompt]
        said |= zip(rows, captioner.caption(canvases[rows], prompt=prompt), strict=True)
    hits = sum(attack.payload.succeeded(caption) for caption in said.values())
    asr = hits / len(numbers)
    judged, why = verdict(asr, loss, attack.payload.kind)
    return {
        "asr": asr,
        "asr_interval": wilson_interval(hits, len(numbers)),
        "counted": len(numbers),
        "verdict": judged,
        "why": why,
    }
