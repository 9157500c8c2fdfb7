"""The live page of a run without a defence: nothing on it is called clean, or suspected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from srd_edge.runtime.live.board import About, Board

Make = Callable[..., Any]


@pytest.fixture
def board() -> Board:
    return Board(About("demo", budget_ms=40.0, defended=False, provider="cpu"))


def test_no_stretch_of_frames_is_kept_but_of_those_held(
    board: Board, frame: Make, result: Make
) -> None:
    for index in range(20):
        verdict = "held" if index in (7, 8) else "undefended"
        board.add(frame(index), result(index, verdict=verdict, suspicion=None))
    told, _ = board.since("", -1)
    assert told["counts"] == {"frames": 20, "undefended": 18, "held": 2, "late": 0}
    assert [(e["verdict"], e["first"], e["last"]) for e in told["events"]] == [("held", 7, 8)]
    assert told["points"][0] == [0, 1.0, "undefended", None]


def test_the_page_says_that_nobody_looks(
    board: Board, frame: Make, result: Make, serve: Make, browser: Any
) -> None:
    for index in range(20):
        verdict = "held" if index == 7 else "undefended"
        board.add(frame(0), result(index, verdict=verdict, suspicion=None))
    browser.open(serve().url)
    browser.until("document.querySelector('#latency path') !== null")

    def visible(words: str) -> int:
        """How many nodes that nobody has hidden say just this."""
        found: int = browser.ask(
            "[...document.querySelectorAll('dt, .key, .badge, h2, p')].filter((node) => "
            f"node.textContent === {words!r} && node.checkVisibility()).length"
        )
        return found

    assert visible("undefended") == 3, "the badge, the count and the legend"
    assert [visible(word) for word in ("clean", "suspicious", "Suspicion", "Defended caption")] == [
        *[0] * 4
    ]
    assert visible("Caption") == 1
    assert browser.ask("document.getElementById('undefended').textContent") == "19"
    drawn = "document.querySelector('#latency path.undefended').getAttribute('d').match(/M/g)"
    assert browser.ask(f"{drawn}.length") == 19
    assert browser.ask("document.querySelector('#latency path.clean')") is None
    assert browser.complaints == []
