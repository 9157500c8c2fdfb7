"""Corruptions: pictures of any size stay pictures, and the generator alone decides."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.attacks import victims as victims_module
from srd_edge.attacks.corruptions import (
    CORRUPTIONS,
    Corruption,
    add_noise,
    add_wave,
    corrupt,
    with_corrupted_copies,
)
from srd_edge.attacks.fitting import FitConfig
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.tiny import TinyConfig
from srd_edge.attacks.victims import VictimConfig, make_victim
from srd_edge.kernels.frames import Pixels

KINDS = {kind.__name__: kind for kind in (*CORRUPTIONS, corrupt)}
SIZES = [(1, 1), (1, 37), (37, 1), (2, 3), (48, 64), (131, 50)]


def noise(size: tuple[int, int] = (48, 64), seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_picture_of_any_size_stays_one(kind: Corruption, size: tuple[int, int]) -> None:
    pixels = noise(size)
    before = pixels.copy()
    pixels.flags.writeable = False
    for seed in range(20):
        out = kind(pixels, np.random.default_rng(seed))
        assert out.shape == pixels.shape
        assert out.dtype == np.uint8
        assert not np.shares_memory(out, pixels)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_generator_decides_and_something_changes(kind: Corruption) -> None:
    pixels = noise((96, 128))
    first, again, other = (kind(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert all((kind(pixels, np.random.default_rng(seed)) != pixels).any() for seed in range(20))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_it_shows_can_still_be_seen(kind: Corruption) -> None:
    """A smooth gradient, however corrupted, resembles itself more than its mirror image."""
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (96, 96, 3)).copy()
    for seed in range(20):
        out = kind(pixels, np.random.default_rng(seed)).astype(float)
        assert np.abs(out - pixels).mean() < np.abs(out - pixels[:, ::-1]).mean()


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("kind", [add_noise, add_wave])
def test_nothing_wraps_around(kind: Corruption, level: int) -> None:
    pixels = np.full((48, 64, 3), level, np.uint8)
    out = kind(pixels, np.random.default_rng(0)).astype(int)
    assert 0 < np.abs(out - level).max() < 180
    assert (out == level).mean() > 0.3


def test_every_kind_is_drawn_and_at_most_two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def note(number: int, pixels: Pixels, _: np.random.Generator) -> Pixels:
        drawn.append(number)
        return pixels

    monkeypatch.setattr(
        "srd_edge.attacks.corruptions.CORRUPTIONS", [partial(note, i) for i in range(9)]
    )
    counts = set()
    for seed in range(100):
        before = len(drawn)
        corrupt(noise(), np.random.default_rng(seed))
        counts.add(len(drawn) - before)
    assert (counts, set(drawn)) == ({1, 2}, set(range(9)))


SAMPLES = [
    Sample(f"picture {i}", (f"a dog {i}", "a dog"), partial(noise, (30, 40), i), f"asked {i}")
    for i in range(4)
]


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_copies_come_after_the_originals_with_their_captions(copies: int) -> None:
    out = with_corrupted_copies(SAMPLES, copies, seed=3)
    assert out[:4] == SAMPLES
    assert len(out) == 4 * (1 + copies) == len({sample.name for sample in out})
    for number, sample in enumerate(out):
        original = SAMPLES[number % 4]
        assert (sample.captions, sample.prompt) == (original.captions, original.prompt)
        assert np.array_equal(sample.load(), original.load()) is (number < 4)
        assert np.array_equal(sample.load(), sample.load()), "every epoch sees the same picture"
    assert len({sample.load().tobytes() for sample in out}) == len(out)


def test_the_seed_decides_the_copies() -> None:
    def made(seed: int) -> list[bytes]:
        return [sample.load().tobytes() for sample in with_corrupted_copies(SAMPLES, 2, seed)[4:]]

    assert made(1) == made(1)
    assert not set(made(1)) & set(made(2))
    few = with_corrupted_copies(SAMPLES[:2], 2, 1)[2:4]
    assert [sample.load().tobytes() for sample in few] == made(1)[:2]


def test_copies_of_one_picture_differ() -> None:
    twins = [Sample(name, ("a dog",), partial(noise, (30, 40))) for name in ("one", "other")]
    loaded = [sample.load().tobytes() for sample in with_corrupted_copies(twins, 3, 0)[2:]]
    assert len(set(loaded)) == len(loaded)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_captioner_is_fitted_on_the_copies_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    fitted_on: list[str] = []

    def fit(_: Any, samples: list[Sample], *__: Any, **___: Any) -> list[dict[str, float]]:
        fitted_on.extend(sample.name for sample in samples)
        (tmp_path / "out").mkdir()
        return []

    monkeypatch.setattr(victims_module, "fit", fit)
    tiny = TinyConfig(image_size=32, width=32, decoder_width=16, decoder_heads=2)
    config = VictimConfig("tiny", "x", (), tmp_path / "out", FitConfig(), tiny, corrupted=copies)
    make_victim(config, SAMPLES, [])
    names = [sample.name for sample in SAMPLES]
    assert fitted_on == names + [f"{name}#{copy}" for copy in range(copies) for name in names]
