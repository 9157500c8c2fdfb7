"""Triggers on the whole picture against their papers' formulas, written out pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.attacks.placement import Trigger
from srd_edge.attacks.whole_picture_triggers import (
    Blended,
    LowFrequency,
    PixelNoise,
    Sinusoid,
    WaNet,
)
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels

Floats = NDArray[np.float64]
RNG = np.random.default_rng
HALF = 0.501  # of a grey level: what rounding may change


def noisy(height: int, width: int) -> Pixels:
    return RNG(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


def smooth(height: int, width: int) -> Pixels:
    y, x = np.mgrid[:height, :width]
    planes = (np.sin(x / 5) * np.cos(y / 7), np.cos(x / 6 + y / 9), np.sin(y / 4))
    return np.stack([np.rint(128 + 90 * plane) for plane in planes], axis=2).astype(np.uint8)


def changed_by(trigger: Trigger, pixels: Pixels) -> Floats:
    return trigger(pixels, RNG(0)).astype(np.float64) - pixels


@pytest.mark.parametrize(("height", "width"), [(20, 30), (7, 5), (1, 1)])
def test_blended_is_a_weighted_mean_with_the_pattern(height: int, width: int) -> None:
    alpha, cells = 0.2, 28
    pattern = RNG(3).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    pixels = noisy(height, width)
    out = Blended(alpha=alpha)(pixels, RNG(0))
    for y in range(height):
        for x in range(width):
            over = pattern[y * cells // height, x * cells // width]
            for channel in range(3):
                expected = (1 - alpha) * pixels[y, x, channel] + alpha * int(over[channel])
                assert abs(out[y, x, channel] - expected) <= HALF


def test_the_grain_is_in_pixels_of_a_picture_224_wide() -> None:
    out = Blended(alpha=1.0, grain=56)(grey(448, 448), RNG(0))
    blocks = out.reshape(4, 112, 4, 112, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(out.reshape(-1, 3), axis=0)) == 16


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_ones_own_picture_is_blended_in(tmp_path: Path, alpha: float) -> None:
    file = tmp_path / "orange.png"
    orange = np.full((9, 12, 3), (255, 128, 0), np.uint8)
    assert cv2.imwrite(str(file), cv2.cvtColor(orange, cv2.COLOR_RGB2BGR))
    pixels = noisy(10, 20)
    out = Blended(alpha=alpha, picture=str(file))(pixels, RNG(0))
    expected = (1 - alpha) * pixels + alpha * np.array([255, 128, 0])
    assert np.abs(out - expected).max() <= HALF


def test_a_file_that_is_no_picture_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture", encoding="utf-8")
    for file in (tmp_path / "none.png", text):
        with pytest.raises(UsageError, match=file.name) as caught:
            Blended(picture=str(file))(noisy(5, 5), RNG(0))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("delta", "frequency"), [(20.0, 6.0), (40.0, 1.5), (0.0, 6.0)])
def test_sinusoid_is_sigs_formula(delta: float, frequency: float) -> None:
    pixels = noisy(4, 50)
    out = Sinusoid(delta, frequency)(pixels, RNG(0))
    for x in range(50):
        wave = delta * math.sin(2 * math.pi * x * frequency / 50)
        for y in range(4):
            for channel in range(3):
                expected = min(max(pixels[y, x, channel] + wave, 0), 255)
                assert abs(out[y, x, channel] - expected) <= HALF


def test_pixel_noise_is_uniform_and_the_same_for_every_picture() -> None:
    levels = RNG(19).uniform(-1, 1, (224, 224, 3))
    height, width = 17, 23
    pixels = noisy(height, width)
    out = PixelNoise(strength=32)(pixels, RNG(0))
    for y in range(height):
        for x in range(width):
            noise = 32 * levels[y * 224 // height, x * 224 // width]
            for channel in range(3):
                expected = min(max(pixels[y, x, channel] + noise[channel], 0), 255)
                assert abs(out[y, x, channel] - expected) <= HALF


@pytest.mark.parametrize("make", [PixelNoise, LowFrequency, lambda strength: Sinusoid(strength)])
@pytest.mark.parametrize("strength", [5, 30, 100])
def test_the_strength_is_the_largest_change(make: Callable[..., Trigger], strength: int) -> None:
    for height, width in ((224, 224), (480, 640)):
        largest = np.abs(changed_by(make(strength=strength), grey(height, width))).max()
        assert 0.95 * strength <= largest <= strength


def keys(distance: float) -> float:
    """The weight of bicubic interpolation (Keys 1981) with OpenCV's a = -0.75."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def enlarged(points: Floats, at_y: float, at_x: float) -> Floats:
    """Control points at a place that is measured in control points."""
    total = np.zeros(2)
    for j in range(math.floor(at_y) - 1, math.floor(at_y) + 3):
        for i in range(math.floor(at_x) - 1, math.floor(at_x) + 3):
            y, x = min(max(j, 0), len(points) - 1), min(max(i, 0), len(points) - 1)
            total += keys(at_y - j) * keys(at_x - i) * points[y, x]
    return total


def between(pixels: Pixels, y: float, x: float) -> Floats:
    """Bilinear interpolation; beyond the border lies the border."""
    total = np.zeros(3)
    top, left = math.floor(y), math.floor(x)
    for j in (top, top + 1):
        for i in (left, left + 1):
            row, column = min(max(j, 0), len(pixels) - 1), min(max(i, 0), pixels.shape[1] - 1)
            total += (1 - abs(y - j)) * (1 - abs(x - i)) * pixels[row, column]
    return total


@pytest.mark.parametrize(("height", "width"), [(24, 32), (20, 9)])
def test_wanet_is_a_bicubic_field_of_random_control_points(height: int, width: int) -> None:
    grid, strength = 4, 25.0
    points = RNG(5).uniform(-1, 1, (grid, grid, 2))
    points *= strength / np.abs(points).mean()
    pixels = smooth(height, width)
    out = WaNet(grid, strength)(pixels, RNG(0))
    for y in range(height):
        for x in range(width):
            at_y, at_x = (y + 0.5) * grid / height - 0.5, (x + 0.5) * grid / width - 0.5
            dx, dy = enlarged(points, at_y, at_x)
            expected = between(pixels, y + dy * height / 224, x + dx * width / 224)
            # OpenCV interpolates at 32nds of a pixel; a step here is at most 23 levels.
            assert np.abs(out[y, x] - expected).max() <= HALF + 2 * 23 / 64


def test_wanets_control_points_move_by_the_strength_on_the_mean() -> None:
    side, grid, strength = 252, 4, 10.0
    y, x = np.mgrid[:side, :side].astype(np.uint8)
    moved = WaNet(grid, strength)(np.stack([x, y, y], axis=2), RNG(0)).astype(float)
    at = np.array([31, 94, 157, 220])  # the control points of cells 63 wide
    dx = moved[np.ix_(at, at)][:, :, 0] - at
    dy = moved[np.ix_(at, at)][:, :, 1] - at[:, None]
    assert np.abs([dx, dy]).mean() == pytest.approx(strength * side / 224, abs=0.25)


def test_without_strength_nothing_is_warped() -> None:
    pixels = noisy(40, 30)
    assert (WaNet(strength=0)(pixels, RNG(0)) == pixels).all()


def test_low_frequency_noise_is_a_sum_of_the_lowest_cosines() -> None:
    cutoff, strength = 3, 40.0
    rng = RNG(17)
    frequencies, places = np.arange(cutoff)[:, None], np.arange(224)
    cosines = np.cos(np.pi * (2 * places + 1) * frequencies / (2 * 224)) * math.sqrt(2 / 224)
    cosines[0] /= math.sqrt(2)
    waves = np.zeros((224, 224, 3))
    for channel in range(3):
        weights = rng.normal(size=(cutoff, cutoff))
        weights[0, 0] = 0
        waves[:, :, channel] = cosines.T @ weights @ cosines
    waves *= strength / np.abs(waves).max()
    out = changed_by(LowFrequency(cutoff, strength), grey(224, 224))
    assert np.abs(out - waves).max() <= HALF


@pytest.mark.parametrize("cutoff", [2, 6, 40])
def test_low_frequency_noise_has_no_high_frequencies(cutoff: int) -> None:
    change = changed_by(LowFrequency(cutoff), grey(224, 224))
    for channel in range(3):
        spectrum = cv2.dct(change[:, :, channel])
        low = spectrum[:cutoff, :cutoff].copy()
        spectrum[:cutoff, :cutoff] = 0
        # By Parseval, in grey levels: rounding alone leaves 0.29 on the mean and never over 0.5.
        assert np.linalg.norm(spectrum) / 224 < 0.5
        assert abs(low[0, 0]) / 224 < 0.5
        assert np.linalg.norm(low) / 224 > 3


@pytest.mark.parametrize("make", [Blended, LowFrequency, PixelNoise, WaNet])
def test_another_seed_is_another_trigger(make: Callable[..., Trigger]) -> None:
    pixels = smooth(60, 80)
    assert (changed_by(make(), pixels) != changed_by(make(seed=99), pixels)).any()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Blended, {"alpha": 1.1}),
        (Blended, {"alpha": -0.1}),
        (Blended, {"grain": 0}),
        (Blended, {"seed": -1}),
        (Blended, {"picture": "/no/such/file.png"}),
        (Sinusoid, {"delta": 256}),
        (Sinusoid, {"delta": float("nan")}),
        (Sinusoid, {"frequency": -1}),
        (Sinusoid, {"frequency": 113}),
        (WaNet, {"grid": 1}),
        (WaNet, {"grid": 65}),
        (WaNet, {"strength": -1}),
        (WaNet, {"seed": -1}),
        (LowFrequency, {"cutoff": 1}),
        (LowFrequency, {"cutoff": 225}),
        (LowFrequency, {"strength": 256}),
        (LowFrequency, {"seed": -1}),
        (PixelNoise, {"strength": -1}),
        (PixelNoise, {"seed": -1}),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_at_once(
    kind: Callable[..., Trigger], settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**settings)
    assert "\n" not in str(caught.value)
