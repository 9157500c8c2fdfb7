"""The server over real sockets: who is let in, who waits, and that nobody holds up the run."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.live.board import About, Board
from srd_edge.runtime.live.connections import MOST_CONNECTIONS
from srd_edge.runtime.live.page import LivePage
from srd_edge.runtime.live.pictures import picture
from srd_edge.runtime.live.server import LiveServer
from srd_edge.runtime.metrics import TEXT_TYPE

Make = Callable[..., Any]
TOKEN = "a-token-of-the-test"


def get(server: LiveServer, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=60)
    try:
        connection.request(
            "GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def live(server: LiveServer, run: str = "", seen: int = -1) -> Any:
    response, body = get(server, f"/live?run={run}&seen={seen}")
    assert response.status == 200, body
    return json.loads(body)


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_page_is_of_one_piece_and_closed_to_others(serve: Make) -> None:
    server = serve()
    for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript")):
        response, body = get(server, path)
        assert response.status == 200
        assert kind in (response.getheader("content-type") or "")
        policy = response.getheader("content-security-policy") or ""
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.getheader("x-content-type-options") == "nosniff"
        assert not [n for n, _ in response.getheaders() if n.lower().startswith("access-control")]
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("\n//", "\n").removeprefix("//"), "nothing from elsewhere"
        assert "innerHTML" not in text
    assert get(server, "/page.py")[0].status == 404
    assert get(server, "/events/1")[0].status == 404


@pytest.mark.parametrize("path", ["/", "/page.js", "/live", "/events/1", "/metrics"])
def test_another_name_and_another_site_are_refused(serve: Make, path: str) -> None:
    server = serve()
    response, body = get(server, path, Host="evil.example")
    assert response.status == 403
    assert body.decode().count("\n") == 1
    response, _ = get(server, path, Sec_Fetch_Site="cross-site")
    assert response.status == (200 if path == "/" else 403)


@pytest.mark.parametrize("path", ["/", "/page.css", "/live", "/events/1", "/metrics"])
def test_a_token_is_asked_for_everywhere(serve: Make, path: str) -> None:
    server = serve(TOKEN)
    assert TOKEN in server.url
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "srd-edge=wrong"}):
        response, body = get(server, path, **headers)
        assert response.status == 401
        assert TOKEN not in body.decode()
    allowed = 404 if path == "/events/1" else 200
    response, _ = get(server, path, Authorization=f"Bearer {TOKEN}", Host="any.name")
    assert response.status == allowed


def test_a_token_in_the_address_becomes_a_cookie(serve: Make) -> None:
    server = serve(TOKEN)
    response, _ = get(server, f"/?token={TOKEN}")
    assert (response.status, response.getheader("location")) == (303, "/")
    cookie = response.getheader("set-cookie") or ""
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert get(server, "/live", Cookie=cookie.partition(";")[0])[0].status == 200
    assert get(server, "/?token=wrong")[0].status == 401
    assert get(server, f"/live?token={TOKEN}")[0].status == 401, "a page takes it, nothing else"


def test_who_has_seen_all_waits_for_the_next(
    serve: Make, board: Board, frame: Make, result: Make
) -> None:
    server = serve()
    board.add(frame(0), result(0))
    first = live(server)
    assert first["picture"].startswith("data:image/jpeg;base64,")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(live, server, first["run"], first["changed"])
        until(lambda: server._waiting)
        assert not waiting.done()
        board.add(frame(1), result(1))
        news = waiting.result(timeout=60)
    assert [point[0] for point in news["points"]] == [1]
    assert news["result"]["frame"] == 1


def test_who_waits_is_told_of_a_source_that_is_lost_and_of_results_that_are(
    serve: Make, board: Board, frame: Make, result: Make, fares: Any
) -> None:
    server = serve()
    fares.set(("cam", "reading", 0, 0), mqtt=0)
    board.add(frame(0), result(0))
    seen = live(server)
    assert seen["faring"]["sources"] == [
        {"name": "cam", "live": True, "condition": "reading", "passed_over": 0, "reconnections": 0}
    ]
    for camera, lost in (
        (("cam", "lost", 0, 0), 0),
        (("cam", "lost", 0, 0), 5),
        (("cam", "reading", 3, 1), 5),
    ):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(live, server, seen["run"], seen["changed"])
            until(lambda: server._waiting)
            fares.set(camera, mqtt=lost)
            news = waiting.result(timeout=60)
        assert news["faring"] == fares.faring.to_json() != seen["faring"]
        assert news["points"] == []
        seen = news


def test_figures_for_prometheus_are_there_where_there_are_any(serve: Make, board: Board) -> None:
    response, body = get(serve(), "/metrics")
    assert (response.getheader("content-type"), body) == (TEXT_TYPE, b"frames_total 3\n")
    without = LiveServer(board, Address("127.0.0.1", 0), None)
    assert get(without, "/metrics")[0].status == 404
    without.stop()


def test_nothing_is_encoded_unless_somebody_watches(
    serve: Make, board: Board, frame: Make, result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def counted(frame: Any, result: Any) -> bytes:
        encoded.append(result.frame)
        return picture(frame, result)

    monkeypatch.setattr("srd_edge.runtime.live.server.picture", counted)
    server = serve()
    for index in range(20):
        board.add(frame(index), result(index))
    assert encoded == []
    assert len({live(server)["picture"] for _ in range(3)}) == 1
    assert encoded == [19], "once for all viewers"


def test_a_viewer_that_does_not_read_holds_up_nobody(
    serve: Make, board: Board, frame: Make, result: Make
) -> None:
    server = serve()
    board.add(frame(0, 1280, 960), result(0))
    with socket.create_connection(("127.0.0.1", server.address.port)) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        for _ in range(20):
            stuck.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for index in range(1, 200):
            board.add(frame(0), result(index))
        assert live(server)["result"]["frame"] == 199


def test_strangers_keep_nobody_out(serve: Make) -> None:
    server = serve(TOKEN)
    place, ask = ("127.0.0.1", server.address.port), b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    known = http.client.HTTPConnection(*place, timeout=60)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with contextlib.ExitStack() as stack:
        stack.callback(known.close)
        for index in range(MOST_CONNECTIONS + 20):
            if index in (0, MOST_CONNECTIONS // 2, MOST_CONNECTIONS + 19):
                known.request("GET", "/", headers=bearer)
                response = known.getresponse()
                assert (response.status, response.read()[:9]) == (200, b"<!doctype"), index
                if index == 0:
                    own = known.sock
                assert known.sock is own, "who was let in stays connected"
            stranger = stack.enter_context(socket.create_connection(place))
            # One sends nothing, the next the half of a request, the last reads none of its answers.
            stranger.sendall((b"", ask, (ask + b"\r\n") * 50)[index % 3])
        assert get(server, "/", **bearer)[0].status == 200
    until(lambda: len(server._server.server_state.connections) == 0)


def test_where_all_have_been_let_in_the_next_is_dropped(serve: Make) -> None:
    server = serve()
    place = ("127.0.0.1", server.address.port)
    with contextlib.ExitStack() as stack:
        known = [http.client.HTTPConnection(*place, timeout=60) for _ in range(MOST_CONNECTIONS)]
        for connection in known:
            stack.callback(connection.close)
            connection.request("GET", "/page.css")
            connection.getresponse().read()
        with pytest.raises((http.client.HTTPException, OSError)):
            get(server, "/")
        known.pop().close()
        until(lambda: len(server._server.server_state.connections) < MOST_CONNECTIONS)
        assert get(server, "/")[0].status == 200


def test_an_event_has_a_thumbnail(serve: Make, board: Board, frame: Make, result: Make) -> None:
    server = serve()
    board.add(frame(0), result(0, verdict="suspicious", source="no unicode \udcff"))
    (event,) = live(server)["events"]
    response, body = get(server, f"/events/{event['number']}?frame=0")
    assert (response.status, response.getheader("content-type")) == (200, "image/jpeg")
    assert body[:2] == b"\xff\xd8"


@pytest.mark.parametrize("number", ["9" * 5000, "x", "-1", "%00", "\N{BENGALI DIGIT ONE}"])
def test_odd_events_are_answered_without_a_word(
    serve: Make, caplog: pytest.LogCaptureFixture, number: str
) -> None:
    path = "/events/" + urllib.parse.quote(number, safe="%")
    assert get(serve(TOKEN), path)[0].status == 401
    assert get(serve(), path)[0].status == 404
    assert get(serve(TOKEN), path, Host="[")[0].status == 401
    assert caplog.records == []


@pytest.mark.parametrize(
    "query", ["seen=x", "seen=-5", "seen=%F0%9F%92%A9", "seen=" + "9" * 5000, "run=%00"]
)
def test_odd_questions_are_answered(serve: Make, query: str) -> None:
    assert get(serve(), f"/live?{query}")[0].status == 200


def test_stopping_ends_those_who_wait(serve: Make, board: Board) -> None:
    server = serve()
    told = live(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(live, server, told["run"], told["changed"])
        until(lambda: server._waiting)
        server.stop()
        assert waiting.result(timeout=60)["points"] == []
    assert not server._thread.is_alive()
    server.stop()
    board.end()
    with pytest.raises(OSError):
        get(server, "/")


def test_a_port_that_is_taken(serve: Make, board: Board) -> None:
    taken = serve().address
    with pytest.raises(RunError, match="another port"):
        LiveServer(board, taken, None)
    with pytest.raises(RunError, match="live page"):
        LiveServer(board, Address("no.such.host.invalid", 0), None)


@pytest.mark.parametrize("missing", ["uvicorn", "starlette.applications"])
def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    before = threading.active_count()
    with pytest.raises(UsageError, match=r'pip install "srd-edge\[serve\]"'):
        LivePage(Address("127.0.0.1", 0), About("demo"))
    assert threading.active_count() == before
