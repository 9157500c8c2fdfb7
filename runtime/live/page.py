"""The live page as a sink: what comes in is shown to whoever has the page open.

A viewer costs the run nothing but the time to note a result: pictures are encoded on the server's
thread, and only for those who watch. When the run has ended the page stays, until ``stop``.
"""

from __future__ import annotations

from collections.abc import Callable

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.live.access import choose_token
from srd_edge.runtime.live.board import About, Board
from srd_edge.runtime.live.faring import Faring
from srd_edge.runtime.records import Result


class LivePage:
    """The sink.

    Args:
        address: to serve the page on.
        about: the run, as the page is to say it.
        token: to be demanded of every viewer; None for one that is made where others than this
            machine can reach the address, and for none where they cannot.
        faring: how sources and sinks fare, asked on any thread.
        figures: for Prometheus, at the page's `/metrics`; None for none.

    Raises:
        UsageError: here, for a token that is too short, or where the libraries are not installed.
        RunError: here, if the address cannot be listened on.
    """

    def __init__(
        self,
        address: Address,
        about: About,
        token: str | None = None,
        faring: Callable[[], Faring] = Faring,
        figures: Callable[[], bytes] | None = None,
    ) -> None:
        self.board = Board(about, faring)
        token = choose_token(address, token)
        try:
            from srd_edge.runtime.live.server import LiveServer

            self._server = LiveServer(self.board, address, token, figures)
        except ImportError as error:
            raise UsageError(
                expected="starlette and uvicorn for the live page",
                found=str(error),
                do='pip install "srd-edge[serve]"',
            ) from error

    @property
    def url(self) -> str:
        """What to open in a browser, the token included."""
        return self._server.url

    def write(self, frame: Frame, result: Result) -> None:
        self.board.add(frame, result)

    def close(self) -> None:
        """Say that the run has ended; the page stays."""
        self.board.end()

    def stop(self) -> None:
        """Take the page away; may be called twice."""
        self._server.stop()
