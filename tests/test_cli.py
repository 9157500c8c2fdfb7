"""``srd-edge run`` as a user meets it: what its flags do, and how its errors and its help read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from srd_edge import cli
from srd_edge.errors import SourceError
from srd_edge.runtime import run_stage
from tests.command_line import SrdEdge, assert_refused, parsed, write_clip, write_picture

HONEST: dict[str, Any] = {
    "grey.png": np.full((9, 12), 99, np.uint8),
    "see through.png": np.full((9, 12, 4), 99, np.uint8),
    "16 bit.png": np.full((9, 12, 3), 40_000, np.uint16),
    "16 bit grey.png": np.full((9, 12), 40_000, np.uint16),
    "one.png": np.full((1, 1, 3), 7, np.uint8),
    "long.png": np.full((1, 3000, 3), 7, np.uint8),
    "größer als üblich (2).jpg": np.full((300, 500, 3), 200, np.uint8),
}


@pytest.mark.parametrize("name", HONEST)
def test_odd_but_honest_pictures(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, name: str
) -> None:
    picture = write_picture(tmp_path / name, HONEST[name])
    outcome = srd_edge("run", "--image", picture, "--bundle", toy_bundle, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    (result,) = outcome.results
    assert result["caption"] is not None
    assert result["verdict"] in ("clean", "suspicious")


def test_a_clip_whose_size_changes(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    clip = tmp_path / "two sizes.mjpeg"
    pictures = [np.full((s, 60, 3), 50 + s, np.uint8) for s in (40, 40, 40, 64, 64, 64)]
    clip.write_bytes(b"".join(cv2.imencode(".jpg", p)[1].tobytes() for p in pictures))
    outcome = srd_edge("run", "--video", clip, "--bundle", toy_bundle, "--quiet")
    assert outcome.code == 0, outcome.err
    assert [result["frame"] for result in outcome.results] == list(range(6))


def test_flags(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a film.avi", frames=20)
    annotated, out = tmp_path / "seen.webm", tmp_path / "results" / "out.jsonl"
    out.parent.mkdir()
    run = ("run", "--video", clip, "--bundle", toy_bundle)
    plain = srd_edge(*run, "--every", "3", "--max-frames", "4", "--compare")
    assert [result["frame"] for result in plain.results] == [0, 3, 6, 9]
    assert [result["time_s"] for result in plain.results] == [0, 0.3, 0.6, 0.9]
    for result in plain.results:
        if result["verdict"] == "clean":
            assert result["raw_caption"] == result["caption"]
        assert result["within_budget"] is None
    assert "frames" in plain.err
    quiet = srd_edge(*run, "--quiet", "--no-defense", "-o", out, "--annotate", annotated)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    undefended = parsed(out.read_text())
    assert [result["frame"] for result in undefended] == list(range(20))
    assert {result["verdict"] for result in undefended} == {"undefended"}
    assert {result["suspicion"] for result in undefended} == {None}
    assert [r["raw_caption"] for r in plain.results] == [
        undefended[i]["caption"] for i in (0, 3, 6, 9)
    ]
    assert int(cv2.VideoCapture(str(annotated)).get(cv2.CAP_PROP_FRAME_COUNT)) == 20


def test_a_video_that_browsers_do_not_play_is_said_to_be_one(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    picture, out = write_picture(tmp_path / "picture.png"), tmp_path / "seen.MP4"
    done = srd_edge("run", "--image", picture, "--bundle", toy_bundle, "--quiet", "--annotate", out)
    told = f"srd-edge: browsers do not play '{out}'; name a .webm for them\n"
    assert (done.code, done.err) == (0, told)


def test_annotated_pictures(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = [write_picture(tmp_path / "in" / f"{name}.png") for name in ("a", "b")]
    before = [path.read_bytes() for path in pictures]
    out = tmp_path / "out.jpg"
    run = ("run", "--bundle", toy_bundle, "--quiet", "--image")
    one = srd_edge(*run, pictures[0], "--annotate", out, "-o", "-")
    (result,) = one.results
    assert np.shape(result["q_map"]) == (5, 5)
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[1] == 640
    assert "q_map" not in srd_edge(*run, pictures[0], "--no-defense").results[0]
    folder = tmp_path / "seen"
    assert srd_edge(*run, tmp_path / "in", "--annotate", f"{folder}/").out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]
    assert [path.read_bytes() for path in pictures] == before


@pytest.mark.parametrize(
    ("annotate", "more", "word"),
    [
        ("out.png", (), "2 in '*.png'"),
        ("out.png", ("--max-frames", "1"), ""),
        (".", (), "nor their folder"),
        ("new/", (), ""),
        ("none/new/", (), "create the directory first"),
    ],
)
def test_where_several_pictures_may_be_annotated(
    srd_edge: SrdEdge,
    toy_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    annotate: str,
    more: Sequence[str],
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name)
    run = ("run", "--bundle", toy_bundle, "--image", "*.png", "--quiet", "--annotate", annotate)
    outcome = srd_edge(*run, *more)
    if word:
        assert_refused(outcome, 1 if "/" in annotate else 2, word)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    else:
        assert (outcome.code, outcome.err) == (0, "")
        assert (tmp_path / annotate).exists()


def test_the_demo_may_be_annotated_in_a_folder_called_demo(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ("run", "--bundle", toy_bundle, "--quiet", "--video", "demo", "--max-frames", "2")
    for _ in range(2):
        assert srd_edge(*run, "--every", "7", "--annotate", "demo/").code == 0
        names = sorted(path.name for path in (tmp_path / "demo").iterdir())
        assert names == ["demo-000000.png", "demo-000007.png"]


def test_an_impossible_budget_holds_every_frame(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path
) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--budget-ms", "1e-6", "--quiet")
    (result,) = srd_edge(*run).results
    assert (result["verdict"], result["caption"]) == ("held", None)
    assert result["within_budget"] is False
    out = tmp_path / "out.jsonl"
    assert_refused(srd_edge(*run, "--strict", "-o", out), 1, "its budget of 1e-06 ms, found ")
    assert len(parsed(out.read_text())) == 1


def test_a_gpu_that_is_not_there(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    picture, out = write_picture(tmp_path / "picture.png"), tmp_path / "out.jsonl"
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--provider", "cuda", "-o", out)
    assert_refused(srd_edge(*run, "--strict"), 5, "the provider cuda")
    assert not out.exists()
    outcome = srd_edge(*run, "--quiet")
    assert outcome.code == 0
    assert outcome.err.startswith("running on cpu: cuda")
    assert len(outcome.err.splitlines()) == len(parsed(out.read_text())) == 1


@pytest.mark.parametrize("place", [0, 1, 3, 5])
def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, toy_bundle: Path, place: int
) -> None:
    arguments = ["run", "--video", "gone.mp4", "--bundle", str(toy_bundle)]
    arguments.insert(place, "--debug")
    monkeypatch.setattr(sys, "argv", ["srd-edge", *arguments])
    with pytest.raises(SourceError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            ImportError("No module named 'torch.nn'", name="torch.nn"),
            2,
            "srd-edge: error: expected torch for `srd-edge run`, found No module named 'torch.nn': "
            'pip install "srd-edge[train,export]"',
        ),
        (
            ZeroDivisionError("two\nlines"),
            1,
            "srd-edge: error: unexpected ZeroDivisionError: two lines; --debug shows where",
        ),
    ],
)
def test_an_unexpected_error_is_one_line(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_stage, "run_stage", fail)
    outcome = srd_edge("run", "--video", "demo")
    assert (outcome.code, outcome.out, outcome.err) == (code, "", line + "\n")


@pytest.mark.parametrize(
    "command", ["run", "attack", "train", "export", "evaluate", "purify", "verify", "doctor"]
)
def test_help(srd_edge: SrdEdge, command: str) -> None:
    outcome = srd_edge(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: srd-edge {command} [OPTIONS]")


def test_help_loads_no_arrays() -> None:
    code = "import sys\nfrom srd_edge.cli import cli\ncli(['--help'], standalone_mode=False)\n"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + "assert not {'numpy', 'cv2'} & set(sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
