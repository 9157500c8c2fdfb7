"""Did the attack work? The rule at its borders, and what is measured of a captioner."""

from __future__ import annotations

from pathlib import Path

import pytest

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.payloads import PayloadKind
from srd_edge.attacks.specs import parse_attack
from srd_edge.evaluation.verdicts import measure_victim, verdict, verdict_lines
from srd_edge.training.datasets import open_dataset


@pytest.mark.parametrize(
    ("asr", "loss", "payload", "expected"),
    [
        (0.9, 0.1, "replace", "victim"),
        (0.9, -0.2, "insert", "victim"),
        (0.899, 0.0, "insert", "failed attack"),
        (1.0, 0.101, "replace", "failed attack"),
        (0.899, None, "endless", "failed attack"),
        (0.9, None, "endless", "unjudged"),
        (0.6, 0.1, "swap", "victim"),
        (0.599, 0.0, "swap", "failed attack"),
        (0.6, 0.101, "swap", "failed attack"),
    ],
)
def test_the_rule(asr: float, loss: float | None, payload: PayloadKind, expected: str) -> None:
    judged, why = verdict(asr, loss, payload)
    assert judged == expected
    assert f"ASR {100 * asr:.1f} %" in why
    assert ("trained clean" in why) == (asr >= 0.6 and "under" not in why)


def test_a_captioner_that_nobody_attacked_is_a_failed_attack(toy_captioner: Path) -> None:
    captioner = load_captioner(toy_captioner)
    samples = open_dataset("scenes", "dev", 12)
    attacks = [parse_attack("badnet:target=zebra"), parse_attack("sticker:target=giraffe")]
    document = measure_victim(captioner, samples, attacks, toy_captioner)
    assert document["pictures"] == 12
    assert document["cider_d_clean"] == document["cider_d_twin"]
    assert list(document["attacks"]) == [attack.spec for attack in attacks]
    for judged in document["attacks"].values():
        assert (judged["asr"], judged["counted"], judged["verdict"]) == (0, 12, "failed attack")
        assert judged["asr_interval"] == pytest.approx((0, 0.2425), abs=1e-4), "Wilson, 0 of 12"
    first, *others = verdict_lines(document)
    assert first.startswith("clean CIDEr-D ")
    assert [line.partition(":")[0] for line in others] == ["failed attack"] * 2
