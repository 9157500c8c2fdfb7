"""Every example runs as it is, on the built-in clip, and says what it is there to show."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMAND = str(Path(sys.executable).with_name("srd-edge"))


def ran(*command: str | Path, folder: Path) -> list[str]:
    """Lines of standard output of a command that runs in ``folder`` and complains of nothing."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def example(name: str, *arguments: str, folder: Path) -> list[str]:
    return ran(sys.executable, EXAMPLES / f"{name}.py", *arguments, folder=folder)


def as_run_says(folder: Path, *options: str) -> list[dict[str, object]]:
    run = (COMMAND, "run", "--video", "demo", "--quiet", *options)
    return [json.loads(line) for line in ran(*run, folder=folder)]


def test_each_is_tested_here() -> None:
    tested = set(re.findall(r'example\(\s*"(\w+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix} == tested


def test_captions_are_those_of_a_run(tmp_path: Path) -> None:
    lines = example("captions", "demo", "--max-frames", "4", folder=tmp_path)
    expected = as_run_says(tmp_path, "--max-frames", "4")
    assert [line.split(maxsplit=3)[2:] for line in lines] == [
        [result["verdict"], result["caption"]] for result in expected
    ]


def test_two_sources_share_a_loop_with_other_work(tmp_path: Path) -> None:
    *said, last = example("two_sources", "--max-frames", "12", folder=tmp_path)
    assert {line.split()[0] for line in said} == {"gate.webm", "yard.webm"}
    turns = re.fullmatch(r"the event loop had (\d+) turns for other work", last)
    assert turns is not None
    assert int(turns[1]) > 3


def test_an_own_sink_has_every_incident(tmp_path: Path) -> None:
    assert example("own_sink", folder=tmp_path) == [], "it is named, not run"
    sink = f"{EXAMPLES / 'own_sink.py'}:Incidents,path=incidents.csv"
    results = as_run_says(tmp_path, "--max-frames", "34", "--sink", sink, "-o", "-")
    with (tmp_path / "incidents.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    incidents = [result for result in results if result["verdict"] != "clean"]
    assert incidents, "the clip has triggers among these frames"
    assert [(int(row["frame"]), row["verdict"], row["caption"]) for row in rows] == [
        (result["frame"], result["verdict"], result["caption"]) for result in incidents
    ]
    assert all(re.fullmatch(r"[0-9]+%", row["changed"]) for row in rows)


def test_an_own_trigger_is_laid_over_frames_and_known_to_attacks(tmp_path: Path) -> None:
    from srd_edge.attacks.specs import parse_attack

    lines = example("own_trigger", "--max-frames", "2", folder=tmp_path)
    assert [" ".join(line.split()[:3]) for line in lines] == [
        f"frame {number} {name}" for number in range(2) for name in ("without", "with")
    ]
    spec = f"{EXAMPLES / 'own_trigger.py'}:Cross,target=banana,rate=0.1,size=30"
    assert parse_attack(spec).trigger.size == 30  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget_ms", ["100000", "0.01"])
def test_a_robot_goes_on_or_stops(budget_ms: str, tmp_path: Path) -> None:
    lines = example("robot", "--budget-ms", budget_ms, "--max-frames", "10", folder=tmp_path)
    assert [line.split(":")[0] for line in lines] == [str(number) for number in range(10)]
    decisions = {line.split(": ")[1] for line in lines}
    if budget_ms == "0.01":
        # Captions come late, and are told of later frames: never in time to go on.
        assert lines[0] == "0: stop: held, None (given up: caption)"
        assert decisions <= {"stop", "slow down"}
    else:
        assert decisions == {"go on", "slow down"}


@pytest.mark.parametrize("by", ["supervision", "opencv"])
def test_boxes_are_drawn(by: str, tmp_path: Path) -> None:
    lines = example("draw", "demo", "out", "--with", by, "--pictures", "1", folder=tmp_path)
    (path,) = (tmp_path / "out").iterdir()
    assert lines[0].startswith(f"out/{path.name}: ")
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape == (480, 640, 3)


def test_boxes_are_drawn_where_supervision_is_not_installed(tmp_path: Path) -> None:
    script = (
        "import runpy, sys; sys.modules['supervision'] = None; del sys.argv[0];"
        " runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    draw = (EXAMPLES / "draw.py", "demo", "out", "--pictures", "1")
    (line,) = ran(sys.executable, "-c", script, *draw, folder=tmp_path)
    (path,) = (tmp_path / "out").iterdir()
    assert line.startswith(f"out/{path.name}: ")
