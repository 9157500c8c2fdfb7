"""Where a figure comes from: the command, the commit, the machine and the versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import srd_edge
from srd_edge.runtime.addresses import without_secrets
from srd_edge.runtime.machine import processor, usable_cores


def provenance(command: Sequence[str], packages: Sequence[str]) -> dict[str, Any]:
    """Plain JSON values, to be written beside figures.

    Args:
        command: that measured them, in words; the secrets of addresses are left out.
        packages: whose versions matter; those that are not installed are left out.
    """
    return {
        "command": shlex.join(without_secrets(word) for word in command),
        "commit": commit(),
        "machine": {
            "processor": processor(),
            "cores": usable_cores(),
            "load": round(os.getloadavg()[0], 2),
            "system": platform.release(),
        },
        "versions": {"srd_edge": srd_edge.__version__, "python": platform.python_version()}
        | installed(packages),
    }


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None outside of one."""
    root = Path(srd_edge.__file__).parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those that are there."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
