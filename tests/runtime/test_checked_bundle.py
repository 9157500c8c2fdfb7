"""A bundle with a check: every part of it is listed, summed and whole, the reference's too."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge import Defender
from srd_edge.errors import BundleError
from srd_edge.runtime.bundle import MANIFEST_FILE, read_bundle, write_bundle
from srd_edge.runtime.check_specs import REFERENCE_FOLDER

INNER = f"{REFERENCE_FOLDER}/{MANIFEST_FILE}"
GREY = np.full((9, 9, 3), 127, np.uint8)


@pytest.fixture
def directory(checked_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(checked_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / MANIFEST_FILE
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def unlist(*names: str) -> Callable[[Path], None]:
    """Leave ``names`` out of the bundle and out of its list."""

    def damage(root: Path) -> None:
        for name in names:
            (root / name).unlink()
        edit(
            root,
            lambda data: data.update(files=[f for f in data["files"] if f["path"] not in names]),
        )

    return damage


def without_reference(root: Path) -> None:
    shutil.rmtree(root / REFERENCE_FOLDER)


def unlist_reference(root: Path) -> None:
    inside = [path.name for path in (root / REFERENCE_FOLDER).iterdir()]
    unlist(*[f"{REFERENCE_FOLDER}/{name}" for name in inside])(root)


def flip(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        raw = bytearray((root / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (root / name).write_bytes(raw)

    return damage


def cut(root: Path, name: str) -> None:
    raw = (root / name).read_bytes()
    (root / name).write_bytes(raw[: len(raw) // 2])


def stray(root: Path) -> None:
    (root / REFERENCE_FOLDER / "extra.so").write_bytes(b"")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no language model": (unlist("language_model.onnx"), "language_model.onnx"),
    "no tokenizer": (unlist("language_tokenizer.json"), "language_tokenizer.json"),
    "no reference": (without_reference, REFERENCE_FOLDER),
    "no reference listed": (unlist_reference, INNER),
    "no manifest of the reference": (unlist(INNER), INNER),
    "language model tampered with": (flip("language_model.onnx"), "sha256"),
    "reference tampered with": (flip(f"{REFERENCE_FOLDER}/decoder_model.onnx"), "sha256"),
    "its manifest tampered with": (flip(INNER), "sha256"),
    "stray file": (stray, "extra.so"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_refused(directory: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(directory)
    with pytest.raises(BundleError) as caught:
        read_bundle(directory)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def listed_anew(root: Path, name: str) -> None:
    """Make the outer manifest agree with what ``name`` has become."""
    raw = (root / name).read_bytes()
    entry = {"path": name, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    edit(root, lambda data: data["files"].remove(_entry(data, name)))
    edit(root, lambda data: data["files"].append(entry))


def _entry(data: dict[str, Any], name: str) -> dict[str, Any]:
    entry: dict[str, Any] = next(entry for entry in data["files"] if entry["path"] == name)
    return entry


@pytest.mark.parametrize("name", ["encoder_model.onnx", MANIFEST_FILE])
def test_a_reference_that_is_no_bundle_of_its_own_is_not_run(directory: Path, name: str) -> None:
    damaged = f"{REFERENCE_FOLDER}/{name}"
    cut(directory, damaged)
    listed_anew(directory, damaged)
    bundle = read_bundle(directory)
    with pytest.raises(BundleError) as caught:
        Defender(bundle)
    assert "\n" not in str(caught.value)
    assert Defender(bundle, check=False).caption(GREY).opinion is None


def test_round_trip(directory: Path, tmp_path: Path) -> None:
    bundle = read_bundle(directory)
    files: dict[str, bytes | Path] = {e.path: bundle.path(e.path) for e in bundle.manifest.files}
    again = write_bundle(tmp_path / "again", replace(bundle.manifest, files=()), files)
    assert again.manifest == bundle.manifest == read_bundle(again.directory).manifest
    inner = read_bundle(again.directory / REFERENCE_FOLDER).manifest
    assert (inner.policy, inner.check) == (None, None)


def test_no_reference_is_needed_where_none_is_promised(directory: Path) -> None:
    unlist_reference(directory)
    edit(directory, lambda data: data["check"].update(reference=False))
    result = Defender(read_bundle(directory)).caption(GREY)
    assert result.opinion is not None
    assert result.opinion.contradiction is None
