"""A command in a fresh process: when its first line comes, and the most memory that it ever took.

The kernel's peak of a process counts what it was forked from as well, up to the moment in which it
becomes a program of its own: a child of a process of 340 MB has had 340 MB, whatever it does. So a
small interpreter stands between, and the command is its child. What processes of the command's own
take is looked at twenty times a second, what they share counted once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from srd_edge.errors import RunError

_BETWEEN: Final = """
import json, os, re, subprocess, sys, time

def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""

def family(pid):
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        said = read(f"/proc/{name}/stat").rpartition(")")[2].split()
        if said:
            parents.setdefault(int(said[1]), []).append(int(name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found

def resident_kib(pid):
    found = re.search("^Pss: *([0-9]+)", read(f"/proc/{pid}/smaps_rollup"), re.M)
    return int(found[1]) if found else 0

start, most = time.monotonic(), 0
process = subprocess.Popen(sys.argv[2:])
while True:
    pid, status, used = os.wait4(process.pid, os.WNOHANG)
    if pid:
        break
    pids = family(process.pid)
    if len(pids) > 1:
        most = max(most, sum(map(resident_kib, pids)))
    time.sleep(0.05)
found = start, max(most, used.ru_maxrss), os.waitstatus_to_exitcode(status)
os.write(int(sys.argv[1]), json.dumps(found).encode())
"""
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Start:
    """What a process took.

    Args:
        line: the first that it wrote to standard output.
        first_line_s: from its start until that line was here, in seconds.
        peak_mb: the most resident memory of it and its own processes, in MB (10^6 bytes).
    """

    line: bytes
    first_line_s: float
    peak_mb: float


def start_afresh(command: Sequence[str]) -> Start:
    """Run a command to its end.

    Raises:
        RunError: if it fails, or writes nothing.
    """
    told, tell = os.pipe()
    between = [sys.executable, "-I", "-S", "-c", _BETWEEN, str(tell), *command]
    with open(told, "rb") as report:  # noqa: PTH123 - a descriptor
        process = subprocess.Popen(
            between,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(tell,),
        )
        os.close(tell)
        assert process.stdout is not None
        line = process.stdout.readline()
        came = time.monotonic()
        _, said = process.communicate()
        found = report.read()
    start, peak_kib, code = json.loads(found) if found else (came, 0, process.returncode)
    if code or not line:
        raise RunError(
            expected=f"a line from {' '.join(command[:2])} in a process of its own",
            found=" ".join(said.decode(errors="replace").split())[-300:] or f"exit {code}",
            do="run that command by itself",
        )
    return Start(line, came - start, peak_kib * _KIB / 1e6)
