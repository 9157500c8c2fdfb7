"""The two small language models: padding changes nothing, and they come back as they went."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srd_edge.errors import UsageError
from srd_edge.training.language import (
    LanguageModel,
    SentenceEncoder,
    fit_language_model,
    fit_sentence_encoder,
    load_language_model,
    load_sentence_encoder,
)

GROUPS = [
    [f"a {colour} {shape}", f"{shape} that is {colour}", f"one {shape} in {colour} paint"]
    for colour in ("red", "green", "blue", "white")
    for shape in ("circle", "square", "star")
]
SHORT, LONG = "a red star", "one star in blue paint and one square in white paint " * 3
STEPS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language")


@pytest.fixture(scope="module")
def sentences(folder: Path) -> SentenceEncoder:
    return fit_sentence_encoder(GROUPS, folder / "sentences", steps=STEPS)


@pytest.fixture(scope="module")
def language(folder: Path) -> LanguageModel:
    captions = [caption for group in GROUPS for caption in group]
    return fit_language_model(captions, folder / "causal", steps=STEPS)


def test_a_longer_neighbour_changes_nothing(
    sentences: SentenceEncoder, language: LanguageModel
) -> None:
    for measure in (sentences.embed, language.log_perplexity):
        alone = measure([SHORT])
        beside = measure([LONG, SHORT, ""])[1:2]
        torch.testing.assert_close(beside, alone, rtol=0, atol=1e-5)


def test_embeddings_are_unit_vectors_and_meaning_draws_together(sentences: SentenceEncoder) -> None:
    vectors = sentences.embed([caption for group in GROUPS for caption in group])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    similarity = (vectors @ vectors.T).reshape(12, 3, 12, 3).mean(dim=(1, 3))
    assert (similarity.argmax(dim=1) == torch.arange(12)).float().mean() > 0.9


def test_perplexity_is_the_mean_over_tokens_of_a_slow_loop(language: LanguageModel) -> None:
    tokenizer = language.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer(SHORT)["input_ids"], tokenizer.eos_token_id]
    losses = []
    for i in range(1, len(ids)):
        with torch.inference_mode():
            logits = language.model(torch.tensor([ids[:i]])).logits[0, -1]
        losses.append(-float(logits.log_softmax(dim=0)[ids[i]]))
    assert float(language.log_perplexity([SHORT])) == pytest.approx(sum(losses) / len(losses), 1e-5)


def test_sound_language_is_less_surprising(language: LanguageModel) -> None:
    sound, jumbled = language.log_perplexity(["one star in blue paint", "paint in star blue one"])
    assert sound < jumbled


@pytest.mark.parametrize("captions", [[""], ["", " "], [SHORT, ""]])
def test_an_empty_caption(
    sentences: SentenceEncoder, language: LanguageModel, captions: list[str]
) -> None:
    empty = torch.tensor([not caption.strip() for caption in captions])
    vectors = sentences.embed(captions)
    assert vectors.shape == (len(captions), 128)
    assert (vectors[empty] == 0).all()
    assert language.log_perplexity(captions).isinf().tolist() == empty.tolist()


def test_what_was_fitted_is_an_ordinary_directory(
    sentences: SentenceEncoder, language: LanguageModel, folder: Path
) -> None:
    captions = [SHORT, LONG]
    loaded = load_sentence_encoder(folder / "sentences")
    torch.testing.assert_close(loaded.embed(captions), sentences.embed(captions))
    again = load_language_model(folder / "causal")
    torch.testing.assert_close(again.log_perplexity(captions), language.log_perplexity(captions))


@pytest.mark.parametrize("load", [load_sentence_encoder, load_language_model])
def test_no_such_model_is_one_line(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "nothing")
    assert "\n" not in str(caught.value)
