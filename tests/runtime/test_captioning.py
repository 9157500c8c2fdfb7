"""The generation loop; that it says what PyTorch says is shown in tests/export."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.kernels.frames import Pixels
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.tokenizer import CaptionTokenizer
from tests.runtime.clocks import after


def canvas(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def with_generation(bundle: Bundle, **changes: Any) -> Bundle:
    generation = replace(bundle.manifest.generation, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, generation=generation))


@pytest.fixture(scope="module")
def captioner(toy_bundle: Path) -> OnnxCaptioner:
    return OnnxCaptioner(read_bundle(toy_bundle), "cpu")


def test_pictures_do_not_leak_into_each_other(captioner: OnnxCaptioner) -> None:
    first = captioner.encode(canvas(0))
    features, alone = first.features.copy(), captioner.generate(first)
    other = captioner.encode(canvas(1))
    captioner.generate(other)
    assert np.array_equal(first.features, features)
    assert not np.array_equal(other.features, features)
    assert captioner.generate(first) == alone == captioner.generate(captioner.encode(canvas(0)))


def test_one_view_is_the_picture_and_alike_views_say_what_it_says(
    captioner: OnnxCaptioner,
) -> None:
    alone = captioner.generate(captioner.encode(canvas(0)))
    for count in (1, 3):
        again = captioner.generate(captioner.encode_views(np.stack([canvas(0)] * count)))
        assert again.tokens == alone.tokens
        assert again.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-4)


def test_views_are_captioned_by_the_mean_of_their_logits(
    captioner: OnnxCaptioner,
) -> None:
    """Each token is the likeliest of the views' mean: the product of what they say alone."""
    pictures = [canvas(seed) for seed in range(3)]
    together = captioner.generate(captioner.encode_views(np.stack(pictures)))
    text = captioner._tokenizer.decode(list(together.tokens))
    each = [
        captioner.log_probability(captioner.encode(picture), text, finished=together.ended)
        for picture in pictures
    ]
    several = captioner.encode_views(np.stack(pictures))
    likely = captioner.log_probability(several, text, finished=together.ended)
    assert likely == pytest.approx(together.log_probability, abs=1e-3)
    # By Hoelder's inequality the normalised geometric mean is never below the mean of logarithms.
    assert together.log_probability >= np.mean(each) - 1e-4
    assert {together.tokens} != {
        captioner.generate(captioner.encode(picture)).tokens for picture in pictures
    }


def ending(bundle: Bundle) -> OnnxCaptioner:
    """One whose captions end before they are at their longest, each with a word that it has."""
    captioner = OnnxCaptioner(bundle, "cpu")
    tokens = Counter(
        token
        for seed in range(9)
        for token in set(captioner.generate(captioner.encode(canvas(seed))).tokens[3:])
    )
    end = tokens.most_common(1)[0][0]
    return OnnxCaptioner(with_generation(bundle, end_tokens=(end,)), "cpu")


@pytest.mark.parametrize("ends", [False, True])
def test_a_caption_is_as_likely_as_its_text(toy_bundle: Path, *, ends: bool) -> None:
    bundle = read_bundle(toy_bundle)
    captioner = ending(bundle) if ends else OnnxCaptioner(bundle, "cpu")
    tokenizer = CaptionTokenizer(bundle.path("tokenizer.json"))
    compared = 0
    for seed in range(30):
        encoded = captioner.encode(canvas(seed))
        made = captioner.generate(encoded)
        assert made.ended is (len(made.tokens) < 11)
        assert len(made.log_probabilities) == len(made.tokens) + made.ended
        assert max(made.log_probabilities) <= 0
        mean = made.log_probability / len(made.log_probabilities)
        assert made.mean_log_probability == pytest.approx(mean)
        likely = captioner.log_probability(encoded, made.text, finished=made.ended)
        assert likely <= 0
        if tokenizer.encode(made.text) == list(made.tokens) and made.ended is ends:
            compared += 1
            assert likely == pytest.approx(made.log_probability, abs=1e-4)
            other = captioner.log_probability(encoded, made.text, finished=not made.ended)
            assert (other > likely) if ends else (other == likely), "the end token counts"
    assert compared > 4


def test_a_caption_cut_short_is_as_likely_as_what_is_left_of_it(
    captioner: OnnxCaptioner, toy_bundle: Path
) -> None:
    tokenizer = CaptionTokenizer(read_bundle(toy_bundle).path("tokenizer.json"))
    compared = 0
    for seed, calls in itertools.product(range(8), range(12)):
        encoded = captioner.encode(canvas(seed))
        cut = captioner.generate(encoded, expired=after(calls))
        assert not cut.ended
        if tokenizer.encode(cut.text) == list(cut.tokens[: len(cut.log_probabilities)]):
            likely = captioner.log_probability(encoded, cut.text, finished=False)
            assert cut.log_probability == pytest.approx(likely, abs=1e-4)
            mean = likely / max(len(tokenizer.encode(cut.text)), 1)
            assert cut.mean_log_probability == pytest.approx(mean, abs=1e-4)
            compared += 0 < len(cut.log_probabilities) < len(cut.tokens)
    assert compared > 9


def test_anybodys_caption_has_a_likelihood(captioner: OnnxCaptioner) -> None:
    encoded = captioner.encode(canvas(0))
    assert captioner.log_probability(encoded, "", finished=False) == 0
    assert captioner.log_probability(encoded, "") < 0
    long = "two on " * 500
    assert captioner.log_probability(encoded, long) > -500, "it is cut"
    own = captioner.generate(encoded)
    other = captioner.log_probability(captioner.encode(canvas(1)), own.text)
    assert other != captioner.log_probability(encoded, own.text)


def test_a_deadline_cuts_at_a_whole_word(captioner: OnnxCaptioner) -> None:
    encoded = captioner.encode(canvas(0))
    full = captioner.generate(encoded)
    assert full.finished
    assert len(full.text.split()) > 2
    for calls in range(len(full.tokens) + 1):
        cut = captioner.generate(encoded, expired=after(calls))
        assert cut.tokens == full.tokens[:calls]
        assert cut.finished is (calls == len(full.tokens))
        words = cut.text.split()
        assert words == full.text.split()[: len(words)]
    assert cut == full


@pytest.mark.parametrize("longest", [1, 4])
def test_no_caption_is_longer_than_the_bundle_says(toy_bundle: Path, longest: int) -> None:
    bundle = read_bundle(toy_bundle)
    full = OnnxCaptioner(bundle, "cpu")
    short = OnnxCaptioner(with_generation(bundle, max_new_tokens=longest), "cpu")
    encoded = full.encode(canvas(0))
    assert short.generate(encoded).tokens == full.generate(encoded).tokens[:longest]


def test_suppressed_tokens_are_never_said(toy_bundle: Path, captioner: OnnxCaptioner) -> None:
    encoded = captioner.encode(canvas(0))
    first = captioner.generate(encoded).tokens[0]
    bundle = with_generation(read_bundle(toy_bundle), suppress=(first,))
    tokens = OnnxCaptioner(bundle, "cpu").generate(encoded).tokens
    assert tokens
    assert first not in tokens


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_says_what_each_picture_says_alone(captioner: OnnxCaptioner, count: int) -> None:
    canvases = np.stack([canvas(seed) for seed in range(count)])
    alone = [captioner.generate(captioner.encode(one)).text for one in canvases]
    assert captioner.caption_batch(canvases) == alone
    assert count == 1 or len(set(alone)) > 1


def test_a_batch_keeps_to_the_longest_caption_and_the_suppressed_tokens(toy_bundle: Path) -> None:
    bundle = with_generation(read_bundle(toy_bundle), max_new_tokens=3)
    canvases = np.stack([canvas(seed) for seed in range(3)])
    captioner = OnnxCaptioner(bundle, "cpu")
    generated = [captioner.generate(captioner.encode(one)) for one in canvases]
    assert captioner.caption_batch(canvases) == [g.text for g in generated]
    muted = with_generation(bundle, suppress=(generated[0].tokens[0],))
    quiet = OnnxCaptioner(muted, "cpu")
    expected = [quiet.generate(quiet.encode(one)).text for one in canvases]
    assert quiet.caption_batch(canvases) == expected
    assert expected[0] != generated[0].text
