"""Graphs that exist already become a bundle: a merged decoder, or two; and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from srd_edge.cli import cli
from srd_edge.errors import UsageError
from srd_edge.export.graph_check import check_graph
from srd_edge.export.graphs import convert
from srd_edge.export.inspection import verify_bundle
from srd_edge.export.onnx_directory import OnnxDirectoryConfig, bundle_directory
from srd_edge.export.parity import is_tied, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.runtime.bundle import Bundle, read_bundle, write_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import open_decoder
from tests.export.layouts import apart, directory_of, parts_of
from tests.export.spoilt_directories import (
    REFUSED,
    chosen_by_the_flag_again,
    chosen_by_the_picture,
    chosen_within,
)
from tests.export.without_torch import without_torch

LONGEST = 9
Made = Callable[[str], dict[str, onnx.ModelProto]]


@pytest.fixture(scope="module")
def made(vit_gpt2_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The graphs of a kind, made when they are asked for."""
    model = open_source(vit_gpt2_model).captioner.model

    @cache
    def parts(kind: str) -> dict[str, onnx.ModelProto]:
        return parts_of(model, tmp_path_factory.mktemp(kind), keeps=kind == "kept")

    return parts


def bundle_of(directory: Path, output: Path, **settings: Any) -> Bundle:
    return bundle_directory(OnnxDirectoryConfig(directory, output, **settings), lambda _: None)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("layout", ["transformers.js", "optimum"])
@pytest.mark.parametrize("kind", ["kept", "recomputed"])
def test_captions_are_transformers_own(
    vit_gpt2_model: Path,
    made: Made,
    pictures: list[Any],
    tmp_path: Path,
    kind: str,
    layout: str,
    beams: int,
) -> None:
    settings: dict[str, Any] = {"beams": beams, "max_new_tokens": LONGEST, "prompt": "w3 w14"}
    directory = directory_of(vit_gpt2_model, made(kind), tmp_path / "model", layout)
    bundle = bundle_of(directory, tmp_path / "bundle", **settings)
    source = open_source(vit_gpt2_model, **settings)
    manifest = bundle.manifest
    assert manifest.captioner.decoding == {"optimum": "with-past"}.get(layout, "merged")
    assert manifest.preprocessing == source.captioner.preprocessing
    assert manifest.generation == source.generation
    assert manifest.observation is not None
    assert (manifest.observation.rows, manifest.observation.columns) == (4, 4)
    assert verify_bundle(bundle) == []
    canvases = source.captioner.canvases(pictures)
    truth = transformers_tokens(source, source.generation, list(canvases))
    runtime = OnnxCaptioner(bundle, "cpu")
    said = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
    differing = [n for n, (s, t) in enumerate(zip(said, truth, strict=True)) if s != t]
    assert all(is_tied(runtime, canvases[n], said[n], truth[n]) for n in differing)
    assert len(differing) <= 2
    assert len({tuple(row) for row in truth}) > 8, "captions that are all the same prove little"


@pytest.mark.parametrize(("precision", "suffix"), [("fp16", "_fp16"), ("int8", "_quantized")])
def test_other_precisions_go_by_their_suffix(
    vit_gpt2_model: Path,
    made: Made,
    pictures: list[Any],
    tmp_path: Path,
    precision: Literal["fp16", "int8"],
    suffix: str,
) -> None:
    """Decoders of another precision, and in half precision their caches too."""
    graphs = dict(made("kept"))
    for name in ("decoder_model", "decoder_with_past_model"):
        onnx.save(graphs[name], tmp_path / "fp32.onnx")
        convert(tmp_path / "fp32.onnx", tmp_path / "other.onnx", precision, None)
        graphs[name] = onnx.load(tmp_path / "other.onnx")
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    other = directory_of(vit_gpt2_model, graphs, tmp_path / "other", "transformers.js")
    for path in (other / "onnx").iterdir():
        path.rename(directory / "onnx" / f"{path.stem}{suffix}.onnx")
    full = bundle_of(directory, tmp_path / "full", max_new_tokens=LONGEST)
    bundle = bundle_of(directory, tmp_path / "bundle", precision=precision, max_new_tokens=LONGEST)
    assert bundle.manifest.precision == precision
    assert bundle.manifest.captioner.components == {
        "encoder": f"encoder_model{suffix}.onnx",
        "decoder": f"decoder_model_merged{suffix}.onnx",
    }
    canvases = open_source(vit_gpt2_model).captioner.canvases(pictures)
    truth, said = (OnnxCaptioner(one, "cpu").caption_batch(canvases) for one in (full, bundle))
    assert sum(s == t for s, t in zip(said, truth, strict=True)) >= len(truth) * 3 // 4


def test_a_second_call_of_several_tokens_says_what_one_call_says(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    bundle = bundle_of(directory, tmp_path / "bundle")
    runtime, decoder = OnnxCaptioner(bundle, "cpu"), open_decoder(bundle, "cpu", strict=True)
    encoded = runtime.encode(np.full((32, 32, 3), 90, np.uint8))
    ids = np.array([[1, 20, 33, 47, 60]], np.int64)
    at_once, _ = decoder.advance(decoder.start(encoded), ids)
    first, state = decoder.advance(decoder.start(encoded), ids[:, :2])
    rest, state = decoder.advance(state, ids[:, 2:])
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), at_once, atol=1e-4)
    assert state.said == 5


def test_it_is_done_where_nothing_heavy_is_installed(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    bundle = str(tmp_path / "bundle")
    run = ["run", "--bundle", bundle, "--video", "demo", "--max-frames", "1", "--no-defense"]
    export = ["export", "--captioner", str(directory), "-o", bundle, "--max-tokens", "5"]
    done = [without_torch(*words) for words in (export, ["verify", bundle], run)]
    told, verified, captioned = done
    assert "decoder: decoder_model_merged.onnx" in told.stderr
    assert f"next: srd-edge run --bundle {bundle} --video demo --no-defense" in told.stderr
    assert "but use_cache_branch" in verified.stdout
    assert json.loads(captioned.stdout.splitlines()[0])["caption"].startswith("w")
    assert "parity" not in read_bundle(bundle).manifest.parity
    assert read_bundle(bundle).manifest.provenance["parity"].startswith("not measured")


def test_weights_beside_a_graph_come_along(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    whole = bundle_of(directory, tmp_path / "whole")
    apart(directory / "onnx" / "decoder_model_merged.onnx", "decoder_model_merged.onnx_data")
    bundle = bundle_of(directory, tmp_path / "bundle")
    names = {entry.path for entry in bundle.manifest.files}
    assert "decoder_model_merged.onnx_data" in names
    assert verify_bundle(bundle) == []
    grey = np.full((32, 32, 3), 90, np.uint8)
    for one in (whole, bundle):
        runtime = OnnxCaptioner(one, "cpu")
        assert (said := runtime.generate(runtime.encode(grey)).text)
        assert said == OnnxCaptioner(whole, "cpu").caption_batch(grey[None])[0]


def test_nodes_out_of_order_are_put_in_order(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    path = directory / "onnx" / "encoder_model.onnx"
    model = onnx.load(path)
    backwards = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    onnx.save(model, path)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(path)
    bundle = bundle_of(directory, tmp_path / "bundle")
    onnx.checker.check_model(bundle.path("encoder_model.onnx"))
    whole = bundle_of(
        directory_of(vit_gpt2_model, made("kept"), tmp_path / "whole", "transformers.js"),
        tmp_path / "other",
    )
    canvas = np.full((32, 32, 3), 90, np.uint8)
    seen, truth = (OnnxCaptioner(one, "cpu").encode(canvas).features for one in (bundle, whole))
    np.testing.assert_array_equal(seen, truth)


def test_the_hubs_cache_is_read_through_its_links(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    files = directory_of(vit_gpt2_model, made("kept"), tmp_path / "files", "transformers.js")
    apart(files / "onnx" / "encoder_model.onnx", "encoder_model.onnx_data")
    model = tmp_path / "models--someone--captioner"
    snapshot = model / "snapshots" / "0123abcd"
    (model / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in files.rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = shutil.copy(path, model / "blobs" / f"{number:08x}")
        link.symlink_to(os.path.relpath(blob, link.parent))
    bundle = bundle_of(snapshot, tmp_path / "bundle")
    assert not any(path.is_symlink() for path in bundle.directory.iterdir())
    assert verify_bundle(bundle) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_in_one_line_and_leaves_nothing(
    vit_gpt2_model: Path, made: Made, tmp_path: Path, name: str
) -> None:
    change, settings, words = REFUSED[name]
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    change(directory)
    with pytest.raises(UsageError) as caught:
        bundle_of(directory, tmp_path / "out" / "bundle", **settings)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [chosen_by_the_picture, chosen_within, chosen_by_the_flag_again])
def test_verify_reports_every_choice_but_the_declared_one(
    vit_gpt2_model: Path, made: Made, tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    bundle = bundle_of(directory, tmp_path / "bundle")
    file = bundle.manifest.captioner.components["decoder"]
    files: dict[str, bytes | Path] = {
        entry.path: bundle.path(entry.path) for entry in bundle.manifest.files
    }
    model = onnx.load(bundle.path(file))
    change(model)
    files[file] = model.SerializeToString()
    poisoned = write_bundle(tmp_path / "poisoned", replace(bundle.manifest, files=()), files)
    findings = verify_bundle(poisoned)
    assert {finding.graph for finding in findings} == {file}
    assert any("a choice by what is seen or said" in finding.what for finding in findings)


def test_a_bundle_that_does_not_say_merged_may_not_be(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "transformers.js")
    bundle = bundle_of(directory, tmp_path / "bundle")
    path = bundle.path(bundle.manifest.captioner.components["decoder"])
    assert check_graph(path, decoding="merged") == []
    for decoding in (None, "with-past", "cross-attention"):
        whats = [finding.what for finding in check_graph(path, decoding=decoding)]
        assert "the operator If" in whats


def test_the_command_refuses_what_makes_no_sense(
    vit_gpt2_model: Path, made: Made, tmp_path: Path
) -> None:
    directory = directory_of(vit_gpt2_model, made("kept"), tmp_path / "model", "optimum")
    words = ["export", "--captioner", str(directory), "-o", str(tmp_path / "bundle")]
    for flag in ("--policy", "--data", "--target"):
        refused = CliRunner().invoke(cli, [*words, flag, str(tmp_path)])
        assert isinstance(refused.exception, UsageError)
        assert f"found {flag}" in str(refused.exception)
    assert not (tmp_path / "bundle").exists()
    assert CliRunner().invoke(cli, [*words, "--beams", "2"]).exit_code == 0
    assert read_bundle(tmp_path / "bundle").manifest.generation.beams == 2
    again = CliRunner().invoke(cli, words)
    assert "does not exist yet" in str(again.exception)
    assert CliRunner().invoke(cli, [*words, "--overwrite"]).exit_code == 0
