"""What ``srd-edge run`` refuses: an exit code, one clear line, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import (
    COMMAND,
    Outcome,
    SrdEdge,
    assert_refused,
    parsed,
    write_clip,
    write_picture,
)


def gigantic_png(path: Path) -> Path:
    """A header that claims 20 000 x 20 000 pixels, and nothing after it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    return path


def text_file(path: Path) -> Path:
    path.write_text("This is not a film.\n" * 50)
    return path


def cut_clip(path: Path) -> Path:
    data = write_clip(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def no_frames(path: Path) -> Path:
    return write_clip(path, frames=0)


def empty(path: Path) -> Path:
    path.touch()
    return path


BAD_SOURCES: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("--video", "gone.mp4", lambda _: None, "no such file"),
    ("--image", "gone.png", lambda _: None, "expected a picture, directory, glob or list as"),
    ("--video", "text.mp4", text_file, "no video"),
    ("--video", "cut.mp4", cut_clip, "cut off"),
    ("--video", "empty.mp4", empty, "empty file"),
    ("--video", "no frames.avi", no_frames, "no frames.avi"),
    ("--image", "huge.png", gigantic_png, "20000 x 20000 pixels"),
    ("--image", "text.png", text_file, "cannot be decoded"),
    ("--image", "film.avi", write_clip, "--video"),
]


@pytest.mark.parametrize(
    ("flag", "name", "make", "word"), [pytest.param(*case, id=case[1]) for case in BAD_SOURCES]
)
def test_a_bad_source(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    flag: str,
    name: str,
    make: Callable[[Path], object],
    word: str,
) -> None:
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    outputs = ("-o", tmp_path / "out.jsonl", "--annotate", tmp_path / "out.webm")
    outcome = srd_edge("run", flag, tmp_path / name, "--bundle", toy_bundle, *outputs)
    assert_refused(outcome, 4, word)
    assert sorted(tmp_path.iterdir()) == before


def test_what_came_before_the_damage_is_kept(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    clip, out = cut_clip(tmp_path / "cut.avi"), tmp_path / "out.jsonl"
    outcome = srd_edge("run", "--video", clip, "--bundle", toy_bundle, "-o", out, "--quiet")
    assert_refused(outcome, 4, "cut.avi")
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 10


def missing_file(bundle: Path) -> None:
    (bundle / "decoder_model.onnx").unlink()


def changed_byte(bundle: Path) -> None:
    data = bytearray((bundle / "policy.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "policy.onnx").write_bytes(data)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        path = bundle / "manifest.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return edit


BAD_BUNDLES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing file", missing_file, "decoder_model.onnx"),
    ("changed byte", changed_byte, "policy.onnx with sha256"),
    ("unknown schema", edited(lambda data: data.update(schema=99)), "schema 99"),
    (
        "leads out",
        edited(lambda data: data["files"][0].update(path="../../etc/passwd")),
        "inside the bundle",
    ),
    ("no directory", shutil.rmtree, "a directory"),
]


@pytest.mark.parametrize(
    ("damage", "word"), [pytest.param(*case[1:], id=case[0]) for case in BAD_BUNDLES]
)
def test_a_bad_bundle(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    word: str,
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(toy_bundle, bundle)
    damage(bundle)
    picture = write_picture(tmp_path / "picture.png")
    out = tmp_path / "out.jsonl"
    outcome = srd_edge("run", "--image", picture, "--bundle", bundle, "-o", out)
    assert_refused(outcome, 3, word)
    assert not out.exists()


def test_a_bundle_without_a_policy_runs_only_undefended(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    bundle, picture = tmp_path / "bundle", write_picture(tmp_path / "picture.png")
    shutil.copytree(toy_bundle, bundle)
    (bundle / "policy.onnx").unlink()

    def drop(data: dict[str, Any]) -> None:
        data["policy"] = None
        data["files"] = [entry for entry in data["files"] if entry["path"] != "policy.onnx"]

    edited(drop)(bundle)
    run = ("run", "--image", picture, "--bundle", bundle, "--quiet")
    assert_refused(srd_edge(*run), 2, "--no-defense")
    (result,) = srd_edge(*run, "--no-defense").results
    assert (result["verdict"], result["actions"]) == ("undefended", [])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--video", "demo", "--image", "x.png"),
        ("--image", "x.png", "--budget-ms", "0"),
        ("--image", "x.png", "--budget-ms", "nan"),
        ("--image", "x.png", "--every", "0"),
        ("--image", "x.png", "--stall-s", "0"),
        ("--video", "x.png", "--video", "x.png"),
        ("--video", "x.png", "--video", "."),
        ("--video", "raw:640"),
        ("--image", "x.png", "--provider", "abacus"),
        ("--image", "x.png", "--annotate", "out.gif"),
        ("--image", "x.png", "--annotate", "x.png"),
        ("--image", "x.png", "-o", "x.png"),
        ("--image", "x.png", "-o", "out.avi", "--annotate", "out.avi"),
        ("--image", "x.png", "--srt", "out.txt"),
        ("--image", "x.png", "--serve", "no port"),
        ("--image", "x.png", "--metrics", "99999"),
        ("--image", "x.png", "--mqtt", "mqtt://host"),
        ("--image", "x.png", "--sink", "nobody"),
        ("--image", "x.png", "--webhook", "ftp://host/"),
        ("--image", "x.png", "--serve", "0", "--token", "short"),
        ("--image", "x.png", "--annotate", "out.png", "--srt", "x.srt", "-o", "x.srt"),
        ("--image", "x.png", "--image", "x.png"),
        ("--image", "x.png", "--frobnicate"),
    ],
    ids=" ".join,
)
def test_usage(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = write_picture(tmp_path / "x.png").read_bytes()
    outcome = srd_edge("run", "--bundle", toy_bundle, *arguments)
    assert_refused(outcome, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


@pytest.mark.parametrize(
    "written", [("--srt", "out.srt"), ("--annotate", "out.webm")], ids=" ".join
)
def test_what_has_one_time_has_one_source(
    srd_edge: SrdEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = ("--video", write_clip(Path("a.avi")), "--video", write_clip(Path("b.avi")))
    outcome = srd_edge("run", *sources, "-o", "out.jsonl", *written)
    assert_refused(outcome, 2, f"one source for '{written[1]}', found 2", "run each source")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "b.avi"]


@pytest.mark.parametrize("flag", ["-o", "--annotate"])
@pytest.mark.parametrize("source", [".", "*.webm", "list.txt", "other.webm"])
def test_no_output_destroys_a_source(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    flag: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.webm")
    (tmp_path / "list.txt").write_text("clip.webm\n")
    (tmp_path / "other.webm").symlink_to("clip.webm")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outcome = srd_edge("run", "--video", source, "--bundle", toy_bundle, flag, "clip.webm")
    assert_refused(outcome, 2, "clip.webm")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_output_outlives_a_run_that_never_began(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("an older run")
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "-o", out)
    assert_refused(srd_edge(*run, "--annotate", tmp_path / "x" / "out.webm"), 1, "directory")
    assert_refused(srd_edge(*run, "--annotate", tmp_path / "out.gif"), 2, ".webm")
    assert out.read_text() == "an older run"


def test_a_real_process_says_one_line(toy_bundle: Path, tmp_path: Path) -> None:
    """What libpng and FFmpeg print on their own is only seen on a real standard error."""
    picture = write_picture(tmp_path / "cut.png", np.zeros((90, 90, 3), np.uint8))
    picture.write_bytes(picture.read_bytes()[:60])
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [*COMMAND, "run", "--image", picture, "--bundle", toy_bundle, "-o", out],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr), 4, "cut.png")
    assert not out.exists()
