"""What the device's side really loads, seen from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

HEAVY = {
    "PIL",
    "gymnasium",
    "onnx",
    "onnxscript",
    "paho",
    "prometheus_client",
    "pycocoevalcap",
    "safetensors",
    "starlette",
    "supervision",
    "torch",
    "transformers",
    "uvicorn",
}
IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(getattr(package, "__path__", []), sys.argv[1] + ".")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
IMPORT_PUBLIC = """
import json, sys
import srd_edge
names = [name for name in srd_edge.__all__ if getattr(srd_edge, name)]
print(json.dumps([names, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

RUN_WITHOUT = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{name} is not installed here")
heavy = set(json.loads(sys.argv.pop(1)))
sys.meta_path.insert(0, Blocked())
from srd_edge.cli import main
main()
"""


RUN_AND_TELL = """
import json, os, sys
from srd_edge.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
import cv2
told = sorted(sys.modules), [os.environ["OPENBLAS_NUM_THREADS"], str(cv2.getNumThreads())]
print(json.dumps(told), file=sys.stderr)
"""
RUN_AND_TELL_WHEN = """
import sys
from srd_edge.runtime import captioning_link
start = captioning_link._started
def started():
    print("numpy" in sys.modules, file=sys.stderr)
    return start()
captioning_link._started = started
from srd_edge.cli import main
main()
"""
UNASKED = {"email", "http", "imagesize", "importlib.metadata", "rich", "ssl", "xml"}
"""What a video to JSON lines has no use for."""


def imported(script: str, *arguments: str) -> tuple[list[str], set[str]]:
    """Run ``script``; what it says it imported, and the top-level modules that came with it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names, modules = json.loads(done.stdout)
    return names, set(modules)


@pytest.mark.parametrize("package", ["srd_edge.kernels", "srd_edge.runtime"])
def test_the_devices_side_loads_nothing_heavy(package: str) -> None:
    names, modules = imported(IMPORT_ALL, package)
    assert len(names) > 3, "the modules of the package were not found"
    assert not modules & HEAVY


def test_kernels_are_array_functions() -> None:
    _, modules = imported(IMPORT_ALL, "srd_edge.kernels")
    assert not modules & {"onnxruntime", "tokenizers", "click", "rich"}


def test_the_public_names_load_nothing_heavy() -> None:
    names, modules = imported(IMPORT_PUBLIC)
    assert "Defender" in names
    assert not modules & HEAVY


def test_the_command_line_starts_lean() -> None:
    _, modules = imported(IMPORT_ALL, "srd_edge.cli")
    assert not modules & HEAVY


def test_a_bundle_runs_where_nothing_heavy_is_installed(toy_bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.full((40, 60, 3), (200, 90, 30), np.uint8))
    arguments = ["run", "--image", str(picture), "--bundle", str(toy_bundle), "--compare"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_WITHOUT, json.dumps(sorted(HEAVY)), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["frame"], result["verdict"]) in {(0, "clean"), (0, "suspicious")}
    assert result["caption"] is not None
    assert result["raw_caption"] is not None


def test_a_video_to_lines_is_run_by_few_modules_and_on_one_thread(toy_bundle: Path) -> None:
    arguments = ["run", "--quiet", "--video", "demo", "--max-frames", "1", "--bundle"]
    threads = ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_AND_TELL, *arguments, str(toy_bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in threads},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frame"] == 0
    modules, one_thread = json.loads(done.stderr.splitlines()[-1])
    assert "srd_edge.runtime.runner" in modules
    assert not UNASKED & set(modules)
    assert one_thread == ["1", "1"]


def test_with_a_budget_one_process_is_started_before_anything_heavy(toy_bundle: Path) -> None:
    arguments = ["run", "--quiet", "--video", "demo", "--max-frames", "1", "--budget-ms", "1e6"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_AND_TELL_WHEN, *arguments, "--bundle", str(toy_bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frame"] == 0
    assert done.stderr.split() == ["False"]
