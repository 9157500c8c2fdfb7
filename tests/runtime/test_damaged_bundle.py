"""A bundle is read only if every byte of it is what its manifest says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import SRD_TABLE
from srd_edge.runtime.bundle import (
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    read_bundle,
    write_bundle,
)
from tests.runtime.one_node_bundle import FILES, MANIFEST


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "house" / "bundle", MANIFEST, FILES).directory


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / MANIFEST_FILE
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refusal(directory: Path | str) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(directory)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


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
