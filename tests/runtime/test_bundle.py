"""A bundle comes back as it was written, and is written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from srd_edge.errors import BundleError, RunError, UsageError
from srd_edge.runtime import bundle as bundle_module
from srd_edge.runtime.bundle import MANIFEST_FILE, read_bundle, write_bundle
from srd_edge.runtime.bundle_specs import PolicySpec
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.sessions import open_session
from tests.runtime.one_node_bundle import FILES, MANIFEST, graph


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "house" / "bundle", MANIFEST, FILES).directory


def listing(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_round_trip(directory: Path) -> None:
    bundle = read_bundle(directory)
    policy = bundle.manifest.policy
    assert policy is not None
    assert len(policy.pairing) == 64
    unpaired = replace(bundle.manifest, files=(), policy=replace(policy, pairing=""))
    assert unpaired == MANIFEST
    assert {entry.path for entry in bundle.manifest.files} == set(FILES)
    for name, content in FILES.items():
        assert bundle.path(name).read_bytes() == content
    assert read_bundle(str(directory)) == bundle
    assert open_session(bundle.path("policy.onnx"), "cpu").provider == "cpu"


def test_a_relative_directory_survives_a_change_of_place(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    bundle = read_bundle(directory.name)
    monkeypatch.chdir("/")
    assert bundle.path("policy.onnx").is_file()


def test_without_a_directory_the_built_in_bundle_is_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "BUILT_IN", directory)
    assert read_bundle() == read_bundle(directory)


def test_an_undefended_bundle(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "policy.onnx"}
    written = write_bundle(tmp_path / "bundle", replace(MANIFEST, policy=None), files)
    assert read_bundle(tmp_path / "bundle").manifest == written.manifest


def test_an_unlisted_name_has_no_path(directory: Path) -> None:
    with pytest.raises(BundleError, match="other"):
        read_bundle(directory).path("other.onnx")


def break_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", fail)


def break_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)


def break_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)


BREAKS = [(break_manifest, KeyboardInterrupt), (break_rename, RunError), (break_copy, RunError)]


@pytest.mark.parametrize(("breaks", "error"), BREAKS)
def test_a_failed_write_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    error: type[BaseException],
) -> None:
    with monkeypatch.context() as patch, pytest.raises(error):
        breaks(patch)
        write_bundle(tmp_path / "new" / "deep" / "bundle", MANIFEST, FILES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("breaks", "error"), BREAKS)
def test_a_failed_overwrite_leaves_the_old_bundle(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    error: type[BaseException],
) -> None:
    before = listing(directory.parent)
    with monkeypatch.context() as patch, pytest.raises(error):
        breaks(patch)
        write_bundle(directory, MANIFEST, {**FILES, "extra.bin": b"1"}, overwrite=True)
    assert listing(directory.parent) == before
    read_bundle(directory)


@pytest.mark.parametrize(
    ("manifest", "files"),
    [
        pytest.param(MANIFEST, {**FILES, "../x": b""}, id="path outside"),
        pytest.param(MANIFEST, {**FILES, MANIFEST_FILE: b"{}"}, id="a manifest of one's own"),
        pytest.param(MANIFEST, {"tokenizer.json": b"{}"}, id="no graphs"),
        pytest.param(replace(MANIFEST, opset=0), FILES, id="field out of range"),
        pytest.param(replace(MANIFEST, parity={"a": float("nan")}), FILES, id="not JSON"),
        pytest.param(replace(MANIFEST, provenance={"a": object()}), FILES, id="an object"),
        pytest.param(replace(MANIFEST, provenance={"a": "b" * (1 << 20)}), FILES, id="too long"),
        pytest.param(
            replace(MANIFEST, policy=PolicySpec("policy.onnx", "0" * 64, 2, 1.0)),
            FILES,
            id="policy of another captioner",
        ),
    ],
)
def test_what_would_be_refused_is_not_written(
    tmp_path: Path, manifest: Manifest, files: dict[str, bytes | Path]
) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "bundle", manifest, files)
    assert list(tmp_path.iterdir()) == []


def test_files_are_copied_from_paths(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(graph("Exp"))
    bundle = write_bundle(tmp_path / "bundle", MANIFEST, {**FILES, "policy.onnx": source})
    assert bundle.path("policy.onnx").read_bytes() == source.read_bytes()
    with pytest.raises(RunError, match="gone"):
        write_bundle(tmp_path / "b", MANIFEST, {**FILES, "policy.onnx": tmp_path / "gone.onnx"})


def test_files_are_moved_when_asked(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(graph("Exp"))
    bundle = write_bundle(
        tmp_path / "bundle", MANIFEST, {**FILES, "policy.onnx": source}, move=True
    )
    assert bundle.path("policy.onnx").read_bytes() == graph("Exp")
    assert list(tmp_path.iterdir()) == [bundle.directory]


def test_overwrite_only_when_asked_and_only_a_bundle(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="overwritten"):
        write_bundle(directory, MANIFEST, FILES)
    write_bundle(directory, replace(MANIFEST, precision="fp16"), FILES, overwrite=True)
    assert read_bundle(directory).manifest.precision == "fp16"
    assert list(directory.parent.iterdir()) == [directory]

    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="something else"):
        write_bundle(home, MANIFEST, FILES, overwrite=True)
    assert (home / "letter.txt").read_text() == "dear"


def test_a_copied_bundle_is_the_same(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    assert read_bundle(tmp_path / "copy").manifest == read_bundle(directory).manifest
