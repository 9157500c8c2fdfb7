"""The command line in a process where PyTorch and all that comes with it are missing."""

from __future__ import annotations

import subprocess
import sys


def without_torch(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "onnxscript", "safetensors", "PIL"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocked())
from srd_edge.cli import main
main()
"""
