"""``srd-edge run`` as a user meets it: exit codes, one clear line, and nothing half-written."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from srd_edge import cli
from srd_edge.errors import SourceError
from srd_edge.runtime import run_stage

COMMAND = (sys.executable, "-P", "-c", "from srd_edge.cli import main; main()")
CODECS = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, Any]]:
        return parsed(self.out)


SrdEdge = Callable[..., Outcome]


def parsed(text: str) -> list[dict[str, Any]]:
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def srd_edge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command in this process."""

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["srd-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return call


def write_clip(path: Path, frames: int = 10, size: tuple[int, int] = (48, 32)) -> Path:
    fourcc = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, size)
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    writer.release()
    return path


def write_picture(path: Path, picture: Any = None) -> Path:
    if picture is None:
        picture = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


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


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("srd-edge: error: expected ")
    for word in (", found ", ": ", *words):
        assert word in line


BAD_SOURCES: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("--video", "gone.mp4", lambda _: None, "no such file"),
    ("--image", "gone.png", lambda _: None, "no such file"),
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
    assert (result["verdict"], result["actions"]) == ("clean", [])


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
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


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
    assert {result["verdict"] for result in undefended} == {"clean"}
    assert {result["suspicion"] for result in undefended} == {None}
    assert [r["raw_caption"] for r in plain.results] == [
        undefended[i]["caption"] for i in (0, 3, 6, 9)
    ]
    assert int(cv2.VideoCapture(str(annotated)).get(cv2.CAP_PROP_FRAME_COUNT)) == 20


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
    assert_refused(srd_edge(*run, "--strict", "-o", out), 1, "within its budget")
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


def test_ctrl_c_leaves_whole_lines(toy_bundle: Path, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "long.avi", frames=4000, size=(32, 32)), tmp_path / "out"
    arguments = ["run", "--video", str(clip), "--bundle", str(toy_bundle), "-o", str(out)]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    give_up = time.monotonic() + 60
    while not out.exists() or out.stat().st_size < 2000:
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "srd-edge: interrupted"
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 4000


def test_a_killed_run_leaves_whole_lines_and_cues(toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", frames=4000, size=(32, 32))
    out, srt = tmp_path / "out.jsonl", tmp_path / "out.srt"
    run = ("run", "--video", clip, "--bundle", toy_bundle, "-o", out, "--srt", srt, "--quiet")
    process = subprocess.Popen([*COMMAND, *map(str, run)])
    give_up = time.monotonic() + 60
    while not srt.exists() or out.stat().st_size < 20_000:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    frames = [result["frame"] for result in parsed(out.read_text())]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 4000
    cues = srt.read_text().split("\n\n")
    assert cues.pop() == "", "the last cue is whole"
    for number, cue in enumerate(cues, start=1):
        lines = cue.split("\n")
        assert (lines[0], len(lines)) == (str(number), 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_ends_the_run(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "picture.png")
    run = ("run", "--image", picture, "--bundle", toy_bundle, "--quiet")
    assert_refused(srd_edge(*run, "-o", "/dev/full"), 1, "No space left", "frame 0")


class Receiver(BaseHTTPRequestHandler):
    taken: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_results_go_wherever_they_are_asked_for(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    clip = write_clip(tmp_path / "clip.avi")
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        hook = f"http://127.0.0.1:{server.server_port}/"
        run = ("run", "--video", clip, "--bundle", toy_bundle, "--quiet", "--webhook", hook)
        only = srd_edge(*run)
        assert (only.code, only.out, only.err) == (0, "", "")
        several = srd_edge(*run, "-o", "-", "--srt", tmp_path / "out.srt", "--metrics", "0")
        server.shutdown()
    assert several.code == 0
    assert several.err.startswith("srd-edge: metrics at http://127.0.0.1:")
    assert [result["frame"] for result in Receiver.taken] == [*range(10), *range(10)]
    assert Receiver.taken[10:] == several.results
    assert (tmp_path / "out.srt").read_text().startswith("1\n00:00:00,000 --> ")


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


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            ImportError("No module named 'torch.nn'", name="torch.nn"),
            2,
            "srd-edge: error: expected torch for this command, found No module named 'torch.nn': "
            'pip install "srd-edge[cpu,train,export]"',
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


def test_a_reader_that_has_seen_enough(toy_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", frames=300, size=(32, 32))
    process = subprocess.Popen(
        [*COMMAND, "run", "--video", clip, "--bundle", toy_bundle, "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


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


def test_the_next_command_can_be_pasted(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from srd_edge.evaluation import verdicts
    from srd_edge.export import bundle_export
    from srd_edge.training import datasets, policy_training

    monkeypatch.setattr(verdicts, "make_judged_victim", lambda *_, **__: None)
    monkeypatch.setattr(policy_training, "train", lambda *_: None)
    monkeypatch.setattr(bundle_export, "export_bundle", lambda *_: None)
    monkeypatch.setattr(datasets, "open_dataset", lambda *_: None)
    data, out, spec = tmp_path / "my data", tmp_path / "it's out", "badnet:size=21"

    def next_words(*arguments: str | Path) -> list[str]:
        outcome = srd_edge(*arguments, "--data", data, "-o", out)
        assert outcome.code == 0, outcome.err
        return shlex.split(outcome.err.partition("; next: ")[2])

    made = ["--captioner", str(out), "--data", str(data), "--attack", spec]
    assert next_words("attack", "--captioner", "tiny", "--attack", spec) == [
        *("srd-edge", "train", *made, "-o", "POLICY")
    ]
    given = ("--captioner", "a victim")
    assert next_words("train", *given, "--attack", spec) == [
        *("srd-edge", "export", *given, "--policy", str(out), "--data", str(data), "-o", "BUNDLE")
    ]
    assert next_words("export", *given, "--policy", tmp_path) == [
        *("srd-edge", "evaluate", "--bundle", str(out), "--data", str(data))
    ]
    assert next_words("export", *given) == [
        *("srd-edge", "run", "--bundle", str(out), "--video", "demo", "--no-defense")
    ]


def test_a_report_that_cannot_be_written_is_refused_before_measuring(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from srd_edge.evaluation import suite

    measured: list[object] = []
    monkeypatch.setattr(suite, "evaluate", measured.append)
    (tmp_path / "file").touch()
    for report in (tmp_path / "file", tmp_path / "file" / "report"):
        assert_refused(srd_edge("evaluate", "-o", report), 1, "file")
    assert not measured


def test_an_evaluation_that_is_refused_leaves_no_report(srd_edge: SrdEdge, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert_refused(srd_edge("evaluate", "--defence", "polciy", "-o", report), 2, "polciy")
    assert not report.exists()


@pytest.mark.parametrize(
    "command", ["run", "attack", "train", "export", "evaluate", "purify", "verify", "doctor"]
)
def test_help(srd_edge: SrdEdge, command: str) -> None:
    outcome = srd_edge(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: srd-edge {command} [OPTIONS]")
