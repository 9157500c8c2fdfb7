"""What cannot be exported is refused in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from srd_edge.errors import UsageError
from srd_edge.export.families import FAMILIES
from srd_edge.export.nearest import NEAREST
from srd_edge.export.source import open_source


@pytest.fixture
def model(vit_gpt2_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(vit_gpt2_model, tmp_path / "model")


def refused(model: Path | str) -> str:
    with pytest.raises(UsageError) as caught:
        open_source(model)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("moondream1", "llava is the nearest"),
        ("OpenFlamingo", "llava is the nearest"),
        ("kosmos-2", "git is the nearest"),
        ("bert", "docs/families.md"),
    ],
)
def test_a_type_that_is_not_exported(model: Path, kind: str, words: str) -> None:
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": kind}))
    text = refused(model)
    assert f"of type {kind}" in text
    assert words in text
    assert "blip-2" in text


def test_what_is_nearest_can_be_exported() -> None:
    assert set(NEAREST.values()) <= {family.name for family in FAMILIES}
    assert not set(NEAREST) & {kind for family in FAMILIES for kind in family.model_types}


def test_missing_weights(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    name = next(name for name in sorted(weights) if "crossattention" in name)
    del weights[name]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    text = refused(model)
    assert "1 missing" in text
    assert name.split(".", 2)[-1] in text


def test_weights_as_a_pickle(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    assert "safetensors" in refused(model)


def test_no_such_model(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["tokenizer.json", "preprocessor_config.json", "config.json"])
def test_a_missing_file(model: Path, file: str) -> None:
    (model / file).unlink()
    assert str(model) in refused(model)


def test_a_checkpoint_in_half_precision_is_read_in_full(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    half = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    save_file(half, model / "model.safetensors", {"format": "pt"})
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    found = {weight.dtype for weight in open_source(model).captioner.model.parameters()}
    assert found == {torch.float32}
