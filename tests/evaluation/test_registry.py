"""Every contestant by name: each answers, the same in any company, and counts what it costs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.errors import UsageError
from srd_edge.evaluation import registry as registry_module
from srd_edge.evaluation.contestants import (
    Answer,
    BlackBox,
    Case,
    Contestant,
    Setting,
    clean_case,
    triggered_case,
)
from srd_edge.evaluation.fixed import best_fixed
from srd_edge.evaluation.registry import ENTRIES, ENTRY_POINTS, GROUPS, missing, resolve
from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.training.datasets import open_dataset
from srd_edge.training.language import fit_language_model, fit_sentence_encoder

DEFENDERS = ["none", "policy", "policy_alone", "check_alone", "reference", "random", "untrained"]
BLACK_BOXES = [name for name in ENTRIES if name not in DEFENDERS]
OWN = '''
from __future__ import annotations

from dataclasses import dataclass

from srd_edge.evaluation.contestants import Answer


@dataclass(frozen=True)
class Silent:
    """Never says a word.

    And so is never wrong.
    """

    setting: object
    seeded: bool = False

    def answer(self, cases, seed):
        return [Answer("") for _ in cases]


number = 3
'''


@pytest.fixture
def cases(setting: Setting, samples: list[Sample]) -> list[Case]:
    """Clean and triggered pictures, ten of each."""
    return [
        case
        for i, sample in enumerate(samples[::3])
        for case in (clean_case(sample, i), triggered_case(sample, i, setting.attack, 0))
    ]


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return f"{path}:Silent"


def test_the_order_of_the_tables() -> None:
    names = "best_fixed oracle blur jpeg shrink_pad strip onion mask_vote scan srd"
    assert list(ENTRIES) == [*DEFENDERS, *names.split()]
    assert [name for name, entry in ENTRIES.items() if entry.told] == ["best_fixed"]


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_an_answer_does_not_depend_on_the_company(
    setting: Setting, cases: list[Case], name: str
) -> None:
    contestant = ENTRIES[name].build(setting)
    together = contestant.answer(cases, 3)
    assert contestant.answer(cases[:7], 3) + contestant.answer(cases[7:], 3) == together
    assert ENTRIES[name].build(setting).answer(cases[::-1], 3)[::-1] == together
    assert contestant.answer([], 3) == []


@pytest.mark.parametrize("name", BLACK_BOXES)
def test_the_seed_matters_where_it_is_said_to(
    setting: Setting, cases: list[Case], name: str
) -> None:
    entry = ENTRIES[name]
    contestant = entry.build(setting)
    assert contestant.seeded is entry.seeded
    answers = [contestant.answer(cases, seed) for seed in range(3)]
    assert (answers[0] == answers[1] == answers[2]) is not entry.seeded


@pytest.mark.parametrize("name", [name for name in BLACK_BOXES if name != "srd"])
def test_passes_are_those_that_were_made(setting: Setting, cases: list[Case], name: str) -> None:
    """SRD pays for squares that it repeats; test_srd_as_coded.py counts those."""
    shown: list[Pixels] = []

    def caption(canvases: Pixels) -> list[str]:
        shown.extend(canvases)
        return setting.captioner.caption_canvases(canvases)

    counting = BlackBox(caption, setting.captioner.preprocessing)
    contestant = ENTRIES[name].build(replace(setting, captioner=counting))
    for case in cases:
        shown.clear()
        (answer,) = contestant.answer([case], 0)
        assert answer.captioner_passes == len(shown)
        assert answer.policy_passes == 0


@pytest.mark.parametrize("name", ENTRIES)
def test_every_contestant_answers_on_a_real_bundle(
    name: str, real: Setting, real_cases: list[Case]
) -> None:
    entry = ENTRIES[name]
    assert missing(entry, real) is None
    contestant = entry.build(real)
    assert contestant.seeded is entry.seeded
    answers = contestant.answer(real_cases, 1)
    assert len(answers) == len(real_cases)
    for case, answer in zip(real_cases, answers, strict=True):
        assert isinstance(json.dumps(asdict(answer), allow_nan=False), str)
        assert (answer.suspicion is None) is (answer.alarm is None)
        height, width = case.frame.pixels.shape[:2]
        for box in answer.boxes:
            assert box == box.clipped(width, height)


@pytest.fixture(scope="session")
def real(checked_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    bundle = read_bundle(checked_bundle)
    folder = tmp_path_factory.mktemp("language")
    dev = open_dataset("scenes", "dev", 12)
    groups = [sample.captions for sample in dev]
    words = [caption for group in groups for caption in group]
    captioner = OnnxCaptioner(bundle)
    return Setting(
        bundle=bundle,
        captioner=BlackBox(captioner.caption_batch, bundle.manifest.preprocessing),
        dev=dev,
        attack=parse_attack("badnet:target=banana"),
        language=fit_language_model(words, folder / "lm", steps=2),
        sentences=fit_sentence_encoder(groups, folder / "sentences", steps=2),
        reference=captioner.caption_batch,
    )


@pytest.fixture
def real_cases(real: Setting) -> list[Case]:
    samples = open_dataset("scenes", "test", 4)
    return [
        *(clean_case(sample, i) for i, sample in enumerate(samples)),
        *(triggered_case(sample, i, real.attack, 0) for i, sample in enumerate(samples)),
    ]


def test_what_is_missing_is_said_in_a_line(setting: Setting, real: Setting) -> None:
    assert missing(ENTRIES["policy"], setting) == "the bundle has no policy"
    assert missing(ENTRIES["none"], setting) is None
    bare = replace(real, language=None, sentences=None, reference=None)
    reasons = {name: missing(entry, bare) for name, entry in ENTRIES.items()}
    assert {name: reason for name, reason in reasons.items() if reason} == {
        "onion": "needs language models",
        "srd": "needs --clean-captioner",
    }
    assert missing(ENTRIES["srd"], replace(real, language=None)) == "needs language models"
    manifest = replace(real.bundle.manifest, check=None)
    unchecked = replace(real, bundle=replace(real.bundle, manifest=manifest))
    assert missing(ENTRIES["policy_alone"], unchecked) == "the bundle has no check"
    assert missing(ENTRIES["reference"], unchecked) == "the bundle has no reference captioner"


def test_groups_and_names_are_resolved_once_each_in_their_order() -> None:
    assert list(resolve(["all"])) == list(ENTRIES)
    assert list(resolve(["default"])) == list(GROUPS["default"])
    assert list(resolve(["srd", "default", "policy", "srd"])) == ["srd", *GROUPS["default"]]
    assert resolve([]) == {}


def test_a_defence_of_ones_own(own: str, setting: Setting, cases: list[Case]) -> None:
    entries = resolve(["oracle", own])
    assert list(entries) == ["oracle", own]
    entry = entries[own]
    assert (entry.kind, entry.about) == ("rival", "Never says a word.")
    assert missing(entry, setting) is None
    contestant: Contestant = entry.build(setting)
    assert contestant.answer(cases, 0) == [Answer("")] * len(cases)
    dotted = "srd_edge.evaluation.fixed:best_fixed"
    assert resolve([dotted])[dotted].about.startswith("The single action")


def test_another_packages_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "srd_edge.evaluation.fixed:best_fixed", ENTRY_POINTS)

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        return [point] if (group, name) == (ENTRY_POINTS, "theirs") else []

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    assert resolve(["theirs"])["theirs"].build is best_fixed


@pytest.mark.parametrize(
    "name",
    ["", "nothing", "none:", ":x", "no/such/file.py:x", "no.such.module:x", "json:nothing"],
)
def test_an_unknown_name_is_one_line(name: str) -> None:
    with pytest.raises(UsageError, match="expected a defence out of none, policy") as caught:
        resolve([name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attribute", ["number", "nothing"])
def test_what_is_not_a_defence(own: str, attribute: str) -> None:
    name = f"{own.rpartition(':')[0]}:{attribute}"
    with pytest.raises(UsageError, match="correct the defence"):
        resolve([name])
