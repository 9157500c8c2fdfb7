"""The resize against Pillow, the whole against transformers' own image processor."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from srd_edge.errors import ShapeError, UsageError
from srd_edge.kernels.coefficients import Resample
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.image_processor import read_image_processor
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor

CODES: dict[Resample, int] = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}
SPEC = Preprocessing(128, 128, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def picture(kind: str, height: int, width: int) -> Pixels:
    y, x = np.mgrid[:height, :width]
    if kind == "random":
        return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    if kind == "extremes":
        return np.random.default_rng(5).integers(0, 2, (height, width, 3), np.uint8) * 255
    if kind == "ramp":  # Nearly every resampled value is a tie in rounding.
        return np.stack([x / 5, y / 3, (x + y) / 8], axis=2).astype(np.uint8)
    waves = [127 + 120 * np.sin(x / 90 + y / 70 + channel) for channel in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("source", "target"),  # (width, height)
    [
        ((1280, 720), (128, 128)),
        ((1280, 720), (224, 224)),
        ((333, 251), (97, 131)),
        ((61, 47), (224, 199)),
        ((128, 300), (128, 64)),
        ((300, 128), (64, 128)),
        ((500, 3), (7, 50)),
        ((3, 2), (1, 1)),
        ((1, 1), (5, 4)),
        ((128, 96), (128, 96)),
        # Pillow takes the rows first where they shrink by more than twice what the columns do.
        ((100, 100), (80, 59)),
        ((100, 100), (80, 60)),
        ((31, 300), (20, 20)),
        ((60, 40), (80, 39)),
        ((40, 60), (39, 80)),
    ],
)
@pytest.mark.parametrize("resample", CODES)
def test_canvas_is_pillows_to_the_last_bit(
    resample: Resample, source: tuple[int, int], target: tuple[int, int]
) -> None:
    spec = replace(SPEC, width=target[0], height=target[1], resample=resample)
    for kind in ("random", "extremes", "ramp", "waves"):
        pixels = picture(kind, source[1], source[0])
        expected = np.asarray(Image.fromarray(pixels).resize(target, CODES[resample]))
        np.testing.assert_array_equal(to_canvas(pixels, spec), expected, err_msg=kind)


@pytest.mark.parametrize("size", [(32, 24), (64, 24), (32, 48), (48, 36)])
def test_canvas_is_new_and_takes_any_view(size: tuple[int, int]) -> None:
    base = picture("random", 60, 80)
    spec = replace(SPEC, width=size[0], height=size[1])
    for view in (base[:48:2, :64:2], base[30:6:-1, 40:8:-1, ::-1], base[:32, :24].swapaxes(0, 1)):
        canvas = to_canvas(view, spec)
        assert canvas.flags.c_contiguous
        assert not np.shares_memory(canvas, base)
        assert (canvas == to_canvas(view.copy(order="C"), spec)).all()


def processor(**settings: Any) -> Any:
    # With torchvision, ViTImageProcessor is another backend, which resizes differently.
    pil = getattr(transformers, "ViTImageProcessorPil", transformers.ViTImageProcessor)
    return pil(**settings)


@pytest.mark.parametrize("kind", ["random", "ramp", "waves"])
@pytest.mark.parametrize("resample", CODES)
@pytest.mark.parametrize("through_json", [False, True])
def test_end_to_end_is_transformers(resample: Resample, kind: str, through_json: bool) -> None:
    theirs = processor(
        size={"height": 96, "width": 112},
        resample=CODES[resample],
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    config = json.loads(theirs.to_json_string()) if through_json else theirs.to_dict()
    spec = read_image_processor(config)
    pixels = picture(kind, 240, 320)
    expected = theirs(pixels, return_tensors="np", input_data_format="channels_last")
    tensor = to_tensor(to_canvas(pixels, spec), spec)
    np.testing.assert_allclose(tensor, expected["pixel_values"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(96, 96), (240, 320), (97, 61), (33, 500), (40, 41)])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("edge", "crop"), [(32, (32, 32)), (40, (24, 33)), (33, (8, 7))])
def test_a_crop_is_transformers(
    size: tuple[int, int], resample: Resample, edge: int, crop: tuple[int, int]
) -> None:
    theirs = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": edge},
        crop_size={"height": crop[0], "width": crop[1]},
        resample=CODES[resample],
    )
    spec = read_image_processor(theirs.to_dict())
    pixels = picture("random", *size)
    expected = theirs(pixels, return_tensors="np", input_data_format="channels_last")
    tensor = to_tensor(to_canvas(pixels, spec), spec)
    np.testing.assert_allclose(tensor, expected["pixel_values"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(240, 320), (97, 61), (33, 500)])
def test_a_box_of_the_canvas_is_found_on_the_picture(size: tuple[int, int]) -> None:
    height, width = size
    spec = replace(SPEC, width=32, height=32, shortest_edge=36)
    pixels = np.zeros((height, width, 3), np.uint8)
    box = spec.on_picture(Box(8, 4, 24, 20), width, height)
    pixels[box.top : box.bottom, box.left : box.right] = 255
    canvas = to_canvas(pixels, spec)[..., 0]
    assert canvas[6:18, 10:22].min() > 200
    canvas[3:21, 7:25] = 0
    assert canvas.max() < 60
    stretched = replace(spec, shortest_edge=None).on_picture(Box(8, 4, 24, 20), width, height)
    assert stretched == Box(8, 4, 24, 20).scaled(width / 32, height / 32)


@pytest.mark.parametrize("switched_off", ["do_rescale", "do_normalize"])
def test_steps_switched_off_are_left_out(switched_off: str) -> None:
    theirs = processor(size={"height": 20, "width": 20}, **{switched_off: False})
    spec = read_image_processor(theirs.to_dict())
    pixels = picture("random", 31, 33)
    expected = theirs(pixels, return_tensors="np", input_data_format="channels_last")
    tensor = to_tensor(to_canvas(pixels, spec), spec)
    np.testing.assert_allclose(tensor, expected["pixel_values"], rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 1, 1), (3, 1, 7), (2, 7, 1)])
def test_tensor_of_a_batch_against_plain_loops(shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    batch = picture("random", count * height, width).reshape(*shape, 3)
    expected = np.empty((count, 3, height, width))
    for b, c, y, x in np.ndindex(expected.shape):
        expected[b, c, y, x] = (batch[b, y, x, c] / 255 - SPEC.mean[c]) / SPEC.std[c]
    out = np.empty((2 * count, 3, height, width), np.float32)[::2]
    assert to_tensor(batch, SPEC, out) is out
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(to_tensor(batch[-1, :, ::-1], SPEC)[0], out[-1, :, :, ::-1])


@pytest.mark.parametrize(
    ("pixels", "out"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.float32)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4))),
    ],
)
def test_wrong_arrays_are_refused(pixels: Any, out: Any) -> None:
    with pytest.raises(ShapeError):
        to_tensor(pixels, SPEC, out)
    if out is None:
        with pytest.raises(ShapeError):
            to_canvas(pixels, SPEC)


def test_json_round_trip() -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


@pytest.mark.parametrize(
    "damage",
    [
        {"width": 0},
        {"width": "wide"},
        {"height": None},
        {"resample": "hamming"},
        {"resample": ["box"]},
        {"mean": [0.5, 0.5]},
        {"mean": "grey"},
        {"std": [1, 0, 1]},
        {"std": [1, float("nan"), 1]},
        {"rescale": float("inf")},
        {"rescale": ...},
    ],
)
def test_bad_json_is_refused(damage: dict[str, Any]) -> None:
    data = {k: v for k, v in (SPEC.to_json() | damage).items() if v is not ...}
    with pytest.raises(UsageError):
        Preprocessing.from_json(data)


OLD_CONFIG = {
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": 0.5,
    "resample": 2,
    "size": 224,
}


def test_old_configuration_with_one_number() -> None:
    expected = Preprocessing(224, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert read_image_processor(OLD_CONFIG) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"shortest_edge": 224}},
        {"size": {"height": 224, "width": 224, "longest_edge": 384}},
        {"size": ...},
        {"size": "large"},
        {"resample": 5},
        {"resample": ...},
        {"image_mean": None},
        {"do_resize": False},
        {"do_center_crop": True},
        {"do_center_crop": True, "crop_size": 100},
        {"do_center_crop": True, "crop_size": 225, "size": {"shortest_edge": 224}},
        {"do_pad": True},
        {"do_image_splitting": True},
        {"rescale_offset": True},
    ],
)
def test_what_cannot_be_honoured_is_refused(change: dict[str, Any]) -> None:
    config = {k: v for k, v in (OLD_CONFIG | change).items() if v is not ...}
    with pytest.raises(UsageError):
        read_image_processor(config)
