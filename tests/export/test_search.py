"""Greedy decoding and beam search under every setting, against ``generate`` on one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srd_edge.errors import UsageError
from srd_edge.export.generation import generation_defaults
from srd_edge.export.parity import transformers_tokens
from srd_edge.export.source import Source, open_source
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.training.datasets import open_dataset

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "short": {"length_penalty": -1.0},
    "long": {"length_penalty": 2.0},
    "first": {"early_stopping": True},
    "never": {"early_stopping": "never"},
    "never long": {"early_stopping": "never", "length_penalty": 1.5},
    "repetition": {"repetition_penalty": 1.4},
    "n-grams": {"no_repeat_ngram_size": 2},
    "minimum": {"min_new_tokens": 5},
    "minimal length": {"min_length": 5},
    "suppressed": {"suppress_tokens": [5, 12, 40]},
    "forced": {"forced_bos_token_id": 9, "forced_eos_token_id": 2},
}


@pytest.fixture
def source(toy_captioner: Path) -> Iterator[Source]:
    """Some of whose captions end early."""
    yield open_source(toy_captioner)


def ending(source: Source, canvases: Any) -> int:
    """An id that is said now and then, to be the end token."""
    said = transformers_tokens(source, source.generation, canvases)
    counts = [sum(token in row[2:] for row in said) for token in range(300)]
    return min(range(300), key=lambda token: abs(counts[token] - len(said) // 3))


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_means_what_it_means_in_transformers(
    source: Source, toy_bundle: Path, name: str, beams: int
) -> None:
    model = source.captioner.model
    pictures = open_dataset("scenes", "test", 24)
    canvases = source.captioner.canvases(sample.load() for sample in pictures)
    settings = model.generation_config
    settings.eos_token_id = ending(source, canvases)
    for key, value in SETTINGS[name].items():
        setattr(settings, key, value)
    generation = generation_defaults(
        settings.to_dict(),
        source.prompt.ids,
        (settings.eos_token_id,),
        beams=beams,
        max_new_tokens=8,
    )
    truth = transformers_tokens(source, generation, list(canvases))
    bundle = read_bundle(toy_bundle)
    made = _said(
        replace(bundle, manifest=replace(bundle.manifest, generation=generation)), canvases
    )
    assert made == truth
    assert {len(row) == 8 for row in truth} == {True, False} or name in ("minimum", "forced")


def _said(bundle: Bundle, canvases: Any) -> list[list[int]]:
    runtime = OnnxCaptioner(bundle, "cpu")
    return [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]


def test_a_setting_that_the_runtime_does_not_know_is_refused(source: Source) -> None:
    settings = source.captioner.model.generation_config
    settings.bad_words_ids = [[3]]
    with pytest.raises(UsageError, match="bad_words_ids"):
        generation_defaults(settings.to_dict(), source.prompt.ids, (2,))
