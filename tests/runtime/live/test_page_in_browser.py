"""The page in a browser: it follows its run, fits any window, runs no caption."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.annotated_video import AnnotatedVideo
from srd_edge.runtime.live.board import Board

Make = Callable[..., Any]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 800)])
def test_it_fits_and_can_be_used_by_keyboard(
    serve: Make,
    board: Board,
    frame: Make,
    result: Make,
    browser: Any,
    fares: Any,
    width: int,
    height: int,
) -> None:
    server = serve()
    camera = "rtsp://cameras.example/a/very/long/name" * 4
    fares.set((camera, "lost", 1234567, 12), ("b", "reading", 0, 0), **{"mqtt://" + "host" * 30: 9})
    for index in range(400):
        held = index % 7 == 0
        board.add(
            frame(0),
            result(
                index,
                "word" * 60 if index % 2 else "a dog on a lawn",
                verdict="held" if held else "suspicious",
                total_ms=0.5 + 90 * (index == 399),
                source="a/very/long/name" * 9,
            ),
        )
    browser.open(server.url, width, height)
    browser.until("document.querySelectorAll('#events li').length > 0")
    browser.until("document.querySelector('#latency .budget') !== null")
    root = "document.documentElement"
    assert browser.ask(f"{root}.scrollWidth <= {root}.clientWidth"), "it does not scroll sideways"
    assert browser.ask("document.querySelector('#latency .budget-words').textContent") == "40 ms"
    wide = (
        "[...document.querySelectorAll('svg text, svg path')].filter((node) => { const box = "
        "node.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth; }).length"
    )
    assert browser.ask(wide) == 0
    names = "[...document.querySelectorAll('button, img, svg')].filter((node) => !node.hidden)"
    named = "(node.textContent.trim() || node.alt || node.getAttribute('aria-label') || '')"
    assert browser.ask(f"{names}.every((node) => {named} !== '')")
    browser.ask("document.getElementById('pause').focus()")
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    browser.tell("Input.dispatchKeyEvent", type="keyDown", **key)
    browser.tell("Input.dispatchKeyEvent", type="keyUp", **key)
    assert browser.ask("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    assert browser.complaints == []


def test_points_of_several_sources_stand_in_the_order_in_which_they_came(
    serve: Make, board: Board, frame: Make, result: Make, browser: Any, fares: Any
) -> None:
    server = serve()
    fares.set(("door", "reading", 0, 0), ("yard", "reading", 0, 0))
    for index in range(30):
        board.add(frame(0), result(9000 - index, source="door"))
        board.add(frame(0), result(index, source="yard"))
    browser.open(server.url)
    browser.until("document.querySelector('#history path.clean') !== null")
    for name in ("latency", "history"):
        drawn = browser.ask(f"document.querySelector('#{name} path.clean').getAttribute('d')")
        across = [float(x) for x in re.findall(r"M([0-9.-]+) ", drawn)]
        assert len(across) == 60
        assert across == sorted(set(across))
        wide = browser.ask(f"document.getElementById('{name}').clientWidth")
        assert across[0] > 0
        assert across[-1] < wide


def test_the_end_is_said_of_the_run_and_of_each_of_several_sources(
    serve: Make, board: Board, frame: Make, result: Make, browser: Any, fares: Any
) -> None:
    server = serve()
    board.add(frame(0), result(0))
    fares.set(("door", "failed", 0, 0), ("yard", "ended", 0, 0))
    board.end()
    browser.open(server.url)
    browser.until("document.getElementById('state').dataset.state === 'ended'")
    items = "[...document.querySelectorAll('#sources li')].map((item) => item.textContent)"
    assert browser.ask(items) == ["door given up", "yard ended"]
    fares.set(("door", "failed", 0, 0))
    browser.until("document.querySelectorAll('#sources li').length === 1")
    assert browser.ask(items) == ["door given up"], "which the end of the run does not tell"


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_browsers_play_the_annotated_webm_and_no_mp4(
    frame: Make, result: Make, browser: Any, tmp_path: Path, suffix: str
) -> None:
    video = AnnotatedVideo(tmp_path / f"seen{suffix}", 10.0)
    for index in range(20):
        video.write(frame(0), result(index))
    video.close()
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><video muted src=seen{suffix}></video>")
    browser.open(page.as_uri())
    if suffix == ".mp4":
        browser.until(
            "document.querySelector('video').error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED"
        )
        return
    browser.until("document.querySelector('video').readyState >= 2")
    height, width = annotate(frame(0), result(0)).shape[:2]
    shown = "document.querySelector('video')"
    assert browser.ask(f"[{shown}.videoWidth, {shown}.videoHeight]") == [width, height]
    assert browser.ask(f"{shown}.currentTime") == 0
    browser.ask(f"{shown}.play()")
    browser.until(f"{shown}.currentTime > 0.5")
    browser.until(f"{shown}.ended && {shown}.currentTime > 1.8")


def test_a_lost_source_and_lost_results_are_said_plainly(
    serve: Make, board: Board, frame: Make, result: Make, browser: Any, fares: Any
) -> None:
    def words() -> Any:
        return browser.ask(
            "[...document.querySelectorAll('#sources li')].map((li) => li.textContent)"
        )

    def shown(name: str) -> Any:
        node = f"document.getElementById({name!r})"
        return browser.ask(f"{node}.closest('[hidden]') ? null : {node}.textContent")

    server = serve()
    board.add(frame(0), result(0))
    browser.open(server.url)
    browser.until("document.querySelector('#sources .condition') !== null")
    assert words() == ["demo reading"]
    assert [shown(name) for name in ("passed", "reconnections", "lost", "lost-words")] == [None] * 4
    fares.set(("a", "reading", 3, 0), ("b", "reading", 4, 1), mqtt=0)
    board.add(frame(1), result(1))
    browser.until("document.querySelectorAll('#sources li').length === 2")
    assert words() == ["a live", "b live"]
    assert [shown(name) for name in ("passed", "reconnections", "lost", "lost-words")] == [
        *("7", "1", "0"),
        None,
    ]
    fares.set(("a", "lost", 3, 0), ("b", "failed", 4, 1), mqtt=1, webhook=20)
    browser.until("document.querySelector('#sources [data-condition=lost]') !== null")
    assert words() == ["a lost, trying again", "b given up"]
    assert shown("lost") == "21"
    assert shown("lost-words") == (
        "1 result was not delivered to mqtt; 20 results were not delivered to webhook"
    )
    assert browser.ask("document.getElementById('state').dataset.state") == "away"
    fares.set(("a", "reading", 3, 1), ("b", "ended", 4, 1), mqtt=1, webhook=20)
    browser.until("document.querySelector('#sources [data-condition=lost]') === null")
    assert words() == ["a live", "b ended"]
    assert shown("reconnections") == "2"
    assert browser.complaints == []


def test_a_caption_is_text_whatever_it_says(
    serve: Make, board: Board, frame: Make, result: Make, browser: Any, fares: Any
) -> None:
    evil = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\'"&amp;'
    fares.set((evil, "lost", 0, 0), **{evil: 1})
    server = serve()
    board.add(
        frame(0), result(0, evil, raw_caption=evil, verdict="suspicious", source=evil + "</title>")
    )
    browser.open(server.url)
    browser.until("document.querySelectorAll('#events li').length === 1")
    browser.until("document.getElementById('picture').naturalWidth > 0")
    assert browser.ask("document.getElementById('caption').textContent") == evil
    assert browser.ask("document.getElementById('raw').textContent") == evil
    assert browser.ask("document.querySelector('#events .caption').textContent") == evil
    assert browser.ask("document.querySelector('#sources .source-name').textContent") == evil
    assert browser.ask("typeof window.owned") == "undefined"
    assert browser.ask("document.querySelectorAll('img').length") == 2, "the frame and a thumbnail"
    assert browser.complaints == []


def test_the_page_follows_and_says_when_the_run_is_gone(
    serve: Make, board: Board, frame: Make, result: Make, browser: Any
) -> None:
    server = serve()
    browser.open(server.url)
    browser.until("document.getElementById('state').dataset.state === 'waiting'")
    for index in range(3):
        board.add(frame(index), result(index, f"caption {index}"))
        browser.until(f"document.getElementById('caption').textContent === 'caption {index}'")
    assert browser.ask("document.getElementById('state').dataset.state") == "running"
    server.stop()
    browser.until("document.getElementById('state').dataset.state === 'lost'")
