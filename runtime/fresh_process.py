"""A command in a fresh process: when its first line comes, and the most memory that it ever took.

The kernel's peak of a process counts what it was forked from as well, up to the moment in which it
becomes a program of its own: a child of a process of 340 MB has had 340 MB, whatever it does. So a
small interpreter stands between, and the command is its child.
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
import json, os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
found = start, used.ru_maxrss, os.waitstatus_to_exitcode(status)
os.write(int(sys.argv[1]), json.dumps(found).encode())
"""
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Start:
    """What a process took.

    Args:
        line: the first that it wrote to standard output.
        first_line_s: from its start until that line was here, in seconds.
        peak_mb: the most resident memory, in MB (10^6 bytes).
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
            found=said.decode(errors="replace").strip()[-300:] or f"exit {code}",
            do="run that command by itself",
        )
    return Start(line, came - start, peak_kib * _KIB / 1e6)
