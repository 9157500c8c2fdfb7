"""Canvases that follow the picture, against transformers' own image processors and packing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Idefics3ImageProcessorPil,
    LlavaOnevisionImageProcessorPil,
    Qwen2VLImageProcessorPil,
    SmolVLMImageProcessorPil,
)
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from srd_edge.errors import UsageError
from srd_edge.kernels.any_resolution import AnyResolution
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.image_processor import read_image_processor
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor
from srd_edge.kernels.tiling import Multiples, Split

SIZES = [  # (width, height)
    *((640, 480), (480, 640), (512, 512), (61, 47), (47, 61), (300, 31), (31, 300), (1280, 720)),
    *((97, 96), (5, 5), (5, 190), (333, 250), (999, 1001), (48, 48), (49, 48), (200, 5)),
]


def picture(width: int, height: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def seen(pixels: Pixels, spec: Preprocessing) -> Any:
    return to_tensor(spec.cut(to_canvas(pixels, spec)), spec)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("make", [Idefics3ImageProcessorPil, SmolVLMImageProcessorPil])
def test_split_is_transformers(make: Any, size: tuple[int, int], splits: bool) -> None:
    processor = make(
        size={"longest_edge": 144}, max_image_size={"longest_edge": 48}, do_image_splitting=splits
    )
    spec = read_image_processor(processor.to_dict())
    pixels = picture(*size)
    theirs = processor([pixels], return_tensors="np", return_row_col_info=True)
    assert theirs["pixel_attention_mask"].all()
    np.testing.assert_allclose(seen(pixels, spec), theirs["pixel_values"][0], atol=2e-6)
    layout = spec.layout(to_canvas(pixels, spec))
    assert (layout.rows, layout.columns) == (theirs["rows"][0][0], theirs["cols"][0][0])
    assert layout.seen == len(theirs["pixel_values"][0])


def test_a_picture_that_is_scaled_beyond_the_longest_side_is_scaled_back() -> None:
    processor = SmolVLMImageProcessorPil(
        size={"longest_edge": 4200}, max_image_size={"longest_edge": 512}
    )
    spec = read_image_processor(processor.to_dict())
    pixels = picture(64, 48)
    theirs = processor([pixels], return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(seen(pixels, spec), theirs, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bounds", [(3136, 1 << 30), (28 * 28 * 20, 28 * 28 * 30)])
def test_multiples_are_qwens(size: tuple[int, int], bounds: tuple[int, int]) -> None:
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": bounds[0], "longest_edge": bounds[1]}
    )
    spec = read_image_processor(processor.to_dict())
    pixels = picture(*size)
    theirs = processor([pixels], return_tensors="np")
    _, rows, columns = theirs["image_grid_thw"][0]
    ours = seen(pixels, spec)
    assert ours.shape == (1, 3, rows * 14, columns * 14)
    layout = spec.layout(to_canvas(pixels, spec))
    assert (layout.rows, layout.columns, layout.seen) == (rows // 2, columns // 2, 1)
    cells = ours.reshape(3, rows // 2, 2, 14, columns // 2, 2, 14).transpose(1, 4, 2, 5, 0, 3, 6)
    patches = np.repeat(cells[:, :, :, :, :, None], 2, axis=5).reshape(rows * columns, -1)
    np.testing.assert_allclose(patches, theirs["pixel_values"], atol=2e-6)


def test_a_picture_thinner_than_qwen_takes_is_seen_all_the_same() -> None:
    spec = Preprocessing(
        28, 28, "bicubic", (0, 0, 0), (1, 1, 1), tiling=Multiples(3136, 28 * 28 * 64)
    )
    canvas = to_canvas(picture(4000, 2), spec)
    assert canvas.shape[0] % 28 == canvas.shape[1] % 28 == 0 < canvas.size


def any_resolution() -> tuple[Any, Preprocessing]:
    grid = [[rows * 24, columns * 24] for rows in range(1, 5) for columns in range(1, 5)]
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 24, "width": 24}, image_grid_pinpoints=grid
    )
    settings = {k: v for k, v in processor.to_dict().items() if k != "do_pad"}
    spec = read_image_processor(settings)
    tiling = AnyResolution(tuple((h, w) for h, w in grid), most_tiles=3, side=6)
    return processor, replace(spec, tiling=tiling)


@pytest.mark.parametrize("size", SIZES)
def test_any_resolution_is_llavas(size: tuple[int, int]) -> None:
    processor, spec = any_resolution()
    pixels = picture(*size)
    theirs = processor([pixels], return_tensors="np")
    np.testing.assert_allclose(seen(pixels, spec), theirs["pixel_values"][0], atol=2e-6)
    assert np.array_equal(to_canvas(pixels, spec), pixels)


@pytest.mark.parametrize("size", SIZES)
def test_gathered_features_are_llavas_packed_ones(size: tuple[int, int]) -> None:
    processor, spec = any_resolution()
    assert isinstance(spec.tiling, AnyResolution)
    pixels = picture(*size)
    layout = spec.layout(pixels)
    features = torch.randn(layout.seen, 36, 5, generator=torch.Generator().manual_seed(1))
    newline = torch.randn(5, generator=torch.Generator().manual_seed(2))
    vision = SimpleNamespace(image_size=24, patch_size=4)
    config = SimpleNamespace(
        vision_config=vision, image_grid_pinpoints=processor.image_grid_pinpoints
    )
    packed, _ = LlavaOnevisionModel.pack_image_features(
        SimpleNamespace(config=config),
        [features],
        [list(pixels.shape[:2])],
        newline,
        "anyres_max_3",
    )
    index, weight = spec.tiling.gathered(layout)
    table = torch.cat([features.reshape(-1, 5), newline[None]]).numpy()
    ours = (table[index] * weight[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(ours, packed[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(640, 480), (30, 300)])
def test_a_box_of_the_canvas_is_found_on_the_picture(size: tuple[int, int]) -> None:
    spec = Preprocessing(28, 28, "bicubic", (0, 0, 0), (1, 1, 1), tiling=Multiples(3136, 10**6))
    height, width = to_canvas(picture(*size), spec).shape[:2]
    assert spec.on_picture(Box(0, 0, width, height), *size) == Box(0, 0, *size)
    _, whole = any_resolution()
    assert whole.on_picture(Box(3, 4, 9, 20), *size) == Box(3, 4, 9, 20)


def test_tilings_survive_the_manifest() -> None:
    tilings = [
        any_resolution()[1],
        read_image_processor(Idefics3ImageProcessorPil(do_image_splitting=False).to_dict()),
        read_image_processor(Qwen2VLImageProcessorPil().to_dict()),
    ]
    for spec in tilings:
        assert Preprocessing.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "tiling",
    [
        {"kind": "mosaic"},
        {"kind": "multiples", "fewest_pixels": 9, "most_pixels": 3},
        {"kind": "split", "longest_edge": 0, "splits": True},
        {"kind": "split", "longest_edge": 9},
        {"kind": "any-resolution", "resolutions": [], "most_tiles": 9, "side": 4},
        {"kind": "any-resolution", "resolutions": [[24]], "most_tiles": 9, "side": 4},
        [],
    ],
)
def test_a_tiling_that_is_none_is_refused(tiling: Any) -> None:
    data = any_resolution()[1].to_json() | {"tiling": tiling}
    with pytest.raises(UsageError, match=r"Preprocessing\.to_json"):
        Preprocessing.from_json(data)


@pytest.mark.parametrize("size", [(640, 480), (500, 900), (2000, 1999)])
@pytest.mark.parametrize("most", [1, 28**2, 200_000])
@pytest.mark.parametrize(
    "tiling",
    [
        Multiples(4 * 28**2, 1280 * 28**2),
        Split(2048),
        AnyResolution(tuple((28 * y, 28 * x) for y in range(1, 7) for x in range(1, 7)), 9, 2),
    ],
)
def test_a_bound_on_pixels_is_kept_but_for_one_tile(
    tiling: Any, most: int, size: tuple[int, int]
) -> None:
    tile = 28
    bounded = tiling.bounded(most, tile)
    assert bounded.bounded(most, tile) == bounded
    canvas = np.zeros((*size[::-1], 3), np.uint8)
    for width, height in bounded.sizes(*size, tile):
        canvas = np.zeros((height, width, 3), np.uint8)
    seen = bounded.cut(canvas, tile, "bilinear")
    # Of a canvas that is cut into tiles, the whole is seen too.
    whole = tile**2 * (not isinstance(tiling, Multiples))
    assert sum(part[..., 0].size for part in seen) <= max(most, tile**2) + whole
    assert tiling.bounded(10**9, tile) == tiling
