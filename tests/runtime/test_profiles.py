"""Profiles: of records, and wide enough for every shape that captioning really feeds a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import BundleError
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.bundle_specs import CaptionerSpec
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.check_specs import LanguageSpec
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.graph_header import GraphValue, read_header
from srd_edge.runtime.profiles import (
    Profile,
    Range,
    captioner_ranges,
    language_ranges,
    may_be_empty,
    picture_features,
    policy_ranges,
    profile,
    profile_options,
    warm_up_shapes,
)

GENERATION = GenerationDefaults(prompt=(1, 2), end_tokens=(3,), max_new_tokens=20, beams=3)
CROSS = CaptionerSpec("vit", "cross-attention", {}, layers=1, heads=4, head_dim=8)
PREFIX = CaptionerSpec("llava", "prefix", {}, 1, 4, 8, before=(1, 2, 3), after=(4, 5))
PIXELS = GraphValue("pixel_values", ("batch", 3, 224, 224))
IDS = GraphValue("input_ids", ("batch", "sequence"))
PAST = GraphValue("past_key_values.0.key", ("batch", 4, "past", 8))


def shapes_of(value: GraphValue, ranges: Any) -> tuple[Any, ...]:
    (found,) = profile([value], ranges)
    return found.least, found.usual, found.most


def test_an_encoder_sees_one_picture_or_all_views_of_it() -> None:
    one = captioner_ranges(CROSS, GENERATION, "encoder", 196)
    assert shapes_of(PIXELS, one) == ((1, 3, 224, 224),) * 3
    four = captioner_ranges(CROSS, GENERATION, "encoder", 196, views=4)
    assert [dims[0] for dims in shapes_of(PIXELS, four)] == [1, 4, 4]


def test_a_cross_attention_decoder() -> None:
    ranges = captioner_ranges(CROSS, GENERATION, "decoder", 197, views=2)
    assert shapes_of(IDS, ranges) == ((1, 1), (6, 1), (6, 21))
    # 2 of the prompt and 19 of the caption are read, 20 of them before the last.
    assert [dims[2] for dims in shapes_of(PAST, ranges)] == [1, 10, 20]
    picture = GraphValue("past_key_values.0.encoder.key", ("batch", 4, "picture", 8))
    assert [dims[2] for dims in shapes_of(picture, ranges)] == [197] * 3


def test_a_prefix_decoder() -> None:
    ranges = captioner_ranges(PREFIX, GENERATION, "decoder", 576)
    embeds = GraphValue("inputs_embeds", ("batch", "sequence", 64))
    assert [dims[1] for dims in shapes_of(embeds, ranges)] == [1, 1, 581]
    assert [dims[2] for dims in shapes_of(PAST, ranges)] == [1, 591, 601]
    assert shapes_of(GraphValue("logits_to_keep", ("kept",)), ranges) == ((1,), (1,), (21,))
    tokens = captioner_ranges(PREFIX, GENERATION, "embed_tokens", 576)
    assert shapes_of(IDS, tokens) == ((1, 1), (3, 1), (3, 21))


def test_the_shortest_caption_has_a_profile_too() -> None:
    shortest = replace(GENERATION, prompt=(), max_new_tokens=1, beams=1)
    ranges = captioner_ranges(CROSS, shortest, "decoder", 4)
    assert shapes_of(PAST, ranges) == ((1, 4, 1, 8),) * 3
    assert shapes_of(IDS, ranges) == ((1, 1),) * 3


def test_policy_and_language_model() -> None:
    features = GraphValue("encoder_hidden_states", ("batch", 36, 128))
    assert shapes_of(features, policy_ranges()) == ((1, 36, 128),) * 3
    tokens = GraphValue("input_ids", ("batch", "tokens"))
    spec = LanguageSpec("l.onnx", "t.json", start_token=0, end_token=1, max_tokens=32)
    assert shapes_of(tokens, language_ranges(spec, 20)) == ((1, 2), (1, 22), (1, 32))
    assert shapes_of(tokens, language_ranges(spec, 100)) == ((1, 2), (1, 32), (1, 32))


def test_the_syntax_is_onnxruntimes() -> None:
    ranges = captioner_ranges(CROSS, GENERATION, "decoder", 4)
    fixed = GraphValue("fixed", (1, 2))
    options = profile_options(profile([PIXELS, fixed, IDS], ranges))
    assert options == {
        "trt_profile_min_shapes": "pixel_values:1x3x224x224,input_ids:1x1",
        "trt_profile_opt_shapes": "pixel_values:3x3x224x224,input_ids:3x1",
        "trt_profile_max_shapes": "pixel_values:3x3x224x224,input_ids:3x21",
    }
    assert profile_options(profile([fixed], ranges)) == {}


@pytest.mark.parametrize("name", ["a:b", "a,b"])
def test_a_name_that_the_syntax_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="colon or comma"):
        profile_options(profile([GraphValue(name, ("batch",))], policy_ranges()))


@pytest.mark.parametrize("axis", ["", "s99", "frames"])
def test_an_unknown_axis_is_refused(axis: str) -> None:
    with pytest.raises(BundleError, match="axes out of batch"):
        profile([GraphValue("x", (axis, 3))], policy_ranges())


def test_the_shapes_to_warm_up() -> None:
    ranges = captioner_ranges(CROSS, GENERATION, "decoder", 4)
    usual, most = warm_up_shapes(profile([IDS, PAST], ranges))
    assert usual == {"input_ids": (3, 1), "past_key_values.0.key": (3, 4, 10, 8)}
    assert most == {"input_ids": (3, 21), "past_key_values.0.key": (3, 4, 20, 8)}
    assert warm_up_shapes(profile([PIXELS], policy_ranges())) == [{PIXELS.name: (1, 3, 224, 224)}]


def test_only_a_past_may_be_empty() -> None:
    assert may_be_empty([IDS, PAST])
    assert not may_be_empty([IDS, PIXELS])


@pytest.mark.parametrize("triple", [(0, 1, 1), (2, 1, 3), (1, 3, 2)])
def test_a_range_rises_from_1(triple: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no range"):
        Range(*triple)


@pytest.mark.parametrize("dims", [(), ("batch", 4, "s3", 8), ("batch", 4, 0, 8)])
def test_features_of_unknown_number_are_refused(dims: Any) -> None:
    outputs = [GraphValue("present.0.encoder.key", dims)] if dims else []
    with pytest.raises(BundleError, match="fixed number of features"):
        picture_features(CROSS, outputs)


def within(shapes: Profile, fed: dict[str, tuple[int, ...]]) -> bool:
    return all(
        low <= length <= high
        for shape in shapes
        for low, length, high in zip(shape.least, fed[shape.name], shape.most, strict=True)
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_captioning_stays_inside_but_for_an_empty_past(
    toy_bundle: Path, beams: int, watch: Callable[[Any], dict[str, Any]]
) -> None:
    bundle = read_bundle(toy_bundle)
    manifest = bundle.manifest
    generation = replace(manifest.generation, beams=beams, end_tokens=(10**6,))
    bundle = Bundle(bundle.directory, replace(manifest, generation=generation))
    captioner = OnnxCaptioner(bundle, "cpu")
    watched = watch(captioner)
    canvas = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    seen = captioner.encode(canvas)
    captioner.generate(seen)
    captioner.log_probability(seen, "a red square and a blue circle and a green triangle")
    encoder, spec = read_header(bundle.path("encoder_model.onnx")), manifest.captioner
    features = picture_features(spec, encoder.outputs)
    for component, graph in watched.items():
        header = read_header(bundle.path(spec.components[component]))
        ranges = captioner_ranges(spec, generation, component, features)
        shapes = profile(header.inputs, ranges)
        filled = [call for call in graph.fed if all(0 not in dims for dims in call.values())]
        assert filled
        assert all(within(shapes, call) for call in filled)
        past = "past_key_values.0.decoder.key"
        longest = max((call[past][2] for call in filled if past in call), default=0)
        if component == "decoder":
            assert longest == ranges["past"].most
