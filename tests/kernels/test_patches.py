"""Rows of patches are those of transformers' image processor."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import Qwen2VLImageProcessorPil

from srd_edge.errors import UsageError
from srd_edge.kernels.patches import Patches
from srd_edge.kernels.preprocess import Preprocessing, to_canvas
from srd_edge.kernels.tiling import Multiples
from srd_edge.kernels.tiling_records import read_tiling
from srd_edge.runtime.picture_inputs import encoder_inputs

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATCHES = Patches(side=4, frames=2)
LOOK = Preprocessing(8, 8, "bicubic", *CLIP, tiling=Multiples(512, 4096, PATCHES))


@pytest.mark.parametrize("size", [(30, 50), (61, 17), (8, 8)])
@pytest.mark.parametrize("name", ["image_grid_thw", "grid_thw"])
def test_an_encoder_is_given_what_transformers_gives_it(size: tuple[int, int], name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 512, "longest_edge": 4096}
    )
    theirs = processor(pixels, return_tensors="np")
    ours = encoder_inputs(to_canvas(pixels, LOOK), LOOK, ["pixel_values", name])
    assert list(ours) == ["pixel_values", name]
    np.testing.assert_allclose(ours["pixel_values"], theirs["pixel_values"], atol=2e-6)
    np.testing.assert_array_equal(ours[name], theirs["image_grid_thw"])


def test_patches_survive_the_manifest_and_bundles_of_before_have_none() -> None:
    assert LOOK.tiling is not None
    written = LOOK.tiling.to_json()
    assert read_tiling(written) == LOOK.tiling
    del written["patches"]
    assert read_tiling(written) == Multiples(512, 4096)
    assert Multiples(512, 4096).to_json() == written


@pytest.mark.parametrize("patches", [{"side": 0, "frames": 2}, {"side": 4, "frames": 10**9}])
def test_patches_that_cannot_be_are_refused(patches: dict[str, int]) -> None:
    kind = {"kind": "multiples", "fewest_pixels": 512, "most_pixels": 4096}
    with pytest.raises(ValueError, match=r"positive|frames"):
        read_tiling({**kind, "patches": patches})
    with pytest.raises(UsageError, match="whole patches"):
        Preprocessing(8, 8, "bicubic", *CLIP, tiling=Multiples(512, 4096, Patches(3, 1)))
