"""What json files leave out is filled in as transformers fills it in, without transformers."""

from __future__ import annotations

import pytest
import transformers

from srd_edge.export.generation import generation_defaults, settings_of_config
from srd_edge.export.processor_defaults import DEFAULTS, read_preprocessing


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_of_image_processors_are_transformers(name: str) -> None:
    own = getattr(transformers, f"{name}ImageProcessorPil")().to_dict()
    for key, value in DEFAULTS[name].items():
        assert (tuple(own[key]) if isinstance(value, list) else own[key]) == (
            tuple(value) if isinstance(value, list) else value
        )
    unsaid = {key: value for key, value in own.items() if key.startswith("do_") and value}
    assert set(unsaid) - set(DEFAULTS[name]) <= {
        *("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"),
    }


def test_old_image_processors_are_understood() -> None:
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 96, "do_convert_rgb": None}
    assert read_preprocessing(old).to_json() == {
        "width": 96,
        "height": 96,
        "resample": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "rescale": 1 / 255,
        "shortest_edge": None,
        "tiling": None,
    }
    cut = {"image_processor_type": "CLIPImageProcessorFast", "size": 128, "crop_size": 96}
    found = read_preprocessing(cut)
    assert (found.shortest_edge, found.width, found.resample) == (128, 96, "bicubic")


def test_an_old_configuration_has_the_generation_settings_of_its_decoder() -> None:
    decoder = {"num_beams": 4, "max_length": 16, "eos_token_id": 2, "no_repeat_ngram_size": 3}
    config = {
        "decoder": decoder,
        "num_beams": 1,
        "max_length": 20,
        "no_repeat_ngram_size": 2,
        "eos_token_id": None,
    }
    found = generation_defaults(settings_of_config(config), (1,), (2,))
    assert (found.beams, found.max_new_tokens, found.no_repeat_ngram) == (4, 15, 2)
    assert settings_of_config(config)["eos_token_id"] == 2
