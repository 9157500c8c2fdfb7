"""The files of a report, each whole or not there: results, times, table and page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from srd_edge.errors import RunError
from srd_edge.evaluation.page import write_page
from srd_edge.evaluation.report import write_csv
from srd_edge.evaluation.results_schema import check_results
from srd_edge.evaluation.suite import Evaluated

RESULTS: Final = "results.json"
TIMING: Final = "timing.json"
TABLE: Final = "results.csv"
PAGE: Final = "report.html"


def check_report(directory: Path) -> None:
    """Find out before an hour of measuring whether the report can be written; leaves nothing.

    Raises:
        RunError: when the directory cannot be made or written to.
    """
    probe = directory / ".writable"
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        if made:
            directory.rmdir()
    except OSError as error:
        raise RunError(
            expected="a directory for the report that can be written to",
            found=f"{directory}: {error.strerror}",
            do="choose another with -o",
        ) from error


def write_report(evaluated: Evaluated, directory: Path) -> None:
    """Check the results against their schema and write every file of the report."""
    check_results(evaluated.results)
    _write_json(evaluated.results, directory / RESULTS)
    _write_json(evaluated.timing, directory / TIMING)
    write_csv(evaluated.results, evaluated.timing, directory / TABLE)
    write_page(evaluated.results, evaluated.timing, evaluated.strips, directory / PAGE)


def _write_json(document: dict[str, Any], path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
