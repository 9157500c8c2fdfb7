"""What is known of this device's GPU and driver without PyTorch, CUDA or TensorRT.

It is part of the name under which engines are kept, so that "unknown" is an answer like any other
and never an error. On a Jetson, ``nvidia-smi`` is missing or tells little, and L4T's release file
stands for the driver.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

UNKNOWN: Final = "unknown"
_ASKED: Final = "--query-gpu=name,compute_cap,driver_version"
_PATIENCE_S: Final = 10
_SEES: Final = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
Run: TypeAlias = Callable[[Sequence[str]], str]
"""A command to its standard output; an OSError or a SubprocessError where that cannot be had."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, as far as it is known; "unknown" for what is not.

    Args:
        gpu: names of its GPUs, or of the board.
        compute_capability: of each GPU.
        driver: version of NVIDIA's kernel driver.
        l4t: release of Jetson Linux.
        visible: which GPUs CUDA is told to see; "" for all.
    """

    gpu: str = UNKNOWN
    compute_capability: str = UNKNOWN
    driver: str = UNKNOWN
    l4t: str = UNKNOWN
    visible: str = ""


def read_device() -> Device:
    """This device."""
    gpu, capability, driver = ask_nvidia_smi()
    return Device(
        gpu=board_model() if gpu == UNKNOWN else gpu,
        compute_capability=capability,
        driver=kernel_driver() if driver == UNKNOWN else driver,
        l4t=l4t_release(),
        visible=visible_gpus(os.environ),
    )


def ask_nvidia_smi(run: Run | None = None) -> tuple[str, str, str]:
    """Names, compute capabilities and driver of all GPUs; several are joined by "; "."""
    try:
        said = (run or _run)(["nvidia-smi", _ASKED, "--format=csv,noheader"])
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN, UNKNOWN, UNKNOWN
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines() if line]
    if not rows or any(len(row) != 3 for row in rows):
        return UNKNOWN, UNKNOWN, UNKNOWN
    gpus, capabilities, drivers = zip(*rows, strict=True)
    return _joined(gpus), _joined(capabilities), _joined(drivers[:1])


def kernel_driver(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version in "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  ..."."""
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", _text(path), re.MULTILINE)
    return found[1] if found else UNKNOWN


def l4t_release(path: Path = Path("/etc/nv_tegra_release")) -> str:
    """ "36.4.7" of "# R36 (release), REVISION: 4.7, GCID: ..."."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(path))
    return f"{found[1]}.{found[2]}" if found else UNKNOWN


def board_model(path: Path = Path("/proc/device-tree/model")) -> str:
    """What a board calls itself, such as "NVIDIA Jetson Orin Nano Developer Kit"."""
    return _text(path).strip("\0\n ") or UNKNOWN


def visible_gpus(environment: Mapping[str, str]) -> str:
    """The variables that say which GPUs CUDA sees, and in what order."""
    return " ".join(f"{name}={environment[name]}" for name in _SEES if name in environment)


def _run(command: Sequence[str]) -> str:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE_S,
        check=True,
    ).stdout


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _joined(cells: Sequence[str]) -> str:
    known = [
        UNKNOWN if cell.strip("[]") in ("", "N/A", "Not Supported") else cell for cell in cells
    ]
    return UNKNOWN if set(known) == {UNKNOWN} else "; ".join(known)
