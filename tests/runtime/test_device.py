"""What a device says of itself, from files and outputs as NVIDIA writes them, and from none."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from srd_edge.runtime.device import (
    UNKNOWN,
    Device,
    Run,
    ask_nvidia_smi,
    board_model,
    kernel_driver,
    l4t_release,
    read_device,
    visible_gpus,
)

NVRM = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build
GCC version:
"""
TEGRA = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64\n# KERNEL\n"


def saying(text: str) -> Run:
    def run(command: Sequence[str]) -> str:
        assert command[0] == "nvidia-smi"
        return text

    return run


def failing(error: Exception) -> Run:
    def run(command: Sequence[str]) -> str:
        raise error

    return run


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "NVIDIA H200, 9.0, 570.124.06\n",
            ("NVIDIA H200", "9.0", "570.124.06"),
        ),
        (
            "NVIDIA L4, 8.9, 570.1\nNVIDIA T4, 7.5, 570.1\n",
            ("NVIDIA L4; NVIDIA T4", "8.9; 7.5", "570.1"),
        ),
        ("Orin (nvgpu), [N/A], 540.4.0\n", ("Orin (nvgpu)", UNKNOWN, "540.4.0")),
        ("", (UNKNOWN,) * 3),
        ("No devices were found\n", (UNKNOWN,) * 3),
        ("a, b, c, d\n", (UNKNOWN,) * 3),
    ],
)
def test_nvidia_smi(said: str, expected: tuple[str, str, str]) -> None:
    assert ask_nvidia_smi(saying(said)) == expected


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("nvidia-smi"),
        PermissionError("nvidia-smi"),
        subprocess.CalledProcessError(9, "nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 10),
    ],
)
def test_no_nvidia_smi(error: Exception) -> None:
    assert ask_nvidia_smi(failing(error)) == (UNKNOWN,) * 3


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (kernel_driver, NVRM, "550.54.14"),
        (kernel_driver, OPEN, "580.65.06"),
        (kernel_driver, "nonsense", UNKNOWN),
        (l4t_release, TEGRA, "36.4.7"),
        (l4t_release, "# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0"),
        (l4t_release, "", UNKNOWN),
        (board_model, "NVIDIA Jetson Orin Nano\0", "NVIDIA Jetson Orin Nano"),
        (board_model, "\0", UNKNOWN),
    ],
)
def test_files(tmp_path: Path, read: object, text: str, expected: str) -> None:
    assert callable(read)
    path = tmp_path / "file"
    assert read(path) == UNKNOWN
    path.write_text(text)
    assert read(path) == expected


def test_which_gpus_are_seen() -> None:
    assert visible_gpus({"HOME": "/"}) == ""
    found = visible_gpus({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert found == "CUDA_VISIBLE_DEVICES=1 CUDA_DEVICE_ORDER=PCI_BUS_ID"


def test_this_device_is_read_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    device = read_device()
    assert isinstance(device, Device)
    assert device.visible.startswith("CUDA_VISIBLE_DEVICES=0")
    assert all((device.gpu, device.compute_capability, device.driver, device.l4t))
