"""The live page's server: starlette on uvicorn, in a thread of its own.

    /           the page; page.css, page.js      files of this package, nothing from elsewhere
    /live       what is newer than the viewer has seen, as JSON, when there is something
    /events/N   the thumbnail of an event
    /metrics    figures for Prometheus

A viewer asks `/live` anew when it has shown what it got, so that a slow one is told of everything
and gets the newest picture only, whatever lies in buffers in between; that is why this is no
stream. Pictures are encoded when somebody asks, once for all who do.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Final

from srd_edge.errors import RunError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.live.access import Access
from srd_edge.runtime.live.board import Board
from srd_edge.runtime.live.connections import connection_class
from srd_edge.runtime.live.pictures import jpeg, picture
from srd_edge.runtime.metrics import TEXT_TYPE
from srd_edge.runtime.records import Result

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from uvicorn import Server

    Endpoint = Callable[[Request], Awaitable[Response]]

_LONGEST_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.5
_ANY_HOST: Final = ("0.0.0.0", "::")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_CLOSING_S: Final = 2
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class LiveServer:
    """Serves a board from when it is made until ``stop``.

    Args:
        board: what is shown.
        address: to listen on.
        token: that every request needs, or None; see ``srd_edge.runtime.live.access``.
        figures: for Prometheus, asked on a thread; None for none.

    Raises:
        RunError: if the address cannot be listened on.
        ImportError: without starlette and uvicorn.
    """

    def __init__(
        self,
        board: Board,
        address: Address,
        token: str | None,
        figures: Callable[[], bytes] | None = None,
    ) -> None:
        import uvicorn

        self._board, self._token, self._figures = board, token, figures
        self._access = Access(address.host, token)
        app = self._app()
        self._socket = _listen(address)
        self.address = Address(address.host, self._socket.getsockname()[1])
        self._cookie = f"srd-edge-{self.address.port}"
        self._picture = -1, ""
        self._drawing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._stopping = False
        config = uvicorn.Config(
            app,
            access_log=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            loop="asyncio",
            http=connection_class(),
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_CLOSING_S,
            ws="none",
        )
        self._server: Server = uvicorn.Server(config)
        self._waiting = 0
        board.on_change = self._tell
        self._thread = threading.Thread(target=self._serve, name="srd-edge live page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What to open in a browser, the token included."""
        shown = self.address
        if shown.host in _ANY_HOST:
            shown = Address(socket.gethostname(), shown.port)
        return shown.url + (f"?token={self._token}" if self._token else "")

    def stop(self) -> None:
        """End every connection and the thread; may be called twice."""
        self._stopping = True
        self._server.should_exit = True
        self._tell()
        self._thread.join(2 * _CLOSING_S)
        self._socket.close()

    def _serve(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        asyncio.run(serve())

    def _tell(self) -> None:
        """Wake those who wait for news; from any thread."""
        if self._waiting and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [
            *(Route(path, self._guarded(_file(*file))) for path, file in _FILES.items()),
            Route("/live", self._guarded(self._live)),
            Route("/events/{number}", self._guarded(self._event)),
            Route("/metrics", self._guarded(self._metrics)),
        ]
        return Starlette(routes=routes)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` for those who may see it; a token in the address becomes a cookie."""
        from starlette.responses import PlainTextResponse, RedirectResponse

        async def guarded(request: Request) -> Response:
            is_page = request.scope["path"] == "/"
            in_address = request.query_params.get("token") if is_page else None
            given = in_address or request.cookies.get(self._cookie) or _bearer(request)
            refusal = self._access.refusal(request.headers, given, is_page=is_page)
            if refusal is None:
                request.state.let_in()
            response: Response
            if refusal is not None:
                response = PlainTextResponse(f"{refusal.text}\n", refusal.status)
                if refusal.status == 401:
                    response.headers["www-authenticate"] = "Bearer"
            elif in_address is not None:
                # So that the token is neither in the history nor on the screen.
                response = RedirectResponse("/", 303)
                if self._token is not None:
                    response.set_cookie(
                        self._cookie, self._token, httponly=True, samesite="strict", path="/"
                    )
            else:
                response = await endpoint(request)
            response.headers.update(_HEADERS)
            return response

        return guarded

    async def _live(self, request: Request) -> Response:
        from starlette.responses import Response

        run = request.query_params.get("run", "")
        asked = request.query_params.get("seen", "")
        seen = int(asked) if _NUMBER.fullmatch(asked) else -1
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_WAIT_S):
                    self._board.look()
                    while self._board.was_seen(run, seen) and not self._stopping:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(_LOOK_S):
                                await self._news.wait()
                        self._board.look()
        finally:
            self._waiting -= 1
        answer, newest = self._board.since(run, seen)
        if newest is not None:
            answer["picture"] = await self._encoded(answer["changed"], *newest)
        # In ASCII: a file's name may hold what is no Unicode.
        return Response(json.dumps(answer, allow_nan=False), media_type="application/json")

    async def _encoded(self, changed: int, frame: Frame, result: Result) -> str:
        """The picture as a data URI, made once for all who ask for it."""
        async with self._drawing:
            if self._picture[0] != changed:
                data = await asyncio.to_thread(picture, frame, result)
                address = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
                self._picture = changed, address
            return self._picture[1]

    async def _event(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse, Response

        asked = request.path_params["number"]
        number = int(asked) if _NUMBER.fullmatch(asked) else -1
        pixels = self._board.thumbnail(number)
        if pixels is None:
            return PlainTextResponse("that event is no longer kept\n", 404)
        return Response(await asyncio.to_thread(jpeg, pixels), media_type="image/jpeg")

    async def _metrics(self, _: Request) -> Response:
        from starlette.responses import PlainTextResponse, Response

        if self._figures is None:
            return PlainTextResponse("there are no figures\n", 404)
        return Response(await asyncio.to_thread(self._figures), media_type=TEXT_TYPE)


def _file(name: str, media_type: str) -> Endpoint:
    """Answers with a file of this package."""
    data = resources.files("srd_edge.runtime.live").joinpath(name).read_bytes()

    async def answer(_: Request) -> Response:
        from starlette.responses import Response

        return Response(data, media_type=media_type)

    return answer


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def _listen(address: Address) -> socket.socket:
    try:
        kind, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(kind, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise RunError(
            expected=f"to serve the live page on {address.host}:{address.port}",
            found=error.strerror or str(error),
            do="choose another port, or end what uses it",
        ) from error
    return listening
