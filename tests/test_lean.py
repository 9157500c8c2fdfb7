"""What the device's side really loads, seen from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "gymnasium",
    "onnx",
    "onnxscript",
    "pycocoevalcap",
    "safetensors",
    "torch",
    "transformers",
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
