"""A sink of one's own: a table of everything that was suspicious or held.

srd-edge run --video demo --sink examples/own_sink.py:Incidents,path=incidents.csv

A package offers it by name (`--sink incidents:path=incidents.csv`) with

    [project.entry-points."srd_edge.sinks"]
    incidents = "my_package.own_sink:Incidents"
"""

import csv
from pathlib import Path

from srd_edge import Frame, Result


class Incidents:
    """Takes every result of a run, in order; its settings come as text."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("w", newline="", encoding="utf-8")  # noqa: SIM115 - until close
        self._table = csv.writer(self._file)
        self._table.writerow(["frame", "time_s", "verdict", "suspicion", "changed", "caption"])

    def write(self, frame: Frame, result: Result) -> None:
        if result.verdict not in ("suspicious", "held"):
            return
        height, width = frame.pixels.shape[:2]
        area = sum(action.box.width * action.box.height for action in result.actions)
        share = f"{area / (width * height):.0%}"
        suspicion = "" if result.suspicion is None else f"{result.suspicion:.2f}"
        self._table.writerow(
            [result.frame, f"{result.time_s:.2f}", result.verdict, suspicion, share, result.caption]
        )
        self._file.flush()

    def close(self) -> None:
        self._file.close()
