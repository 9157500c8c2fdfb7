"""What optimum really exports, in an environment of its own, captions as transformers does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.export.inspection import verify_bundle
from srd_edge.export.onnx_directory import OnnxDirectoryConfig, bundle_directory
from srd_edge.export.parity import is_tied, transformers_tokens
from srd_edge.export.source import open_source
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor
from srd_edge.runtime.cache_folder import cache_folder
from srd_edge.runtime.captioning import OnnxCaptioner

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints-optimum.txt"
PEER = Path(__file__).with_name("optimum_peer.py")
ENVIRONMENTS = cache_folder() / "environments"
"""Found when this is imported: while tests run, the cache is a folder that is thrown away."""
LONGEST = 9
LOOK = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def optimum() -> Path:
    """The interpreter of optimum's environment, which is made once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"]["optimum"]
    pins = CONSTRAINTS.read_bytes() + " ".join(wanted).encode()
    folder = ENVIRONMENTS / f"optimum-{hashlib.sha256(pins).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(python), "-I", "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--constraint", str(CONSTRAINTS)]
        done = subprocess.run(
            [*pip, *wanted], capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"optimum's environment cannot be made here: {said[:1]}")
        (folder / "done").touch()
    return python


@dataclass(frozen=True)
class Exported:
    """optimum's directory, and the captions of transformers in its environment by beams."""

    folder: Path
    truth: dict[str, list[list[int]]]


@pytest.fixture(scope="module")
def canvases(pictures: list[Any]) -> np.ndarray[Any, Any]:
    return np.stack([to_canvas(picture, LOOK) for picture in pictures])


@pytest.fixture(scope="module", params=["vit-gpt2", "trocr"])
def exported(
    request: pytest.FixtureRequest,
    optimum: Path,
    vit_gpt2_model: Path,
    canvases: np.ndarray[Any, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    work = tmp_path_factory.mktemp(request.param)
    np.save(work / "pixels.npy", to_tensor(canvases, LOOK))
    name = str(vit_gpt2_model) if request.param == "vit-gpt2" else "trocr"
    command = [optimum, "-I", PEER, name, work / "pixels.npy", work / "optimum"]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # transformers 4 does not know the tokenizer class that 5 writes; the file is the same.
    shutil.copy(vit_gpt2_model / "tokenizer.json", work / "optimum")
    return Exported(work / "optimum", json.loads(done.stdout.splitlines()[-1]))


def as_it_is(folder: Path) -> str:
    assert (folder / "decoder_model_merged.onnx").is_file()
    return "merged"


def without_merged(folder: Path) -> str:
    (folder / "decoder_model_merged.onnx").unlink()
    return "with-past"


def as_transformers_js(folder: Path) -> str:
    (folder / "onnx").mkdir()
    for name in ("encoder_model.onnx", "decoder_model_merged.onnx"):
        (folder / name).rename(folder / "onnx" / name)
    for left in folder.glob("*.onnx"):
        left.unlink()
    return "merged"


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("arrange", [as_it_is, without_merged, as_transformers_js])
def test_captions_are_transformers_own(
    exported: Exported,
    vit_gpt2_model: Path,
    canvases: np.ndarray[Any, Any],
    tmp_path: Path,
    arrange: Callable[[Path], str],
    beams: int,
) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "model")
    decoding = arrange(folder)
    config = OnnxDirectoryConfig(folder, tmp_path / "bundle", beams=beams, max_new_tokens=LONGEST)
    bundle = bundle_directory(config, lambda _: None)
    assert bundle.manifest.captioner.decoding == decoding
    assert bundle.manifest.preprocessing == LOOK
    assert verify_bundle(bundle) == []
    runtime = OnnxCaptioner(bundle, "cpu")
    said = [list(runtime.generate(runtime.encode(canvas)).tokens) for canvas in canvases]
    truths = [exported.truth[str(beams)]]
    if "vit-gpt2" in exported.folder.parent.name:
        source = open_source(vit_gpt2_model, beams=beams, max_new_tokens=LONGEST)
        truths.append(transformers_tokens(source, source.generation, list(canvases)))
    for truth in truths:
        differing = [n for n, (s, t) in enumerate(zip(said, truth, strict=True)) if s != t]
        assert all(is_tied(runtime, canvases[n], said[n], truth[n]) for n in differing)
        assert len(differing) <= 2
        assert len({tuple(row) for row in truth}) > 8, "captions that are all alike prove little"
