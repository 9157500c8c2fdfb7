"""A bundle is read only if every byte of it is what its manifest says, and written whole or not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from srd_edge.errors import BundleError, RunError, UsageError
from srd_edge.kernels.actions import DEFAULT_TABLE, SRD_TABLE
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime import bundle as bundle_module
from srd_edge.runtime.bundle import (
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    read_bundle,
    write_bundle,
)
from srd_edge.runtime.bundle_specs import (
    CaptionerSpec,
    ObservationSpec,
    PolicySpec,
)
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.sessions import open_session

MANIFEST = Manifest(
    captioner=CaptionerSpec(
        "vision-encoder-decoder",
        "cross-attention",
        {"encoder": "encoder_model.onnx", "decoder": "decoder_model.onnx"},
        layers=1,
        heads=1,
        head_dim=4,
    ),
    preprocessing=Preprocessing(8, 6, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)),
    generation=GenerationDefaults(prompt=(1,), end_tokens=(2,), max_new_tokens=7),
    actions=DEFAULT_TABLE,
    observation=ObservationSpec(rows=2, columns=2, channels=4),
    policy=PolicySpec("policy.onnx", "", max_steps=2, temperature=1.0),
    precision="fp32",
    opset=18,
)


def graph(op: str) -> bytes:
    """A one-node ONNX graph over (1, 4) float32."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    body = helper.make_graph([helper.make_node(op, ["x"], ["y"])], op, value[:1], value[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


FILES: dict[str, bytes | Path] = {
    "encoder_model.onnx": graph("Relu"),
    "decoder_model.onnx": graph("Sigmoid"),
    "policy.onnx": graph("Tanh"),
    "tokenizer.json": b"{}",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "house" / "bundle", MANIFEST, FILES).directory


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / MANIFEST_FILE
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def listing(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def refusal(directory: Path | str) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(directory)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


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


def test_files_may_lie_in_folders_and_behind_links_that_stay_inside(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "bundle", MANIFEST, {**FILES, "a/b/extra.bin": b"1"}).directory
    extra = root / "a/b/extra.bin"
    extra.rename(root / "a/real.bin")
    extra.symlink_to("../real.bin")
    assert "real.bin" in refusal(root)  # unlisted, although a listed link leads to it
    edit(root, lambda data: data["files"].append({**data["files"][0], "path": "a/real.bin"}))
    assert data_of(root, "a/b/extra.bin") == data_of(root, "a/real.bin")
    read_bundle(root)


def data_of(root: Path, path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((root / MANIFEST_FILE).read_text())
    entry = next(entry for entry in data["files"] if entry["path"] == path)
    return {**entry, "path": ""}


# Each damages a good bundle; the words must be in the refusal.
def remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def listed(path: str) -> Callable[[Path], object]:
    return lambda root: edit(root, lambda data: data["files"][0].update(path=path))


def changed(name: str, value: Any) -> Callable[[Path], object]:
    return lambda root: edit(root, lambda data: data.update({name: value}))


def change_byte(root: Path) -> None:
    raw = bytearray((root / "encoder_model.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (root / "encoder_model.onnx").write_bytes(raw)


def link_out(root: Path) -> None:
    outside = root.parent / "outside.onnx"
    (root / "policy.onnx").rename(outside)
    (root / "policy.onnx").symlink_to(outside)


def manifest_link_out(root: Path) -> None:
    outside = root.parent / "outside.json"
    (root / MANIFEST_FILE).rename(outside)
    (root / MANIFEST_FILE).symlink_to(outside)


def loop(root: Path) -> None:
    (root / "policy.onnx").unlink()
    (root / "policy.onnx").symlink_to("policy.onnx")


def pipe(root: Path) -> None:
    (root / "policy.onnx").unlink()
    os.mkfifo(root / "policy.onnx")


def file_to_folder(root: Path) -> None:
    (root / "policy.onnx").unlink()
    (root / "policy.onnx").mkdir()


def linked_folder(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / "folder").symlink_to(root.parent / "elsewhere")


def twice(root: Path) -> None:
    edit(root, lambda data: data["files"].append(data["files"][0]))


def huge(root: Path) -> None:
    edit(root, lambda data: data["files"][0].update(bytes=MAX_FILE_BYTES + 1))


def other_policy(root: Path) -> None:
    edit(root, lambda data: data["policy"].update(pairing="0" * 64))


def other_observation(root: Path) -> None:
    edit(root, lambda data: data["observation"].update(rows=3))


def other_table(root: Path) -> None:
    edit(root, lambda data: data.update(actions=SRD_TABLE.to_json()))


def component(name: str, file: str) -> Callable[[Path], object]:
    def change(data: dict[str, Any]) -> None:
        data["captioner"]["components"][name] = file

    return lambda root: edit(root, change)


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("no manifest", remove(MANIFEST_FILE), "a file manifest.json"),
    ("missing file", remove("decoder_model.onnx"), "decoder_model.onnx"),
    ("missing tokenizer", remove("tokenizer.json"), "tokenizer.json"),
    ("changed byte", change_byte, "encoder_model.onnx with sha256"),
    ("same size", write("tokenizer.json", b"[]"), "tokenizer.json with sha256"),
    ("another size", write("tokenizer.json", b"{ }"), "tokenizer.json of 2 bytes, found 3"),
    ("cut short", write("policy.onnx", b""), "policy.onnx of"),
    ("unlisted", write("extra.so", b""), "extra.so"),
    ("unlisted hidden", write(".hidden", b""), ".hidden"),
    ("linked folder", linked_folder, "folder"),
    ("newer", changed("schema", 5), "update srd-edge"),
    ("mistyped", changed("opset", "18"), "opset"),
    ("components", changed("captioner", []), "captioner"),
    ("cut manifest", write(MANIFEST_FILE, b'{"schema": 1,'), "JSON"),
    ("binary manifest", write(MANIFEST_FILE, b"\xff\xfe\x00"), "JSON"),
    ("NaN", write(MANIFEST_FILE, b'{"schema": NaN}'), "NaN"),
    ("a field twice", write(MANIFEST_FILE, b'{"schema": 1, "schema": 1}'), "twice"),
    ("nested deeply", write(MANIFEST_FILE, b"[" * 100_000), "JSON"),
    ("long number", write(MANIFEST_FILE, b"9" * 100_000), "JSON"),
    ("big manifest", write(MANIFEST_FILE, b" " * (MAX_MANIFEST_BYTES + 1)), "at most"),
    ("manifest is a link", manifest_link_out, "a file manifest.json"),
    ("parent", listed("../house/bundle/tokenizer.json"), "inside the bundle"),
    ("parent within", listed("a/../tokenizer.json"), "inside the bundle"),
    ("dot", listed("./tokenizer.json"), "inside the bundle"),
    ("dots", listed(".."), "inside the bundle"),
    ("absolute", listed("/etc/passwd"), "inside the bundle"),
    ("drive", listed("C:/x"), "inside the bundle"),
    ("backslash", listed("..\\x"), "inside the bundle"),
    ("empty part", listed("a//b"), "inside the bundle"),
    ("trailing slash", listed("a/"), "inside the bundle"),
    ("newline", listed("a\n"), "inside the bundle"),
    ("surrogate", listed("\ud800"), "inside the bundle"),
    ("nul", listed("a\0"), "inside the bundle"),
    ("long path", listed("a" * 256), "inside the bundle"),
    ("itself", listed(MANIFEST_FILE), "inside the bundle"),
    ("listed twice", twice, "twice"),
    ("too big", huge, "at most"),
    ("leads out", link_out, "leads out"),
    ("link to itself", loop, "policy.onnx"),
    ("pipe", pipe, "policy.onnx to be a file"),
    ("folder", file_to_folder, "policy.onnx to be a file"),
    ("policy of another", other_policy, "policy made for this captioner"),
    ("other observation", other_observation, "policy made for this captioner"),
    ("other actions", other_table, "policy made for this captioner"),
    ("other encoder", component("encoder", "decoder_model.onnx"), "policy made for this captioner"),
    ("unlisted component", component("decoder", "gone.onnx"), "gone.onnx"),
    ("unlisted extra component", component("prefill", "gone.onnx"), "gone.onnx"),
    ("component outside", component("encoder", "../x.onnx"), "../x.onnx"),
]


@pytest.mark.parametrize(
    ("damage", "words"),
    [pytest.param(damage, words, id=name) for name, damage, words in DAMAGES],
)
def test_refused(directory: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(directory)
    assert words in refusal(directory)


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "house/bundle/tokenizer.json", "a" * 5000])
def test_not_a_directory(directory: Path, name: str) -> None:
    assert "bundle" in refusal(f"{directory.parent.parent}/{name}")


@pytest.mark.parametrize("written", range(len(FILES)))
def test_a_half_written_bundle_is_refused(directory: Path, written: int) -> None:
    for name in sorted(FILES)[written:]:
        (directory / name).unlink()
    assert sorted(FILES)[written] in refusal(directory)


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
