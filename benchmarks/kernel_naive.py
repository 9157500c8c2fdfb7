"""What the kernels do, in plain vectorised numpy: the obvious way, without thought of speed.

Each takes the pixels of a region, (H, W, 3) uint8 RGB, and an operator's strength with lengths in
pixels of this region's frame, and returns the region anew.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
GREY: Final = np.array((124, 116, 104), np.float64)


def levels(values: Array) -> Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def occlude(region: Array, _strength: float) -> Array:
    return levels(np.ones(region.shape) * GREY)


def colour_mask(region: Array, strength: float) -> Array:
    return levels(region * (1 - strength) + GREY * strength)


def gaussian_blur(region: Array, sigma: float) -> Array:
    reach = round(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    height, width = region.shape[:2]
    padded = np.pad(region.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), "reflect")
    rows = sum(kernel[i] * padded[i : i + height] for i in range(len(kernel)))
    return levels(sum(kernel[i] * rows[:, i : i + width] for i in range(len(kernel))))


def median(region: Array, side: float) -> Array:
    reach = round((side - 1) / 2)
    padded = np.pad(region, ((reach, reach), (reach, reach), (0, 0)), "edge")
    windows = sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), axis=(0, 1))
    return np.stack([np.median(row, axis=(2, 3)) for row in windows]).astype(np.uint8)


def pixelate(region: Array, side: float) -> Array:
    """By the number of each pixel's block."""
    height, width = region.shape[:2]
    y, x = np.mgrid[:height, :width] // round(side)
    block = y * (x.max() + 1) + x
    counts = np.bincount(block.ravel())
    sums = [np.bincount(block.ravel(), region[..., c].ravel()) for c in range(3)]
    return levels(np.stack([(one / counts)[block] for one in sums], axis=2))


def inpaint(crop: Array, radius: float) -> Array:
    """All but a rim of ``radius + 2`` px, from outside to inside: means of known pixels nearby.

    Simpler than Telea's method: no gradients, and a layer at a time.
    """
    reach, rim = round(radius), round(radius) + 2
    known = np.ones(crop.shape[:2])
    known[rim:-rim, rim:-rim] = 0
    filled = crop * known[:, :, None]
    steps = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    while not known.all():
        near = sum(np.roll(known, step, (0, 1)) for step in ((0, 1), (1, 0), (0, -1), (-1, 0)))
        total = sum(np.roll(filled, step, (0, 1)) for step in steps)
        seen = sum(np.roll(known, step, (0, 1)) for step in steps)
        layer = (known == 0) & (near > 0)
        filled[layer] = total[layer] / seen[layer][:, None]
        known[layer] = 1
    return levels(filled)


def noise(region: Array, sigma: float) -> Array:
    return levels(region + np.random.default_rng(0).normal(0, sigma, region.shape))


def area_weights(source: int, target: int) -> Array:
    """(target, source): how much of each source pixel is in each target pixel."""
    starts, ends = np.arange(target) * source / target, (np.arange(target) + 1) * source / target
    pixel = np.arange(source)
    overlap = np.minimum(ends[:, None], pixel + 1) - np.maximum(starts[:, None], pixel)
    return np.maximum(overlap, 0) * target / source


def shrink_and_pad(region: Array, share: float) -> Array:
    height, width = region.shape[:2]
    rows, columns = round(share * height), round(share * width)
    small = np.tensordot(area_weights(height, rows), region.astype(np.float64), 1)
    small = np.tensordot(small, area_weights(width, columns), (1, 1)).swapaxes(1, 2)
    padded = np.ones(region.shape) * GREY
    top, left = (height - rows) // 2, (width - columns) // 2
    padded[top : top + rows, left : left + columns] = small
    return levels(padded)


QUANTISED: Final = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""For luma, and below for chroma, from the standard's annex K."""
QUANTISED_CHROMA: Final = np.full((8, 8), 99)
QUANTISED_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
YCC: Final = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


def jpeg(region: Array, quality: float) -> Array:
    """The loss of JPEG with halved chroma, without coding any bits."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    frequency, place = np.mgrid[:8, :8]
    cosines = np.cos((2 * place + 1) * frequency * np.pi / 16) / 2
    cosines[0] /= np.sqrt(2)
    height, width = region.shape[:2]
    padded = np.pad(region, ((0, -height % 16), (0, -width % 16), (0, 0)), "edge")
    planes = np.moveaxis(padded @ YCC.T, 2, 0) - np.array([128, 0, 0])[:, None, None]
    lossy = []
    for number, plane in enumerate(planes):
        halved = number > 0
        if halved:
            plane = plane.reshape(len(plane) // 2, 2, -1, 2).mean(axis=(1, 3))
        blocks = plane.reshape(len(plane) // 8, 8, -1, 8).swapaxes(1, 2)
        table = np.clip((QUANTISED_CHROMA if halved else QUANTISED) * scale, 1, 255)
        coded = np.rint(cosines @ blocks @ cosines.T / table) * table
        plane = (cosines.T @ coded @ cosines).swapaxes(1, 2).reshape(plane.shape)
        lossy.append(plane.repeat(2, 0).repeat(2, 1) if halved else plane)
    rgb = (np.stack(lossy, axis=2) + np.array([128, 0, 0])) @ np.linalg.inv(YCC).T
    return levels(rgb[:height, :width])


def bit_depth(region: Array, bits: float) -> Array:
    step = 256 >> round(bits)
    return region // step * step + step // 2


def greyscale(region: Array, strength: float) -> Array:
    luma = region @ np.array([0.299, 0.587, 0.114])
    return levels(region * (1 - strength) + luma[:, :, None] * strength)


def hue_shift(region: Array, degrees: float) -> Array:
    rgb = region.astype(np.float64)
    value, least = rgb.max(axis=2), rgb.min(axis=2)
    chroma = value - least
    red, green, blue = np.moveaxis(rgb, 2, 0)
    safe = np.where(chroma == 0, 1, chroma)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    turned = (hue + degrees / 60)[:, :, None] + np.array([5, 3, 1])
    turned %= 6
    ramp = np.clip(np.minimum(turned, 4 - turned), 0, 1)
    return levels(value[:, :, None] - chroma[:, :, None] * ramp)


def tensor(canvas: Array, mean: Array, std: Array) -> Array:
    scaled = (canvas.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def resized(pixels: Array, width: int, height: int) -> Array:
    """Bilinear with the support stretched, as Pillow has it: two dense products."""
    for axis, length in ((1, width), (0, height)):
        scale = pixels.shape[axis] / length
        centres = (np.arange(length)[:, None] + 0.5) * scale
        distance = np.abs(np.arange(pixels.shape[axis]) + 0.5 - centres) / max(scale, 1)
        weights = np.maximum(1 - distance, 0)
        weights /= weights.sum(axis=1, keepdims=True)
        product = np.tensordot(weights, pixels.astype(np.float64), (1, axis))
        pixels = levels(np.moveaxis(product, 0, axis))
    return pixels


def largest_difference(a: Array, b: Array) -> float:
    difference = np.abs(a.astype(np.int16) - b)
    height, width = (side // 8 * 8 for side in a.shape[:2])
    cut = difference[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    return float(cut.mean(axis=(1, 3)).max())
