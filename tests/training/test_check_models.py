"""The check's models travel with the policy: as they went in, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srd_edge.attacks.captioner import load_captioner
from srd_edge.errors import UsageError
from srd_edge.training.check_models import CheckModels, load_check_models, reference_folder
from srd_edge.training.checkpoints import CHECK_FOLDER, load_policy
from srd_edge.training.language import LanguageModel, fit_language_model

TEXTS = ["a red star", "one square in blue paint"]


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return fit_language_model(TEXTS, tmp_path_factory.mktemp("language"), steps=2)


@pytest.mark.parametrize("with_reference", [True, False])
def test_round_trip(
    language: LanguageModel,
    toy_captioner: Path,
    toy_policy: Path,
    tmp_path: Path,
    *,
    with_reference: bool,
) -> None:
    reference = load_captioner(toy_captioner) if with_reference else None
    plain = load_policy(toy_policy)
    replace(plain, check=CheckModels(language, reference)).save(tmp_path)
    policy = load_policy(tmp_path)
    assert policy.check is not None
    found = policy.check.language.log_perplexity(TEXTS)
    torch.testing.assert_close(found, language.log_perplexity(TEXTS))
    if reference is None:
        assert policy.check.reference is None
        assert reference_folder(tmp_path / CHECK_FOLDER) is None
    else:
        assert policy.check.reference is not None
        assert policy.check.reference.fingerprint() == reference.fingerprint()
        assert policy.check.reference.preprocessing == reference.preprocessing
    weights, loaded = plain.network.state_dict(), policy.network.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in weights.items())
    assert (policy.max_steps, policy.temperature) == (plain.max_steps, plain.temperature)


def test_a_policy_without_a_check_has_none(toy_policy: Path, tmp_path: Path) -> None:
    assert load_policy(toy_policy).check is None
    assert not (toy_policy / CHECK_FOLDER).exists()
    assert load_check_models(tmp_path) is None


def test_saving_anew_leaves_nothing_of_the_old_check(
    language: LanguageModel, toy_captioner: Path, toy_policy: Path, tmp_path: Path
) -> None:
    plain = load_policy(toy_policy)
    full = CheckModels(language, load_captioner(toy_captioner))
    replace(plain, check=full).save(tmp_path)
    replace(plain, check=CheckModels(language, None)).save(tmp_path)
    check = load_policy(tmp_path).check
    assert check is not None
    assert check.reference is None
    plain.save(tmp_path)
    assert load_policy(tmp_path).check is None


@pytest.mark.parametrize(
    "damaged", ["language/model.safetensors", "language/tokenizer.json", "reference/config.json"]
)
def test_half_a_check_is_one_line(
    language: LanguageModel, toy_captioner: Path, toy_policy: Path, tmp_path: Path, damaged: str
) -> None:
    check = CheckModels(language, load_captioner(toy_captioner))
    replace(load_policy(toy_policy), check=check).save(tmp_path)
    (tmp_path / CHECK_FOLDER / damaged).write_bytes(b"half")
    with pytest.raises(UsageError) as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)
