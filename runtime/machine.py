"""The machine that this runs on: its processor by name, and the cores that may be used."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_NAMING = ("model name", "cpu family", "model")
"""What x86 says of itself in /proc/cpuinfo; clouds hide a name, but not family and model."""


def processor(
    cpuinfo: Path = Path("/proc/cpuinfo"), board: Path = Path("/proc/device-tree/model")
) -> str:
    """The architecture and what the system knows besides: processor, or board, by name.

    Example: ``x86_64, Intel(R) Xeon(R) Processor, cpu family 6, model 207``; on a Jetson
    ``aarch64, NVIDIA Jetson AGX Orin Developer Kit``.
    """
    fields = [line.partition(":") for line in _lines(cpuinfo)]
    said = {name.strip(): value.strip() for name, _, value in reversed(fields)}
    named = [
        said[name] if name == "model name" else f"{name} {said[name]}"
        for name in _NAMING
        if name in said
    ]
    return ", ".join([platform.machine(), *(named or _lines(board)[:1])])


def _lines(path: Path) -> list[str]:
    """Of a file of the system's; none where there is no such file."""
    try:
        return path.read_text(errors="replace").strip("\0\n").splitlines()
    except OSError:
        return []


def usable_cores(
    cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Cores this process may keep busy: its affinity, capped by its cgroups' quota (v1 and v2).

    onnxruntime looks at neither. A quota of 2.5 cores counts as 2: a third thread would be
    throttled for the rest of every period, and an operator waits for its slowest thread.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return cores
    for line in lines:
        _, _, place = line.partition(":")
        controllers, _, group = place.partition(":")
        if controllers == "":
            mounts = [cgroups]
        elif "cpu" in controllers.split(","):
            mounts = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        for mount in mounts:
            # A limit binds everything below it; in a container the path may not exist at all.
            own = mount / group.strip("/")
            for directory in (own, *own.parents):
                if directory.is_relative_to(mount):
                    cores = min(cores, _quota(directory) or cores)
    return cores


def _quota(directory: Path) -> int | None:
    """Whole cores that one cgroup directory grants, at least 1; None where it sets no limit."""
    try:
        if (directory / "cpu.max").exists():
            quota, period = (directory / "cpu.max").read_text().split()
        else:
            quota = (directory / "cpu.cfs_quota_us").read_text()
            period = (directory / "cpu.cfs_period_us").read_text()
        return max(int(quota) // int(period), 1) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
