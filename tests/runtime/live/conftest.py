from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from srd_edge.kernels.frames import Box, Frame
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.live.board import About, Board
from srd_edge.runtime.live.faring import Faring
from srd_edge.runtime.live.server import LiveServer
from srd_edge.runtime.records import AppliedAction, Result
from srd_edge.runtime.source import Arrivals, Condition, Status

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def _frame(index: int, width: int = 64, height: int = 48) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    return Frame(pixels, index, index / 10)


def _result(index: int, caption: str | None = "a dog", **fields: Any) -> Result:
    """Every frame clean, but for those whose fields say otherwise."""
    values: dict[str, Any] = {
        "verdict": "clean",
        "suspicion": 0.25,
        "stage_ms": {"encode": 2.0},
        "total_ms": float(index + 1),
        **fields,
    }
    if values["verdict"] == "suspicious":
        values.setdefault("actions", (AppliedAction("occlude", Box(0, 0, 20, 20), 1.0),))
    return Result(frame=index, time_s=index / 10, caption=caption, **values)


class Browser:
    """A page in headless Chromium, driven over its debugging pipe."""

    def __init__(self, chromium: str) -> None:
        self._profile = tempfile.mkdtemp()
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, chromium, *FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._unread, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != self._number:
            self.events.append(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        self.tell("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.events.clear()
        self.tell("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        reply = self.tell("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until ``expression`` holds; for a minute at most."""
        holds = (
            "new Promise((done, fail) => { const look = (left) => { let is = false; "
            f"try {{ is = Boolean({expression}); }} catch {{}} if (is) done(true); "
            "else if (left) setTimeout(look, 50, left - 1); else fail(Error('never')); }; "
            "look(1200); })"
        )
        assert self.ask(holds) is True, expression

    def picture(self) -> bytes:
        """The whole page as it looks, as PNG."""
        height = self.tell("Page.getLayoutMetrics")["cssContentSize"]["height"]
        clip = {"x": 0, "y": 0, "width": self.ask("innerWidth"), "height": height, "scale": 1}
        shot = self.tell("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What the console holds: errors, warnings, violations of the page's policy."""
        self.ask("1")
        told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event for event in self.events if event.get("method") in told]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has gone"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium or google-chrome on the PATH to open the page in")
    opened = Browser(found)
    yield opened
    opened.close()


@pytest.fixture
def frame() -> Callable[..., Frame]:
    return _frame


@pytest.fixture
def result() -> Callable[..., Result]:
    return _result


class Fares:
    """How sources and sinks fare, for a test to change."""

    def __init__(self) -> None:
        self.faring = Faring((Status("demo", False, "reading", Arrivals()),))

    def set(self, *sources: tuple[str, Condition, int, int], **lost: int) -> None:
        """Live sources, each with what it passed over and how often it was got back."""
        self.faring = Faring(
            tuple(
                Status(n, True, condition, Arrivals(*counts)) for n, condition, *counts in sources
            ),
            lost,
        )


@pytest.fixture
def fares() -> Fares:
    return Fares()


@pytest.fixture
def board(fares: Fares) -> Board:
    about = About("demo", budget_ms=40.0, compared=True, provider="cpu")
    return Board(about, lambda: fares.faring)


@pytest.fixture
def serve(board: Board) -> Iterator[Callable[..., LiveServer]]:
    """Starts a server for ``board``, with a token or without."""
    servers: list[LiveServer] = []

    def start(token: str | None = None) -> LiveServer:
        figures = b"frames_total 3\n"
        servers.append(LiveServer(board, Address("127.0.0.1", 0), token, lambda: figures))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
