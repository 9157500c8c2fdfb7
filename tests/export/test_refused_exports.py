"""What cannot be exported is refused in one line, and leaves nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from srd_edge.attacks.samples import Sample
from srd_edge.errors import RunError, UsageError
from srd_edge.export.bundle_export import ExportConfig, export_bundle
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.training.checkpoints import PolicyCheckpoint
from srd_edge.training.datasets import open_dataset
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    return open_dataset("scenes", "dev", 96)


def taken(config: ExportConfig) -> ExportConfig:
    config.output.mkdir()
    return config


def policy_of(rows: int, columns: int, channels: int, folder: Path) -> Path:
    network = QNetwork(QNetworkConfig(rows, columns, channels, 8), DEFAULT_TABLE)
    PolicyCheckpoint(network, 1, 1.0, {}).save(folder)
    return folder


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no captioner", "model's directory"),
        ("another family", "vision-encoder-decoder"),
        ("no policy", "policy.json"),
        ("half a policy", "policy.safetensors"),
        ("other channels", "2 x 2 cells and 24 channels"),
        ("other grid", "3 x 2 cells and 16 channels"),
        ("precision", "fp32, fp16, int8, int4"),
        ("too few pictures", "at least 64 pictures"),
        ("output exists", "does not exist yet"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    case: str, words: str, toy_captioner: Path, samples: Sequence[Sample], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    config = ExportConfig(str(toy_captioner), tmp_path / "out" / "bundle")
    if case == "no captioner":
        config = replace(config, captioner=str(work / "nowhere"))
    elif case == "another family":
        (work / "config.json").write_text(json.dumps({"model_type": "vit"}))
        config = replace(config, captioner=str(work))
    elif case == "no policy":
        config = replace(config, policy=work)
    elif case == "half a policy":
        config = replace(config, policy=policy_of(2, 2, 16, work))
        (work / "policy.safetensors").write_bytes(b"half")
        words = "policy.safetensors"
    elif case == "other channels":
        config = replace(config, policy=policy_of(2, 2, 24, work))
    elif case == "other grid":
        config = replace(config, policy=policy_of(3, 2, 16, work))
    elif case == "precision":
        precision: Any = "fp12"
        config = replace(config, precision=precision)
    elif case == "too few pictures":
        samples = samples[:63]
    else:
        config = taken(replace(config, output=work / "bundle"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        export_bundle(config, samples, lambda _: None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_full_disk_leaves_nothing(
    when: str,
    toy_captioner: Path,
    samples: Sequence[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:
        monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(RunError) as caught:
        export_bundle(
            ExportConfig(str(toy_captioner), tmp_path / "out" / "bundle"), samples, lambda _: None
        )
    found = "0.0 GB free of up to" if when == "before" else "No space left on device"
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
