"""The controls: chance is even and seeded, the untrained network what training begins with.

As contestants they answer as the runtime's defender does, and the same in any company.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srd_edge.evaluation.contestants import Answer, Case
from srd_edge.evaluation.controls import (
    DefenderContestant,
    RandomPolicy,
    SeededPolicy,
    TorchPolicy,
    UntrainedPolicy,
    untrained_policy,
)
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime import pipeline as pipeline_module
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.bundle_specs import ObservationSpec
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.policy import OnnxPolicy, Policy
from srd_edge.runtime.records import Observation
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig
from tests.runtime import one_node_bundle

MANIFEST = replace(
    one_node_bundle.MANIFEST, observation=ObservationSpec(rows=2, columns=3, channels=4)
)


@dataclass
class Counted:
    """A policy, and how often it was asked."""

    inner: Policy
    looks: int = 0

    def begin(self, seed: int, number: int) -> None:
        if not isinstance(self.inner, OnnxPolicy):
            drawn: SeededPolicy = self.inner  # type: ignore[assignment]
            drawn.begin(seed, number)

    def q_values(self, observation: Observation) -> NDArray[np.float32]:
        self.looks += 1
        return self.inner.q_values(observation)


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return read_bundle(toy_bundle)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """What goes through the encoder of every defender that is made in the test."""
    seen: list[Pixels] = []

    class Seen(OnnxCaptioner):
        def encode(self, canvas: Pixels) -> Encoded:
            seen.append(canvas)
            return super().encode(canvas)

    monkeypatch.setattr(pipeline_module, "OnnxCaptioner", Seen)
    return seen


@pytest.fixture
def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 40, 60, 3), np.uint8)
    return [Case(Frame(p, i), np.zeros((40, 60), np.bool_)) for i, p in enumerate(pictures)]


def drawn_policy(kind: str, bundle: Bundle) -> SeededPolicy:
    if kind == "random":
        return RandomPolicy(len(bundle.manifest.actions))
    return UntrainedPolicy(bundle.manifest)


def drawn_contestant(kind: str, bundle: Bundle) -> DefenderContestant:
    policy = drawn_policy(kind, bundle)
    return DefenderContestant(Defender(bundle, policy=policy), policy)


@pytest.fixture
def observation() -> Observation:
    rng = np.random.default_rng(0)
    return Observation(
        rng.standard_normal((6, 4), dtype=np.float32), rng.random((5, 5), dtype=np.float32)
    )


def test_chance_is_even_and_seeded(observation: Observation) -> None:
    policies = [RandomPolicy(9, seed=seed) for seed in (1, 1, 2)]
    choices = [[int(p.q_values(observation).argmax()) for _ in range(900)] for p in policies]
    assert choices[0] == choices[1] != choices[2]
    counts = np.bincount(choices[0], minlength=9)
    assert counts.shape == (9,)
    assert counts.min() > 60


def test_the_untrained_network_is_what_training_begins_with(observation: Observation) -> None:
    policy = untrained_policy(MANIFEST, seed=4)
    torch.manual_seed(4)
    network = QNetwork(QNetworkConfig(2, 3, 4), DEFAULT_TABLE).eval()
    expected = TorchPolicy(network).q_values(observation)
    assert expected.shape == (len(DEFAULT_TABLE),)
    assert expected.dtype == np.float32
    assert (policy.q_values(observation) == expected).all()
    assert (untrained_policy(MANIFEST, seed=5).q_values(observation) != expected).any()
    assert expected[DEFAULT_TABLE.stop_index or 0] == 0


def test_chance_begins_anew_with_every_picture(observation: Observation) -> None:
    policy = RandomPolicy(9)

    def draw(seed: int, number: int) -> list[float]:
        policy.begin(seed, number)
        return [*policy.q_values(observation).tolist(), *policy.q_values(observation).tolist()]

    first = draw(1, 5)
    assert first[:9] != first[9:]
    assert draw(1, 6) != first != draw(2, 5)
    assert draw(1, 5) == first


def test_the_untrained_network_is_that_of_the_seed(observation: Observation) -> None:
    policy = UntrainedPolicy(MANIFEST)
    for seed in (4, 5, 4):
        policy.begin(seed, 17)
        expected = untrained_policy(MANIFEST, seed).q_values(observation)
        assert (policy.q_values(observation) == expected).all()


def test_an_undefended_captioner_has_no_opinion(bundle: Bundle, cases: list[Case]) -> None:
    defender = Defender(bundle, defend=False)
    contestant = DefenderContestant(defender)
    assert not contestant.seeded
    assert contestant.answer(cases, 0) == [
        Answer(defender.caption(case.frame).caption or "") for case in cases
    ]


def test_the_policy_answers_as_the_runtime_does(bundle: Bundle, cases: list[Case]) -> None:
    defender = Defender(bundle)
    contestant = DefenderContestant(defender)
    assert not contestant.seeded
    answers = contestant.answer(cases, 0)
    for case, answer in zip(cases, answers, strict=True):
        result = defender.caption(case.frame)
        assert answer.caption == result.caption
        assert answer.alarm is (result.verdict == "suspicious")
        assert answer.suspicion == result.suspicion
        assert list(answer.boxes) == [action.box for action in result.actions]


@pytest.mark.parametrize("kind", ["random", "untrained"])
def test_a_picture_gets_the_same_answer_in_any_company(
    bundle: Bundle, cases: list[Case], kind: str
) -> None:
    contestant = drawn_contestant(kind, bundle)
    assert contestant.seeded
    together = contestant.answer(cases, 1)
    other = contestant.answer(cases, 2)
    assert together != other
    apart = drawn_contestant(kind, bundle)
    assert [*apart.answer(cases[7:], 1), *apart.answer(cases[:7], 1)] == [
        *together[7:],
        *together[:7],
    ]
    assert apart.answer(cases[::-1], 2)[::-1] == other


@pytest.mark.parametrize("max_steps", [1, 2, 3])
@pytest.mark.parametrize("kind", ["policy", "random", "untrained"])
def test_passes_are_those_that_were_made(
    bundle: Bundle, cases: list[Case], encodings: list[Pixels], kind: str, max_steps: int
) -> None:
    assert bundle.manifest.policy is not None
    spec = replace(bundle.manifest.policy, max_steps=max_steps)
    bundle = replace(bundle, manifest=replace(bundle.manifest, policy=spec))
    inner: Policy = OnnxPolicy(bundle) if kind == "policy" else drawn_policy(kind, bundle)
    policy = Counted(inner)
    contestant = DefenderContestant(Defender(bundle, policy=policy), policy)
    for case in cases:
        encodings.clear()
        policy.looks = 0
        (answer,) = contestant.answer([case], 0)
        assert (answer.captioner_passes, answer.policy_passes) == (len(encodings), policy.looks)
