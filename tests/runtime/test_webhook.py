"""The webhook against a real server: one that takes, fails, hangs, breaks off and recovers."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.outbox import Outbox
from srd_edge.runtime.records import Result
from srd_edge.runtime.webhook import Webhook

FRAME = Frame(np.zeros((1, 1, 3), np.uint8))


class Receiver(ThreadingHTTPServer):
    """Answers each POST with the next of ``answers``, then with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers: list[int | str | tuple[int, str]] = []
        self.taken: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.let_go = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/secret/path?key=1"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer == "hang":
            self.server.let_go.wait(60)
            return
        if answer == "break off":
            return
        if answer == "babble":
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        code, words = answer if isinstance(answer, tuple) else (int(answer), None)
        if code < 300:
            self.server.taken.append(body)
            self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
            assert self.path == "/secret/path?key=1"
        self.send_response(code, words)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def said() -> list[str]:
    return []


def result(frame: int, **fields: Any) -> Result:
    values = {"verdict": "clean", "suspicion": 0.1, **fields}
    return Result(frame, 0.0, "ein Hund läuft", **values)


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_each_result_is_posted_as_it_is_in_the_lines(receiver: Receiver, said: list[str]) -> None:
    outbox = Outbox(Webhook(receiver.url), said.append)
    results = [result(0), result(1, verdict="suspicious"), result(2, verdict="held")]
    for one in results:
        outbox.write(FRAME, one)
    outbox.close()
    assert receiver.taken == [one.to_json() for one in results]
    told = [headers["x-srd-edge-verdict"] for headers in receiver.headers]
    assert told == ["clean", "suspicious", "held"]
    assert {headers["content-type"] for headers in receiver.headers} == {"application/json"}
    assert (outbox.lost, said) == (0, [])


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "hang", "break off", "babble"])
def test_a_server_in_trouble_is_asked_again(
    receiver: Receiver, said: list[str], trouble: int | str
) -> None:
    receiver.answers = [trouble, trouble]
    hook = Webhook(receiver.url, timeout_s=0.2 if trouble == "hang" else 10.0)
    outbox = Outbox(hook, said.append, pause=lambda *_: None)
    for frame in range(3):
        outbox.write(FRAME, result(frame))
    until(lambda: len(receiver.taken) == 3)
    outbox.close()
    assert [taken["frame"] for taken in receiver.taken] == [0, 1, 2]
    assert outbox.lost == 0
    (line,) = said
    assert "secret" not in line
    assert "key" not in line


@pytest.mark.parametrize("answer", [301, 307, 400, 401, 404, 413])
def test_a_result_that_is_refused_is_lost_and_counted(
    receiver: Receiver, said: list[str], answer: int
) -> None:
    receiver.answers = [answer]
    outbox = Outbox(Webhook(receiver.url), said.append)
    outbox.write(FRAME, result(0))
    outbox.write(FRAME, result(1))
    outbox.close()
    assert [taken["frame"] for taken in receiver.taken] == [1]
    assert outbox.lost == 1
    assert f"HTTP {answer}" in said[0]
    assert said[1].startswith("srd-edge: 1 result was not delivered to http://127.0.0.1:")


def test_a_servers_words_move_no_cursor(receiver: Receiver, said: list[str]) -> None:
    receiver.answers = [(400, "\x1b]0;owned\x07\x1b[31m\x9bred" + "!" * 999)]
    outbox = Outbox(Webhook(receiver.url), said.append)
    outbox.write(FRAME, result(0))
    outbox.close()
    assert "HTTP 400 ]0;owned  [31m red!!" in said[0]
    assert all(line.isprintable() and len(line) < 300 for line in said)


def test_nobody_listens(receiver: Receiver, said: list[str]) -> None:
    outbox = Outbox(Webhook("http://127.0.0.1:1/"), said.append, closing_s=0.05)
    outbox.write(FRAME, result(0))
    outbox.close()
    assert outbox.lost == 1
    assert "Connection refused" in said[0]


def test_a_user_and_a_password_are_sent_and_not_shown(receiver: Receiver, said: list[str]) -> None:
    hook = Webhook(receiver.url.replace("//", "//me:p%40ss@"))
    outbox = Outbox(hook, said.append)
    outbox.write(FRAME, result(0))
    outbox.close()
    expected = base64.b64encode(b"me:p@ss").decode()
    assert receiver.headers[0]["authorization"] == f"Basic {expected}"
    assert hook.name == f"http://127.0.0.1:{receiver.server_port}"


@pytest.mark.parametrize(
    "url",
    ["", "host/path", "ftp://host/", "file:///etc/passwd", "http://", "http://a b/", "http://a:x/"],
)
def test_no_web_address(url: str) -> None:
    with pytest.raises(UsageError, match="https://host/path"):
        Webhook(url)


def test_a_password_is_in_no_error() -> None:
    with pytest.raises(UsageError) as caught:
        Webhook("htp://me:pa/ss@host/")
    assert "pa/ss" not in str(caught.value)
