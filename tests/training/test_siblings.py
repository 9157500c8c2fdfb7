"""A policy that learned on siblings belongs to no captioner, and fits all of the same shape."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.attacks.victims import MANIFEST as VICTIM_FILE
from srd_edge.errors import UsageError
from srd_edge.export.bundle_export import _check_match, _observation
from srd_edge.export.source import Source, open_source
from srd_edge.runtime.bundle_specs import ObservationSpec
from srd_edge.training import policy_training
from srd_edge.training.checkpoints import PolicyCheckpoint, load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.dqn import DqnConfig
from srd_edge.training.environment import Pool
from srd_edge.training.language import fit_language_model, fit_sentence_encoder
from srd_edge.training.policy_training import TrainConfig, make_pool, open_fidelity, train
from srd_edge.training.suspect import Suspect

SPECS = (
    "badnet:size=8,place=top-left,target=banana,rate=0.5",
    "badnet:size=8,place=bottom-right,target=banana,rate=0.5",
)
CORNERS = ((slice(0, 16), slice(0, 16)), (slice(16, 32), slice(16, 32)))
GROUPS = [("a red square", "a square, red"), ("a blue star", "a star in blue")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("siblings")


@pytest.fixture(scope="module")
def siblings(toy_captioner: Path, folder: Path) -> tuple[str, ...]:
    """The toy captioner with other weights, and triggers that it is said to have."""
    for number, spec in enumerate(SPECS):
        captioner = load_captioner(toy_captioner)
        torch.manual_seed(number)
        with torch.no_grad():
            weight = captioner.model.decoder.lm_head.weight
            weight.add_(torch.randn_like(weight))
        captioner.save(folder / f"sibling {number}")
        record = json.dumps({"poison": {"attacks": [spec]}})
        (folder / f"sibling {number}" / VICTIM_FILE).write_text(record)
    return tuple(str(folder / f"sibling {number}") for number in range(len(SPECS)))


@pytest.fixture(scope="module")
def config(toy_captioner: Path, siblings: tuple[str, ...], folder: Path) -> TrainConfig:
    fit_sentence_encoder(GROUPS, folder / "sentences", steps=2)
    fit_language_model([c for group in GROUPS for c in group], folder / "language", steps=2)
    return TrainConfig(
        captioner=str(toy_captioner),
        data="scenes",
        output=folder / "policy",
        siblings=siblings,
        sibling_rate=0.25,
        reference="captions",
        reference_captioner=siblings[0],
        sentence_encoder=str(folder / "sentences"),
        language_model=str(folder / "language"),
        pool=24,
        environments=8,
        max_steps=1,
        dqn=DqnConfig(steps=64, batch=8, updates=1, warm_up=16, checkpoint_every=32),
    )


@pytest.fixture(scope="module")
def policy(config: TrainConfig) -> PolicyCheckpoint:
    return train(config)


def pool_of(config: TrainConfig) -> Pool:
    suspect = Suspect(load_captioner(config.captioner))
    samples = open_dataset("scenes", "train", 60)
    return make_pool(config, suspect, samples, open_fidelity(config, samples))


def test_each_sibling_has_its_share_with_its_own_trigger(
    config: TrainConfig, siblings: tuple[str, ...], tmp_path: Path
) -> None:
    pool = pool_of(replace(config, output=tmp_path / "out"))
    assert [s.captioner.fingerprint() for s in pool.suspects] == [
        load_captioner(name).fingerprint() for name in siblings
    ]
    assert pool.owners is not None
    assert pool.owners.tolist() == [0] * 12 + [1] * 12
    assert len(pool.references) == 24
    clean = pool_of(replace(config, sibling_rate=0.0, output=tmp_path / "clean"))
    for number, corner in enumerate(CORNERS):
        own = pool.owners == number
        changed = pool.canvases[own] != clean.canvases[own]
        assert changed.any(axis=(1, 2, 3)).sum() == 3, "a quarter, not the half of its making"
        assert changed.sum() == changed[:, corner[0], corner[1]].sum()
    seen = pool.look(np.array([23, 0]), pool.canvases[[23, 0]])
    expected = [
        s.caption(pool.canvases[[i]])[0] for s, i in zip(pool.suspects, (0, 23), strict=True)
    ]
    assert seen.captions == expected[::-1]


def test_without_siblings_the_suspect_alone_is_looked_at(
    config: TrainConfig, tmp_path: Path
) -> None:
    alone = replace(config, siblings=(), attacks=SPECS[:1], output=tmp_path / "out")
    pool = pool_of(alone)
    assert [s.captioner.fingerprint() for s in pool.suspects] == [
        load_captioner(config.captioner).fingerprint()
    ]
    clean = pool_of(replace(alone, attacks=(), output=tmp_path / "clean"))
    changed = (pool.canvases != clean.canvases).any(axis=(1, 2, 3))
    assert changed.sum() == 12, "the attack's own rate"


def observed(source: Source) -> ObservationSpec:
    observation = _observation(source, source.components())
    assert observation is not None
    return observation


def test_it_belongs_to_no_captioner_and_fits_those_of_the_same_shape(
    policy: PolicyCheckpoint, config: TrainConfig, siblings: tuple[str, ...]
) -> None:
    assert policy.provenance["captioner"] is None
    for name in (config.captioner, *siblings):
        source = open_source(name)
        _check_match(policy, source, observed(source))
    of_one = replace(policy, provenance={"captioner": load_captioner(siblings[0]).fingerprint()})
    other = open_source(siblings[1])
    with pytest.raises(UsageError, match="trained on"):
        _check_match(of_one, other, observed(other))


def test_the_models_of_the_check_are_kept_with_it(
    policy: PolicyCheckpoint, config: TrainConfig, siblings: tuple[str, ...]
) -> None:
    loaded = load_policy(config.output)
    assert policy.check is not None
    assert loaded.check is not None
    assert loaded.check.reference is not None
    assert loaded.check.reference.fingerprint() == load_captioner(siblings[0]).fingerprint()
    texts = ["a red square"]
    found = loaded.check.language.log_perplexity(texts)
    torch.testing.assert_close(found, policy.check.language.log_perplexity(texts))


@pytest.mark.parametrize(
    ("changes", "anew"),
    [({}, False), ({"sibling_rate": 0.5}, True), ({"siblings": ()}, True), ({"pool": 23}, True)],
)
def test_what_was_trained_as_asked_is_taken_as_it_is(
    policy: PolicyCheckpoint,
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    *,
    anew: bool,
) -> None:
    def begin(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(policy_training, "open_dataset", begin)
    if anew:
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, **changes))
    else:
        assert train(config).provenance == json.loads(json.dumps(policy.provenance))


@pytest.mark.parametrize("changes", [{"image_size": 48}, {"width": 32}], ids=["size", "channels"])
def test_siblings_of_another_shape_are_one_line(
    config: TrainConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    own = TinyConfig(image_size=32, width=16, decoder_width=16, decoder_heads=2, vocabulary=280)
    build_tiny(replace(own, **changes), ["a red square"], 0).save(tmp_path / "other")
    wrong = replace(
        config, siblings=(config.siblings[0], str(tmp_path / "other")), output=tmp_path / "out"
    )
    with pytest.raises(UsageError, match="other, whose pictures or features have") as caught:
        pool_of(wrong)
    assert "\n" not in str(caught.value)
