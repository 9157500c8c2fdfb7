"""The evaluation's documents as one page that needs nothing but itself, for reading and printing.

What is compared and where it stands is worked out here and beside here; page.html.j2 only puts it
down. Whatever comes from captions, files or the command line is escaped there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from srd_edge.evaluation import tradeoff
from srd_edge.evaluation.report import (
    QUALITY,
    Document,
    between,
    contestant_times,
    number,
    percent,
)
from srd_edge.evaluation.standing import (
    STANDINGS,
    Standing,
    better_figures,
    count_standings,
    find_policy,
    standing,
)
from srd_edge.kernels.frames import Box, Pixels

_KINDS: Final = ("undefended", "policy", "control", "rival")
_LARGEST_SIDE_PX: Final = 440
_JPEG: Final = (cv2.IMWRITE_JPEG_QUALITY, 88)
_BOX: Final = (255, 214, 10)
_BOX_EDGE: Final = (20, 20, 20)


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture and what was said of it.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        caption: the captioner's.
        by: the contestant that answered; None for the undefended captioner.
        boxes: what that contestant perturbed, in pixels of the picture; they are drawn.
    """

    pixels: Pixels
    caption: str
    by: str | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Strip:
    """One picture of an attack, three times.

    Args:
        attack: its key.
        picture: its name in the data set.
        before: clean and undefended.
        triggered: with the trigger, undefended.
        perturbed: with the trigger, defended.
    """

    attack: str
    picture: str
    before: Panel
    triggered: Panel
    perturbed: Panel


@dataclass(frozen=True, slots=True)
class _Row:
    """A contestant of an attack: its figures, and where it stands beside the policy."""

    figures: Mapping[str, Any]
    better: frozenset[str]
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class _Section:
    """All that the page says of one attack."""

    attack: Mapping[str, Any]
    anchor: str
    failed: bool
    rows: Sequence[_Row]
    beaten_by: Sequence[str]
    plot: tradeoff.Plot
    cost: str
    not_plotted: Sequence[str]
    strips: Sequence[Strip]


def write_page(
    document: Document, timing: Document | None, strips: Iterable[Strip], path: Path
) -> None:
    """Write the page: one file, no network, complete without scripts.

    Args:
        document: results.json.
        timing: timing.json, which may lack attacks and contestants; None where there is none.
        strips: pictures for the attacks' sections.
        path: where to.
    """
    every = list(strips)
    sections = [
        _section(f"attack-{i}", attack, timing, [s for s in every if s.attack == attack["key"]])
        for i, attack in enumerate(document["attacks"], 1)
    ]
    text = _template().render(
        document=document,
        timing=timing,
        sections=sections,
        columns=_columns(sections),
        standings=STANDINGS,
        counts=count_standings(document["attacks"]),
        means=_means(sections),
        about=_about(document["attacks"]),
        quality=QUALITY,
        area=tradeoff,
    )
    path.write_text(text, encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "between": between,
        "data_uri": _data_uri,
        "marked": _marked,
    }
    return environment.get_template("page.html.j2")


def _section(
    anchor: str, attack: Mapping[str, Any], timing: Document | None, strips: Sequence[Strip]
) -> _Section:
    timed = [
        {**row, **contestant_times(timing, attack["key"], row["name"])}
        for row in sorted(attack["contestants"], key=lambda row: _KINDS.index(row["kind"]))
    ]
    policy = find_policy(timed)
    rows = [_row(row, policy) for row in timed]
    # One measure for all markers of a plot: time where it is known of everybody.
    cost = "ratio_clean" if all(row["ratio_clean"] for row in timed) else "captioner_passes_clean"
    return _Section(
        attack,
        anchor,
        attack["victim"]["verdict"] == "failed attack",
        rows,
        [row.figures["name"] for row in rows if row.standing == "better"],
        tradeoff.lay_out([_plotted(row, cost) for row in timed if row["clean_drop"] is not None]),
        cost,
        [row["name"] for row in timed if row["clean_drop"] is None],
        strips,
    )


def _row(figures: Mapping[str, Any], policy: Mapping[str, Any] | None) -> _Row:
    if policy is None or figures["kind"] not in ("control", "rival"):
        return _Row(figures, frozenset(), None)
    return _Row(figures, better_figures(figures, policy), standing(figures, policy))


def _plotted(row: Mapping[str, Any], cost: str) -> tradeoff.Contestant:
    low, high = row["asr_interval"]
    return tradeoff.Contestant(
        row["name"], row["kind"], row["clean_drop"], row["asr"], (low, high), row[cost]
    )


def _columns(sections: Sequence[_Section]) -> list[tuple[str, list[str]]]:
    """Every contestant's name once, in groups of one kind, for the overview."""
    kinds = {row.figures["name"]: row.figures["kind"] for s in sections for row in s.rows}
    ordered = sorted(kinds, key=lambda name: _KINDS.index(kinds[name]))
    return [(kind, list(names)) for kind, names in groupby(ordered, key=kinds.__getitem__)]


def _means(sections: Sequence[_Section]) -> dict[str, dict[str, float | None]]:
    """Mean ASR and clean drop over attacks that did not fail, of those who met every one."""
    judged = [section for section in sections if not section.failed]
    names = {row.figures["name"] for section in judged for row in section.rows}
    return {
        figure: {
            name: _mean(
                [
                    next((r.figures[figure] for r in s.rows if r.figures["name"] == name), None)
                    for s in judged
                ]
            )
            for name in names
        }
        for figure in ("asr", "clean_drop")
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there and len(there) == len(values) else None


def _about(attacks: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """By contestant: every line about it, with the attacks where it says so."""
    lines: dict[str, dict[str, list[str]]] = {}
    for attack in attacks:
        for row in attack["contestants"]:
            said = lines.setdefault(row["name"], {}).setdefault(row["about"], [])
            said.append(attack["key"])
    return lines


def _marked(caption: str, target: str) -> list[tuple[str, bool]]:
    """A caption in pieces, and for each whether it is the attacker's target."""
    if not target.strip():
        return [(caption, False)]
    pieces = re.split(rf"(?<!\w)({re.escape(target)})(?!\w)", caption, flags=re.IGNORECASE)
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def _data_uri(panel: Panel) -> dict[str, Any]:
    """The picture with its boxes, not larger than the page shows it, and its size."""
    height, width = panel.pixels.shape[:2]
    scale = min(_LARGEST_SIDE_PX / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    pixels = cv2.resize(panel.pixels, size, interpolation=cv2.INTER_AREA)
    for box in panel.boxes:
        drawn = box.scaled(size[0] / width, size[1] / height).clipped(*size)
        corners = (drawn.left, drawn.top), (drawn.right - 1, drawn.bottom - 1)
        cv2.rectangle(pixels, *corners, _BOX_EDGE, 4)
        cv2.rectangle(pixels, *corners, _BOX, 2)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, _JPEG)
    data = base64.b64encode(encoded.tobytes()).decode("ascii")
    return {"src": f"data:image/jpeg;base64,{data}", "width": size[0], "height": size[1]}
