"""The live page's connections: as many as there is room for, and strangers give way.

A connection is a stranger's until a request on it has been let in. When there is no room, the
stranger that has been there the longest is dropped, whatever it is waiting for: connections that
send nothing, a byte now and then, or read no answer keep nobody out. Where all have been let in, it
is the new one that is dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

MOST_CONNECTIONS: Final = 100


def connection_class() -> type[asyncio.Protocol]:
    """What uvicorn makes of each connection; requests find ``let_in`` in their state.

    Raises:
        ImportError: without uvicorn, which nothing else of this module needs.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.app_state = {**self.app_state, "let_in": self._let_in}
            self._is_stranger = True
            self._since_s = self.loop.time()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                others = (other for other in self.connections if isinstance(other, Connection))
                strangers = (other for other in others if other._is_stranger)
                min(strangers, key=lambda stranger: stranger._since_s)._drop()

        def _let_in(self) -> None:
            self._is_stranger = False

        def _drop(self) -> None:
            self.connections.discard(self)  # or the next to come would find it here
            self.transport.abort()

    return Connection
