"""What a device has to have: disk, memory, and seconds until the first caption.

    python benchmarks/footprint.py [--runs 3] [--frames 30]

A fresh environment is made of this checkout's index with `pip install ".[cpu]"`, its disk is
counted, and its `srd-edge run --quiet --video ... --max-frames 30` is started a few times on the
built-in clip and on the same clip scaled up, without a budget and with one, for which there is a
second process. One JSON document is written to benchmarks/results/footprint.json: memory is the
most of any run, seconds are their median.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
from enlarged import enlarged_clip

from srd_edge.runtime.fresh_process import start_afresh
from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.provenance import provenance
from srd_edge.runtime.terminal import progress_bar

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "footprint.json"
SIZES: Final = ((1280, 720), (1920, 1080))
LARGEST: Final = 12
BUDGET_MS: Final = 50
NOT_OURS: Final = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
"""What `python -m venv` puts there by itself."""
BLOCK_BYTES: Final = 512


def installed(folder: Path) -> Path:
    """A fresh environment in ``folder`` with what is in git's index, and its command."""
    tree, environment = folder / "tree", folder / "environment"
    subprocess.run(
        ["git", "-C", str(ROOT), "checkout-index", "--all", f"--prefix={tree}/"], check=True
    )
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", f"{tree}[cpu]"], check=True)
    return environment / "bin" / "srd-edge"


def on_disk_mb(path: Path) -> float:
    """What ``du`` says of a file or folder, in MB (10^6 bytes)."""
    files = [path, *path.rglob("*")]
    return sum(file.lstat().st_blocks for file in files) * BLOCK_BYTES / 1e6


def disk(environment: Path, packages: Path) -> dict[str, Any]:
    """The disk that an environment takes, and its largest packages."""
    sizes = {entry.name: on_disk_mb(entry) for entry in packages.iterdir()}
    venvs_own = sum(
        size for name, size in sizes.items() if name.partition("-")[0].startswith(NOT_OURS)
    )
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    return {
        "environment_mb": round(on_disk_mb(environment), 1),
        "site_packages_mb": round(sum(sizes.values()), 1),
        "of_them_pip_and_setuptools_mb": round(venvs_own, 1),
        "largest_mb": {name: round(size, 1) for name, size in largest},
    }


def runs(command: list[str], frames: int, times: int, done: Callable[[], None]) -> dict[str, float]:
    """Fresh processes: seconds until the first caption, and the most memory."""
    words = [*command, "--max-frames", str(frames)]
    found = []
    for _ in range(times):
        found.append(start_afresh(words))
        done()
    return {
        "first_caption_s": round(median(start.first_line_s for start in found), 3),
        "peak_mb": round(max(start.peak_mb for start in found), 1),
    }


@click.command()
@click.option("--runs", "times", default=3)
@click.option("--frames", default=30)
def main(times: int, frames: int) -> None:
    """Measure a fresh environment."""
    quiet_opencv()
    steps = 1 + times * 2 * (1 + len(SIZES))
    with tempfile.TemporaryDirectory() as name, progress_bar(steps, "steps") as progress:
        folder, steps_done = Path(name), count(1)

        def done() -> None:
            progress(next(steps_done))

        command = installed(folder)
        done()
        sources = {"640x480": "demo"} | {
            f"{width}x{height}": str(enlarged_clip(folder / f"{height}.mp4", width, height))
            for width, height in SIZES
        }

        def measured(words: list[str]) -> dict[str, dict[str, float]]:
            run = [str(command), "run", "--quiet", *words]
            return {
                size: runs([*run, "--video", source], frames, times, done)
                for size, source in sources.items()
            }

        packages = next(command.parents[1].glob("lib/python*/site-packages"))
        report = {
            "disk": disk(command.parents[1], packages),
            "runs": measured([]),
            "budget_ms": BUDGET_MS,
            "runs_in_a_budget": measured(["--budget-ms", str(BUDGET_MS)]),
        } | provenance(["benchmarks/footprint.py", *sys.argv[1:]], ())
        report["versions"] |= {
            found.name: found.version for found in distributions(path=[str(packages)])
        }
    text = json.dumps(report, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
