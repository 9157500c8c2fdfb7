"""What is fitted on captions is kept by what it was fitted on, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.training import language_store
from srd_edge.training.language import (
    LanguageModel,
    SentenceEncoder,
    fit_language_model,
    fit_sentence_encoder,
)
from srd_edge.training.language_store import open_language_models

GROUPS = [["a red square", "a square, red"], ["a blue square", "a square, blue"]]


@pytest.fixture(autouse=True)
def fitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty cache and quick fits; the names of those that were run."""
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path / "cache"))
    runs: list[str] = []

    def sentences(
        groups: Sequence[Sequence[str]], output: Path, *, seed: int = 0
    ) -> SentenceEncoder:
        runs.append("sentences")
        return fit_sentence_encoder(groups, output, steps=1, seed=seed)

    def causal(captions: Sequence[str], output: Path, *, seed: int = 0) -> LanguageModel:
        runs.append("causal")
        return fit_language_model(captions, output, steps=1, seed=seed)

    monkeypatch.setattr(language_store, "fit_sentence_encoder", sentences)
    monkeypatch.setattr(language_store, "fit_language_model", causal)
    return runs


def kept() -> list[str]:
    return sorted(path.name for path in cache_folder().glob("language/*/*"))


def test_the_same_captions_are_fitted_once(fitted: list[str]) -> None:
    first, second = open_language_models(GROUPS), open_language_models(GROUPS)
    assert fitted == ["sentences", "causal"]
    assert kept() == ["causal", "sentences"]
    texts = ["a red square"]
    assert first[0].embed(texts).tolist() == second[0].embed(texts).tolist()
    assert first[1].log_perplexity(texts).tolist() == second[1].log_perplexity(texts).tolist()


@pytest.mark.parametrize(
    ("groups", "seed"), [(GROUPS, 1), (GROUPS[:1], 0), ([[*GROUPS[0], *GROUPS[1]]], 0)]
)
def test_other_captions_and_seeds_are_fitted_anew(
    fitted: list[str], groups: list[list[str]], seed: int
) -> None:
    open_language_models(GROUPS)
    open_language_models(groups, seed=seed)
    assert fitted == ["sentences", "causal"] * 2


def test_a_fit_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(captions: Sequence[str], output: Path, *, seed: int = 0) -> LanguageModel:
        output.mkdir()
        (output / "half.bin").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(language_store, "fit_language_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_language_models(GROUPS)
    assert kept() == ["sentences"]


def test_whoever_was_faster_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def beaten(groups: Sequence[Sequence[str]], output: Path, *, seed: int = 0) -> SentenceEncoder:
        fit_sentence_encoder(groups, output.parents[1] / "sentences", steps=1, seed=seed)
        return fit_sentence_encoder(groups, output, steps=1, seed=seed)

    monkeypatch.setattr(language_store, "fit_sentence_encoder", beaten)
    open_language_models(GROUPS)
    assert kept() == ["causal", "sentences"]
