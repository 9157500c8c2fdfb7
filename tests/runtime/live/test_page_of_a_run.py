"""The page of a run that has ended, in a browser: it says what the JSON lines say."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.command_line import COMMAND

FRAMES = 45


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


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 800)])
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
