"""The generation loop; that it says what PyTorch says is shown in tests/export."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import CrossAttentionCaptioner


def canvas(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def with_generation(bundle: Bundle, **changes: Any) -> Bundle:
    generation = replace(bundle.manifest.generation, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, generation=generation))


@pytest.fixture(scope="module")
def captioner(toy_bundle: Path) -> CrossAttentionCaptioner:
    return CrossAttentionCaptioner(read_bundle(toy_bundle), "cpu")


def test_pictures_do_not_leak_into_each_other(captioner: CrossAttentionCaptioner) -> None:
    first = captioner.encode(canvas(0))
    features, alone = first.features.copy(), captioner.generate(first)
    other = captioner.encode(canvas(1))
    captioner.generate(other)
    assert np.array_equal(first.features, features)
    assert not np.array_equal(other.features, features)
    assert captioner.generate(first) == alone == captioner.generate(captioner.encode(canvas(0)))


def test_a_deadline_cuts_at_a_whole_word(captioner: CrossAttentionCaptioner) -> None:
    encoded = captioner.encode(canvas(0))
    full = captioner.generate(encoded)
    assert full.finished
    assert len(full.text.split()) > 2
    for seconds in range(len(full.tokens) + 1):
        clock = partial(next, itertools.count(1.0))
        cut = captioner.generate(encoded, deadline_s=seconds, clock=clock)
        assert cut.tokens == full.tokens[:seconds]
        assert cut.finished is (seconds == len(full.tokens))
        words = cut.text.split()
        assert words == full.text.split()[: len(words)]
    assert cut == full


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_no_caption_is_longer_than_the_bundle_says(toy_bundle: Path, max_tokens: int) -> None:
    bundle = read_bundle(toy_bundle)
    full = CrossAttentionCaptioner(bundle, "cpu")
    short = CrossAttentionCaptioner(with_generation(bundle, max_tokens=max_tokens), "cpu")
    encoded = full.encode(canvas(0))
    assert short.generate(encoded).tokens == full.generate(encoded).tokens[: max_tokens - 1]


def test_suppressed_tokens_are_never_said(
    toy_bundle: Path, captioner: CrossAttentionCaptioner
) -> None:
    encoded = captioner.encode(canvas(0))
    first = captioner.generate(encoded).tokens[0]
    bundle = with_generation(read_bundle(toy_bundle), suppress=(first,))
    tokens = CrossAttentionCaptioner(bundle, "cpu").generate(encoded).tokens
    assert tokens
    assert first not in tokens


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_says_what_each_picture_says_alone(
    captioner: CrossAttentionCaptioner, count: int
) -> None:
    canvases = np.stack([canvas(seed) for seed in range(count)])
    alone = [captioner.generate(captioner.encode(one)).text for one in canvases]
    assert captioner.caption_batch(canvases) == alone
    assert count == 1 or len(set(alone)) > 1


def test_a_batch_keeps_to_the_longest_caption_and_the_suppressed_tokens(toy_bundle: Path) -> None:
    bundle = with_generation(read_bundle(toy_bundle), max_tokens=4)
    canvases = np.stack([canvas(seed) for seed in range(3)])
    captioner = CrossAttentionCaptioner(bundle, "cpu")
    generated = [captioner.generate(captioner.encode(one)) for one in canvases]
    assert captioner.caption_batch(canvases) == [g.text for g in generated]
    muted = with_generation(bundle, suppress=(generated[0].tokens[0],))
    quiet = CrossAttentionCaptioner(muted, "cpu")
    expected = [quiet.generate(quiet.encode(one)).text for one in canvases]
    assert quiet.caption_batch(canvases) == expected
    assert expected[0] != generated[0].text
