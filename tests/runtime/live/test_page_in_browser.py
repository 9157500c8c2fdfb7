"""The page in a browser: it says what the JSON lines say, fits any window, runs no caption."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.runtime.annotate import annotate
from srd_edge.runtime.live.board import Board
from srd_edge.runtime.sinks import AnnotatedVideo

Make = Callable[..., Any]
FRAMES = 45
COMMAND = (sys.executable, "-P", "-c", "from srd_edge.cli import main; main()")


@dataclass(frozen=True)
class Served:
    url: str
    results: list[dict[str, Any]]

    def count(self, verdict: str) -> int:
        return sum(result["verdict"] == verdict for result in self.results)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A run that has ended and still serves its page; Ctrl-C ends it without an error."""
    out = tmp_path_factory.mktemp("served") / "out.jsonl"
    run = ("run", "--video", "demo", "--max-frames", FRAMES, "--compare", "--serve", 0, "-o", out)
    process = subprocess.Popen(
        [*COMMAND, *map(str, run), "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    url = process.stderr.readline().split()[-1]
    assert url.startswith("http://127.0.0.1:"), url
    assert "until Ctrl-C" in process.stderr.readline()
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(results) == FRAMES, "all is written when the page says that it has ended"
    yield Served(url, results)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def decoded(picture: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR."""
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def percentile(results: list[dict[str, Any]], rank: int) -> float:
    return float(np.percentile([result["total_ms"] for result in results], rank))


def test_what_is_served_agrees_with_the_lines(served: Served) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(served.url).netloc, timeout=60)
    connection.request("GET", "/live")
    told = json.loads(connection.getresponse().read())
    connection.request("GET", "/metrics")
    figures = connection.getresponse().read().decode()
    connection.close()
    (status,) = told["faring"]["sources"]
    assert (status["name"], status["condition"]) == ("demo", "ended")
    for verdict in ("clean", "suspicious"):
        assert f'srd_edge_frames_total{{verdict="{verdict}"}} {served.count(verdict)}.0' in figures
    assert told["state"] == "ended"
    assert [(p[0], p[1], p[2], p[3]) for p in told["points"]] == [
        (r["frame"], r["total_ms"], r["verdict"], r["suspicion"]) for r in served.results
    ]
    assert told["result"].items() >= served.results[-1].items()
    suspicious = [r["frame"] for r in served.results if r["verdict"] != "clean"]
    spans = [range(event["first"], event["last"] + 1) for event in told["events"]]
    assert [frame for span in spans for frame in span] == suspicious


def test_the_page_agrees_with_the_lines(served: Served, browser: Any) -> None:
    browser.open(served.url)
    browser.until("document.getElementById('state').dataset.state === 'ended'")
    browser.until("document.getElementById('picture').naturalWidth > 0")

    def text(name: str) -> str:
        return str(browser.ask(f"document.getElementById({name!r}).textContent"))

    assert text("state-words") == "the run has ended"
    assert text("sources") == "demo", "which does not say so once more"
    last = served.results[-1]
    assert text("frames") == str(FRAMES)
    for verdict in ("clean", "suspicious", "held"):
        assert text(verdict) == str(served.count(verdict))
    assert text("late") == "0"
    changed = sum(r["raw_caption"] != r["caption"] for r in served.results)
    assert text("changed") == str(changed)
    assert (text("caption"), text("raw")) == (last["caption"], last["raw_caption"])
    assert text("verdict") == last["verdict"]
    assert f"frame {last['frame']} " in text("when")
    for rank in (50, 95, 99):
        assert abs(float(text(f"p{rank}")) - percentile(served.results, rank)) < 0.06
    labels = "[...document.querySelectorAll('#stages dt')].map((dt) => dt.textContent)"
    assert browser.ask(labels) == list(
        dict.fromkeys(s for r in served.results for s in r["stage_ms"])
    )
    which = "[...document.querySelectorAll('#events .which')].map((span) => span.textContent)"
    first = next(r["frame"] for r in served.results if r["verdict"] == "suspicious")
    assert browser.ask(which)[-1].split()[1] == str(first)
    marks = (
        "(document.querySelector('#latency path.{}')?.getAttribute('d').match(/M/g) ?? []).length"
    )
    for verdict in ("clean", "suspicious"):
        assert browser.ask(marks.format(verdict)) == served.count(verdict)
    assert browser.complaints == []


SIZES = pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 800)])


@SIZES
def test_it_looks_like_something(
    served: Served, browser: Any, tmp_path: Path, width: int, height: int
) -> None:
    """The picture is kept in ``tmp_path``, for eyes."""
    browser.open(served.url, width, height)
    browser.until("document.getElementById('picture').naturalWidth > 0")
    browser.until("document.querySelector('#latency path') !== null")
    browser.until("[...document.querySelectorAll('.thumb')].every((thumb) => thumb.complete)")
    box = "document.getElementById('picture').getBoundingClientRect().toJSON()"
    place = {side: round(value) for side, value in browser.ask(box).items()}
    address = browser.ask("document.getElementById('picture').src")
    path = tmp_path / f"page-{width}.png"
    path.write_bytes(browser.picture())
    page = decoded(path.read_bytes())
    assert page.shape[1] == width
    assert page.shape[0] > height / 2
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 100, "it is not blank"
    shown = page[place["top"] : place["bottom"], place["left"] : place["right"]]
    frame = decoded(base64.b64decode(address.partition(",")[2]))
    scaled = cv2.resize(frame, (shown.shape[1], shown.shape[0]), interpolation=cv2.INTER_AREA)
    assert scaled.std() > 10
    assert np.abs(shown.astype(float) - scaled).mean() < 8, "the frame is where it belongs"


@SIZES
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
