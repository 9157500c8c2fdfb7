"""A target chooses the precision, refuses what it cannot run, and says what its device needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from srd_edge.errors import UsageError
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.export.graphs import OPSET, Precision
from srd_edge.export.targets import (
    TARGETS,
    check_graphs,
    check_precision,
    choose_precision,
    find_target,
)
from srd_edge.packing import export
from srd_edge.runtime.bundle import BUILT_IN, Bundle
from srd_edge.runtime.sessions import Provider
from srd_edge.training.datasets import open_dataset

TENSORRT = [name for name, target in TARGETS.items() if target.provider == "tensorrt"]


@pytest.fixture(scope="module")
def exported(
    toy_captioner: Path, toy_policy: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, list[str]]:
    folder, said = tmp_path_factory.mktemp("target") / "bundle", list[str]()
    config = ExportConfig(
        str(toy_captioner), folder, toy_policy, precision="fp16", target="jetson-orin"
    )
    return export_bundle(config, open_dataset("scenes", "dev", 96), said.append), said


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_whole(name: str) -> None:
    target = find_target(name)
    assert target.provider in get_args(Provider)
    assert target.precision in get_args(Precision)
    assert "Python" in target.needs
    assert "pip install" in target.install
    assert (target.opsets is not None) == (target.provider == "tensorrt")
    assert target.opsets is None or OPSET in target.opsets
    assert target.next_command(Path("b"))[-2:] == ("--provider", target.provider)
    check_precision(name, target.precision)


def test_the_targets_by_name() -> None:
    jetsons = {"jetson-orin-jp6", "jetson-orin-jp7", "jetson-thor", "jetson-orin"}
    assert set(TARGETS) == {"cpu", "cuda", "tensorrt"} | jetsons
    assert TARGETS["jetson-orin"] is TARGETS["jetson-orin-jp7"]
    assert "TensorRT 10.3" in TARGETS["jetson-orin-jp6"].needs
    assert "TensorRT 10.16" in TARGETS["jetson-thor"].needs


def test_a_decoder_for_a_gpu_keeps_its_shapes(toy_captioner: Path, tmp_path: Path) -> None:
    config = ExportConfig(str(toy_captioner), tmp_path / "b", target="cuda")
    manifest = export_bundle(config, open_dataset("scenes", "dev", 96), lambda _: None).manifest
    assert manifest.captioner.cache == "fixed"


def test_a_precision_that_is_named_wins() -> None:
    assert choose_precision("", None) == "fp32"
    assert choose_precision("cpu", None) == "int8"
    assert choose_precision("tensorrt", None) == "fp16"
    assert choose_precision("tensorrt", "fp32") == "fp32"
    with pytest.raises(UsageError, match="jetson-thor"):
        choose_precision("jetson", None)


@pytest.mark.parametrize("target", TENSORRT)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_blocks_of_bits_are_not_for_tensorrt(target: str, precision: Any) -> None:
    with pytest.raises(UsageError, match="MatMulNBits") as caught:
        check_precision(target, precision)
    assert "\n" not in str(caught.value)
    check_precision("cuda", precision)
    check_precision("", precision)


def test_an_export_for_a_target_says_so(exported: tuple[Bundle, list[str]]) -> None:
    bundle, said = exported
    told = bundle.manifest.provenance["target"]
    assert told["name"] == "jetson-orin-jp7"
    assert told["provider"] == "tensorrt"
    assert told["left_to_cuda"] == {}
    assert not [line for line in said if "left to CUDA" in line]
    assert bundle.manifest.captioner.cache == "fixed"
    assert bundle.manifest.provenance["export"]["target"] == "jetson-orin"
    assert bundle.manifest.precision == "fp16"


def test_a_target_changes_no_graph_but_the_decoders_cache(
    exported: tuple[Bundle, list[str]], toy_captioner: Path, toy_policy: Path, tmp_path: Path
) -> None:
    config = ExportConfig(str(toy_captioner), tmp_path / "b", toy_policy, precision="fp16")
    plain = export_bundle(config, open_dataset("scenes", "dev", 96), lambda _: None)
    theirs, ours = (
        {entry for entry in manifest.files if entry.path != "decoder_model_fp16.onnx"}
        for manifest in (plain.manifest, exported[0].manifest)
    )
    assert theirs == ours
    assert plain.manifest.captioner == replace(exported[0].manifest.captioner, cache="growing")
    assert plain.manifest.provenance["target"] is None


@pytest.mark.parametrize("any_size", [True, False])
def test_what_no_engine_can_run_is_left_to_cuda(toy_bundle: Path, any_size: bool) -> None:
    said: list[str] = []
    names = "decoder_model.onnx", "policy.onnx"
    files: dict[str, bytes | Path] = {name: toy_bundle / name for name in names}
    told = check_graphs("tensorrt", files, said.append, any_size=any_size)
    assert told is not None
    assert set(told["left_to_cuda"]) == (set(names) if any_size else {"decoder_model.onnx"})
    reason = "pictures of any size" if any_size else "past_key_values.0.decoder.key and others"
    assert all("left to CUDA" in line and reason in line for line in said)


def test_a_graph_that_tensorrt_refuses_is_one_line(tmp_path: Path) -> None:
    decoder: dict[str, bytes | Path] = {"decoder.onnx": BUILT_IN / "decoder_model_int8.onnx"}
    with pytest.raises(UsageError, match=r"MatMulNBits.* in decoder\.onnx") as caught:
        check_graphs("tensorrt", decoder, lambda _: None)
    assert "\n" not in str(caught.value)
    assert check_graphs("cuda", decoder, lambda _: None) is not None
    assert check_graphs("", decoder, lambda _: None) is None


def test_each_target_has_the_opsets_of_its_own_tensorrt(tmp_path: Path) -> None:
    model = onnx.load(BUILT_IN / "policy.onnx")
    model.opset_import[0].CopyFrom(helper.make_opsetid("", 22))
    path = tmp_path / "policy.onnx"
    onnx.save(model, path)
    files: dict[str, bytes | Path] = {"policy.onnx": path, "t.json": b"{}"}
    assert check_graphs("jetson-orin-jp7", files, lambda _: None) is not None
    with pytest.raises(UsageError, match=r"opset 22, not 9 to 19 in policy\.onnx"):
        check_graphs("jetson-orin-jp6", files, lambda _: None)
    model.graph.node[0].domain = "com.microsoft"
    onnx.save(model, path)
    with pytest.raises(UsageError, match=r"opset 22, not 9 to 19 and 1 more in policy\.onnx"):
        check_graphs("jetson-orin-jp6", files, lambda _: None)


def test_an_unknown_target_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    config = ExportConfig("no/such/captioner", tmp_path / "b", target="jetson")
    with pytest.raises(UsageError, match="a target out of cpu, cuda, tensorrt"):
        export_bundle(config, open_dataset("scenes", "dev", 96))
    with pytest.raises(UsageError, match="MatMulNBits"):
        bad = replace(config, target="tensorrt", precision="int4")
        export_bundle(bad, open_dataset("scenes", "dev", 96))


def test_the_command_says_what_the_device_needs_and_what_comes_next(
    toy_captioner: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    done = CliRunner().invoke(
        export, ["--captioner", str(toy_captioner), "--target", "tensorrt", "-o", str(bundle)]
    )
    assert done.exit_code == 0, done.output
    needs, following = done.output.splitlines()[-2:]
    assert "TensorRT 10.16" in needs
    assert 'pip install "srd-edge[tensorrt]"' in needs
    assert following.endswith("--provider tensorrt --no-defense")
    assert (bundle / "encoder_model_fp16.onnx").is_file()
