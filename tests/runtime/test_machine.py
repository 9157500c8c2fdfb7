"""What a machine says of itself, and the cores that it grants."""

import os
import platform
from pathlib import Path

import pytest

from srd_edge.runtime.machine import processor, usable_cores

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu vme

processor\t: 1
cpu family\t: 6
model\t\t: 207
model name\t: another
"""
ORIN = """processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""


@pytest.mark.parametrize(
    ("cpuinfo", "board", "named"),
    [
        (XEON, None, ", Intel(R) Xeon(R) Processor, cpu family 6, model 207"),
        (ORIN, "NVIDIA Jetson AGX Orin Developer Kit\0", ", NVIDIA Jetson AGX Orin Developer Kit"),
        (ORIN, None, ""),
        (None, None, ""),
    ],
)
def test_a_processor_by_name(
    tmp_path: Path, cpuinfo: str | None, board: str | None, named: str
) -> None:
    for name, text in (("cpuinfo", cpuinfo), ("model", board)):
        if text is not None:
            (tmp_path / name).write_text(text)
    found = processor(tmp_path / "cpuinfo", tmp_path / "model")
    assert found == platform.machine() + named


@pytest.mark.parametrize(
    ("member", "files", "cores"),
    [
        pytest.param("", {}, 8, id="no cgroup"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 8, id="v2 without a limit"),
        pytest.param("0::/\n", {"cpu.max": "250000 100000\n"}, 2, id="v2 rounds down"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 1, id="v2 at least one"),
        pytest.param("0::/\n", {"cpu.max": "9900000 100000\n"}, 8, id="v2 above the affinity"),
        pytest.param("0::/\n", {"cpu.max": "nonsense\n"}, 8, id="v2 unreadable"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "300000 100000"}, 3, id="v2 limit above"),
        pytest.param("0::/gone\n", {"cpu.max": "400000 100000"}, 4, id="v2 path of the host"),
        pytest.param(
            "3:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="v1",
        ),
        pytest.param(
            "1:cpu:/job\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
            id="v1 without a limit",
        ),
    ],
)
def test_usable_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    member: str,
    files: dict[str, str],
    cores: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    membership = tmp_path / "self"
    membership.write_text(member)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert usable_cores(tmp_path / "cgroup", membership) == cores


def test_usable_cores_here_and_without_proc(tmp_path: Path) -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path, tmp_path / "gone") == len(os.sched_getaffinity(0))
