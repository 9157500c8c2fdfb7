"""Captioners whose decoder reads embeddings, as onnx-community publishes them, become bundles."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime.transformers.float16 import convert_float_to_float16

from srd_edge.cli import cli
from srd_edge.errors import UsageError
from srd_edge.export.hub_prompts import chat_template, special_tokens
from srd_edge.export.inspection import verify_bundle
from srd_edge.export.onnx_directory import OnnxDirectoryConfig, bundle_directory
from srd_edge.export.parity import is_tied, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.kernels.tiling import Multiples
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import ObservationSpec
from srd_edge.runtime.captioning import OnnxCaptioner
from tests.export.published import halve_cache, publish
from tests.export.spoilt_published import REFUSED
from tests.export.without_torch import without_torch

LONGEST = 9
OPTIONS: dict[str, dict[str, bool]] = {
    "paligemma": {},
    "paligemma-2": {"keeps": True},
    "llava": {"chooses": True},
    "smolvlm": {"keeps": True},
    "idefics3": {},
    "qwen2-vl": {},
    "qwen2.5-vl": {"keeps": True},
}
"""By captioner, what its decoder's graph has."""


@pytest.fixture(scope="session")
def published(
    saved: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The directory of a captioner by its name, made when it is asked for."""

    def made(name: str) -> Path:
        return publish(saved(name), tmp_path_factory.mktemp(name) / "model", **OPTIONS[name])

    return cache(made)


def bundle_of(directory: Path, output: Path, **settings: Any) -> Bundle:
    return bundle_directory(OnnxDirectoryConfig(directory, output, **settings), lambda _: None)


@pytest.mark.parametrize("name", OPTIONS)
def test_captions_are_transformers_own(
    saved: Callable[[str], Path],
    published: Callable[[str], Path],
    pictures: list[Any],
    tmp_path: Path,
    name: str,
) -> None:
    told = set()
    for prompt, beams in itertools.product(("", "w3 w14 w15"), (1, 3)):
        settings: dict[str, Any] = {"prompt": prompt, "beams": beams, "max_new_tokens": LONGEST}
        bundle = bundle_of(published(name), tmp_path / f"{beams}{prompt}", **settings)
        assert verify_bundle(bundle) == []
        source, manifest = open_source(saved(name), **settings), bundle.manifest
        assert manifest.generation == source.generation
        theirs = source.spec(dict(manifest.captioner.components))
        assert replace(manifest.captioner, decoding="prefix") == theirs
        look, tiling = manifest.preprocessing, manifest.preprocessing.tiling
        if isinstance(tiling, Multiples):
            look = replace(look, tiling=replace(tiling, patches=None))
        assert look == source.captioner.preprocessing
        canvases = [to_canvas(pixels, look) for pixels in pictures[:8]]
        truth = transformers_tokens(source, source.generation, canvases)
        runtime = OnnxCaptioner(bundle, "cpu")
        said = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
        differing = [n for n, (s, t) in enumerate(zip(said, truth, strict=True)) if s != t]
        assert all(is_tied(runtime, canvases[n], said[n], truth[n]) for n in differing)
        assert len(differing) <= 1
        told |= {tuple(row) for row in truth}
    assert len(told) > 8, "captions that are all the same prove little"


@pytest.mark.parametrize("name", ["paligemma", "qwen2-vl"])
def test_what_is_read_at_once_is_as_likely_as_what_was_said_word_by_word(
    published: Callable[[str], Path], pictures: list[Any], tmp_path: Path, name: str
) -> None:
    """Also of two views of a picture, each as likely as the picture."""
    bundle = bundle_of(published(name), tmp_path / "bundle", max_new_tokens=LONGEST)
    runtime = OnnxCaptioner(bundle, "cpu")
    canvas = to_canvas(pixels_of(pictures), bundle.manifest.preprocessing)
    encoded, twice = runtime.encode(canvas), runtime.encode_views(np.stack([canvas, canvas]))
    made = runtime.generate(encoded)
    assert twice.rows == 2
    assert runtime.generate(twice).tokens == made.tokens
    for seen in (encoded, twice):
        likely = runtime.log_probability(seen, made.text, finished=made.ended)
        assert likely == pytest.approx(made.log_probability, abs=1e-3)


def pixels_of(pictures: list[Any]) -> Any:
    """One that is not square."""
    return next(pixels for pixels in pictures if pixels.shape[0] * 1.4 < pixels.shape[1])


def test_half_precision_goes_from_graph_to_graph(
    published: Callable[[str], Path], pictures: list[Any], tmp_path: Path
) -> None:
    """Pixels, features and caches in float16, words in float16 for a decoder that wants float32."""
    directory = shutil.copytree(published("paligemma"), tmp_path / "model")
    place = directory / "onnx"
    for stem in ("vision_encoder", "embed_tokens"):
        half = convert_float_to_float16(
            onnx.load(place / f"{stem}.onnx"), op_block_list=["Range", "Softmax"]
        )
        onnx.save(half, place / f"{stem}_fp16.onnx")
    decoder = onnx.load(place / "decoder_model_merged.onnx")
    halve_cache(decoder)
    onnx.save(decoder, place / "decoder_model_merged_fp16.onnx")
    full = OnnxCaptioner(bundle_of(directory, tmp_path / "full", max_new_tokens=LONGEST), "cpu")
    settings: dict[str, Any] = {"precision": "fp16", "max_new_tokens": LONGEST}
    bundle = bundle_of(directory, tmp_path / "half", **settings)
    assert bundle.manifest.precision == "fp16"
    assert bundle.manifest.captioner.components["embed_tokens"] == "embed_tokens_fp16.onnx"
    half = OnnxCaptioner(bundle, "cpu")
    canvases = [to_canvas(pixels, bundle.manifest.preprocessing) for pixels in pictures[:16]]
    said = [[one.generate(one.encode(c)).tokens for c in canvases] for one in (full, half)]
    assert sum(f == h for f, h in zip(*said, strict=True)) >= 12


def test_a_policy_may_look_at_the_features_of_a_picture_of_fixed_size(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    manifest = bundle_of(published("llava"), tmp_path / "llava").manifest
    assert manifest.observation == ObservationSpec(
        rows=4, columns=4, channels=16, tensor="image_features"
    )
    assert bundle_of(published("smolvlm"), tmp_path / "smolvlm").manifest.observation is None


@pytest.mark.parametrize("name", ["llava", "smolvlm", "qwen2-vl"])
def test_the_commands_know_such_bundles(
    published: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    bundle = str(tmp_path / "bundle")
    words = ["export", "--captioner", str(published(name)), "-o", bundle, "--max-tokens", "5"]
    for command in (words, ["verify", bundle], ["inspect", bundle], ["inspect", bundle, "--json"]):
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert done.exit_code == 0
    described = json.loads(done.stdout)
    assert described["decoding"] == "merged-prefix"
    assert described["graphs"]["decoder_model_merged.onnx"]["role"] == "decoder"
    told = CliRunner().invoke(cli, ["doctor", "--bundle", bundle, "--json"])
    assert json.loads(told.stdout)["providers"]["cpu"]["works"]


def test_it_is_done_where_nothing_heavy_is_installed(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = str(tmp_path / "bundle")
    export = ["export", "--captioner", str(published("llava")), "-o", bundle, "--max-tokens", "5"]
    run = ["run", "--bundle", bundle, "--video", "demo", "--max-frames", "1", "--no-defense"]
    without_torch(*export)
    verified = without_torch("verify", bundle)
    captioned = without_torch(*run)
    assert "but use_cache_branch" in verified.stdout
    assert json.loads(captioned.stdout.splitlines()[0])["caption"].startswith("w")


def test_settings_may_lie_in_the_processors_file(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    """And bounds of the picture's size under the names that they had."""
    directory = shutil.copytree(published("qwen2-vl"), tmp_path / "model")
    before = bundle_of(directory, tmp_path / "before").manifest.preprocessing
    path = directory / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.unlink()
    bounds = settings.pop("size")
    settings |= {"min_pixels": bounds["shortest_edge"], "max_pixels": bounds["longest_edge"]}
    (directory / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert bundle_of(directory, tmp_path / "after").manifest.preprocessing == before


def test_a_chat_template_is_found_wherever_it_is_kept(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    several = [{"name": "tool", "template": "no"}, {"name": "default", "template": "last"}]
    settings = {"chat_template": several, "bos_token": {"content": "<s>"}, "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert chat_template(tmp_path) == "last"
    assert special_tokens(tmp_path) == {"bos_token": "<s>"}
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "second"}))
    assert chat_template(tmp_path) == "second"
    (tmp_path / "chat_template.jinja").write_text("first")
    assert chat_template(tmp_path) == "first"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_in_one_line_and_leaves_nothing(
    published: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    change, words = REFUSED[name]
    directory = shutil.copytree(published("llava"), tmp_path / "model")
    change(directory)
    with pytest.raises(UsageError) as caught:
        bundle_of(directory, tmp_path / "out" / "bundle")
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
