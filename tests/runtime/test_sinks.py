"""Sinks that write files touch none too early; JSON lines are whole, whatever ends the run."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from srd_edge.errors import RunError
from srd_edge.runtime.annotated_video import AnnotatedVideo
from srd_edge.runtime.sinks import JsonLines, NoReaderError
from tests.runtime.some_results import frame, result


def test_json_lines_are_the_results(tmp_path: Path) -> None:
    path = tmp_path / "ü out.jsonl"
    path.write_text("an older run\n" * 99)
    sink = JsonLines(path)
    for index in range(3):
        sink.write(frame(index), result(index, "ein Hund läuft"))
        lines = path.read_text().splitlines()
        assert len(lines) == index + 1  # on disk before the next frame
        assert json.loads(lines[-1]) == result(index, "ein Hund läuft").to_json()
    sink.close()
    sink.close()


def test_json_lines_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    sink = JsonLines("-")
    sink.write(frame(), result())
    sink.close()
    assert json.loads(capsys.readouterr().out) == result().to_json()
    print("still open")


@pytest.mark.parametrize("make", [JsonLines, AnnotatedVideo])
def test_what_cannot_be_written_is_refused_up_front(tmp_path: Path, make: type) -> None:
    with pytest.raises(RunError, match="create the directory first"):
        make(tmp_path / "none" / "out.webm")
    (tmp_path / "folder.webm").mkdir()
    with pytest.raises(RunError, match="directory"):
        make(tmp_path / "folder.webm")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_run_error() -> None:
    sink = JsonLines("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        sink.write(frame(), result())
    sink.close()


def test_a_reader_that_has_gone_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(NoReaderError):
        JsonLines("-").write(frame(), result())


@pytest.mark.parametrize("make", [JsonLines, AnnotatedVideo])
def test_nothing_is_touched_before_the_first_frame(
    tmp_path: Path, make: type[JsonLines] | type[AnnotatedVideo]
) -> None:
    path, link = tmp_path / "out.webm", tmp_path / "link.webm"
    make(path).close()
    assert not path.exists()
    path.write_text("an older run")
    make(path).close()
    assert path.read_text() == "an older run"
    path.unlink()
    link.symlink_to(path)
    make(link).close()
    assert link.is_symlink()
    assert not path.exists()
    sink = make(path)
    path.write_text("an older run")
    sink.write(frame(), result())
    sink.close()
    assert b"an older run" not in path.read_bytes()


def test_a_pipe_is_not_opened_to_try_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    JsonLines(pipe).close()  # opening it would wait for a reader
    assert pipe.is_fifo()


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    code = (
        "import sys, itertools, numpy as np\n"
        "from srd_edge.kernels.frames import Frame\n"
        "from srd_edge.runtime.records import Result\n"
        "from srd_edge.runtime.sinks import JsonLines\n"
        "sink, frame = JsonLines(sys.argv[1]), Frame(np.zeros((1, 1, 3), np.uint8))\n"
        "for index in itertools.count():\n"
        "    sink.write(frame, Result(index, 0.0, 'word ' * 500, 'clean', 0.0))\n"
        "    if index == 99: print('going', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    data = path.read_bytes()
    assert data.endswith(b"\n")
    assert [json.loads(line)["frame"] for line in data.splitlines()] == list(
        range(data.count(b"\n"))
    )
