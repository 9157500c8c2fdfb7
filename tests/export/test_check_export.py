"""The check's models say on the device what they say in PyTorch, and are exported whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from srd_edge import Defender
from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.export.check import RETRIES, check_spec, language_tokenizer
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import REFERENCE_FOLDER
from srd_edge.runtime.language import OnnxLanguageModel
from srd_edge.training.check_models import CheckModels
from srd_edge.training.checkpoints import load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.language import LanguageModel, load_language_model

TEXTS = ["two on on two", "a red circle to the left of a blue star", "zebra?", "é ü 7", "a"]


@pytest.fixture(scope="module")
def bundle(checked_bundle: Path) -> Bundle:
    return read_bundle(checked_bundle)


@pytest.fixture(scope="module")
def policy_folder(checked_bundle: Path) -> Path:
    return checked_bundle.parent / "policy"


@pytest.fixture(scope="module")
def language(policy_folder: Path) -> LanguageModel:
    return load_language_model(policy_folder / "check" / "language")


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    return open_dataset("scenes", "dev", 64)


@torch.inference_mode()
def likely(captioner: Captioner, canvas: np.ndarray, ids: Sequence[int]) -> float:
    """Log-likelihood of ``ids`` after the start token, by PyTorch's own cross entropy."""
    start = captioner.model.generation_config.decoder_start_token_id
    labels = torch.tensor([list(ids)])
    logits = captioner.model(
        pixel_values=captioner.pixel_values(canvas[None]),
        decoder_input_ids=torch.tensor([[start, *ids[:-1]]]),
    ).logits
    return -float(torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum"))


@pytest.mark.parametrize("which", ["suspect", "reference"])
def test_captions_are_as_likely_as_in_pytorch(
    bundle: Bundle, toy_captioner: Path, policy_folder: Path, which: str
) -> None:
    folder = toy_captioner if which == "suspect" else policy_folder / "check" / "reference"
    captioner = load_captioner(folder)
    own = bundle if which == "suspect" else read_bundle(bundle.directory / REFERENCE_FOLDER)
    runtime = OnnxCaptioner(own, "cpu")
    end = own.manifest.generation.end_tokens[0]
    pictures = open_dataset("scenes", "test", 8)
    for canvas in captioner.canvases(sample.load() for sample in pictures):
        encoded = runtime.encode(canvas)
        made = runtime.generate(encoded)
        said = [*made.tokens, *[end] * made.ended]
        assert made.log_probability == pytest.approx(likely(captioner, canvas, said), abs=1e-3)
        for text in (made.text, *TEXTS):
            ids = captioner.tokenizer.encode(text, add_special_tokens=False).ids
            for finished in (False, True):
                row = [*ids, *[end] * finished][: captioner.max_tokens - 1]
                found = runtime.log_probability(encoded, text, finished=finished)
                assert found == pytest.approx(likely(captioner, canvas, row), abs=1e-3)


def test_sentences_are_as_likely_as_in_pytorch(bundle: Bundle, language: LanguageModel) -> None:
    assert bundle.manifest.check is not None
    runtime = OnnxLanguageModel(bundle, bundle.manifest.check.language, "cpu", strict=True)
    tokenizer = language.tokenizer
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        mean = float(language.log_perplexity([text]))
        assert runtime.log_probability(text) == pytest.approx(-mean * (len(ids) + 1), abs=1e-3)
        row = torch.tensor([[tokenizer.bos_token_id, *ids]])
        with torch.inference_mode():
            scores = language.model(row).logits[0, :-1].log_softmax(dim=1)
        open_end = float(scores.gather(1, row[0, 1:, None]).sum())
        assert runtime.log_probability(text, finished=False) == pytest.approx(open_end, abs=1e-3)
    assert runtime.log_probability("", finished=False) == 0
    assert runtime.log_probability("") < 0


def test_a_sentence_beyond_the_longest_is_cut(bundle: Bundle) -> None:
    assert bundle.manifest.check is not None
    spec = bundle.manifest.check.language
    runtime = OnnxLanguageModel(bundle, spec, "cpu", strict=True)
    short = OnnxLanguageModel(bundle, replace(spec, max_tokens=4), "cpu", strict=True)
    assert runtime.log_probability("two " * 63) == runtime.log_probability("two " * 999)
    assert short.log_probability("two two two two") == pytest.approx(
        runtime.log_probability("two two two", finished=False), abs=1e-4
    )


def test_what_the_bundle_says_of_its_check(bundle: Bundle, language: LanguageModel) -> None:
    check = bundle.manifest.check
    assert check is not None
    assert (check.reference, check.retries) == (True, 0 if check.peer else RETRIES)
    assert (check.language.file, check.language.max_tokens) == ("language_model.onnx", 64)
    tokenizer = language.tokenizer
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert (check.language.start_token, check.language.end_token) == ends
    assert bundle.path(check.language.tokenizer).read_bytes() == language_tokenizer(language)
    inner = read_bundle(bundle.directory / REFERENCE_FOLDER).manifest
    assert (inner.policy, inner.check, inner.precision) == (None, None, "fp32")
    assert inner.parity["captions_equal"] == 1


@pytest.mark.slow
def test_int8_without_a_reference(
    toy_captioner: Path, policy_folder: Path, samples: Sequence[Sample], tmp_path: Path
) -> None:
    policy = load_policy(policy_folder)
    assert policy.check is not None
    replace(policy, check=CheckModels(policy.check.language, None)).save(tmp_path / "policy")
    config = ExportConfig(str(toy_captioner), tmp_path / "out", tmp_path / "policy", "int8")
    bundle = export_bundle(config, samples, lambda _: None)
    check = bundle.manifest.check
    assert check is not None
    assert (check.reference, check.language.file) == (False, "language_model_int8.onnx")
    assert not (bundle.directory / REFERENCE_FOLDER).exists()
    exact = load_language_model(tmp_path / "policy" / "check" / "language")
    runtime = OnnxLanguageModel(bundle, check.language, "cpu", strict=True)
    for text in TEXTS[:2]:
        mean = runtime.log_probability(text) / (len(exact.tokenizer(text)["input_ids"]) + 1)
        assert mean == pytest.approx(-float(exact.log_perplexity([text])), abs=0.1)
    result = Defender(bundle).caption(samples[0].load())
    assert result.opinion is not None
    assert result.opinion.contradiction is None


def test_a_language_model_without_a_fast_tokenizer_is_one_line(language: LanguageModel) -> None:
    class Slow:
        bos_token_id, eos_token_id = 5, 6

    slow = LanguageModel(language.model, Slow())
    with pytest.raises(UsageError, match="fast tokenizer, found Slow") as caught:
        language_tokenizer(slow)
    assert "\n" not in str(caught.value)
    spec = check_spec(slow, "language.onnx", reference=False)
    assert (spec.language.start_token, spec.language.end_token, spec.reference) == (5, 6, False)
