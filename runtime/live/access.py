"""Who may see the live page: this machine alone, or whoever has the token.

On a loopback address the page needs no token, but the request must be addressed to this machine by
name: a page elsewhere whose own name was made to lead here (DNS rebinding) is refused. On any other
address every request needs the token. No request of another site's page is answered with anything.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from srd_edge.errors import UsageError
from srd_edge.runtime.addresses import Address

TOKEN_CHARACTERS: Final = 16
"""A token has at least so many."""

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered: a status of HTTP, and a line of text."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Access:
    """The rule.

    Args:
        host: that the server listens on.
        token: that every request needs; None to answer this machine without one.
    """

    host: str
    token: str | None = None

    def refusal(
        self, headers: Mapping[str, str], given: str | None, *, is_page: bool
    ) -> Refusal | None:
        """Why a request is refused; None if it is not.

        Args:
            headers: of the request, by name in lower case.
            given: the token that came with it.
            is_page: whether the page itself is asked for, to which others may link.
        """
        if not is_page and headers.get("sec-fetch-site", "none") not in _OWN_SITE:
            return Refusal(403, "the pages of other sites may not read this")
        if self.token is not None:
            # Compared in a time that does not tell how much of it was right.
            said = (given or "").encode(errors="replace")
            if not secrets.compare_digest(said, self.token.encode()):
                return Refusal(401, "open the address with the token that srd-edge has printed")
            return None
        if _name(headers.get("host", "")) not in _LOCAL_NAMES | {self.host}:
            return Refusal(403, "ask for this by the name localhost, on this machine")
        return None


def choose_token(address: Address, token: str | None) -> str | None:
    """The token to demand: the one given, or where others can reach the address a new one.

    Raises:
        UsageError: for a token that is easily guessed, or that no address can hold.
    """
    if token is None:
        return None if address.is_local else secrets.token_urlsafe(24)
    if not re.fullmatch(rf"[A-Za-z0-9_.~-]{{{TOKEN_CHARACTERS},}}", token):
        raise UsageError(
            expected=f"a token of at least {TOKEN_CHARACTERS} letters, digits, - . _ or ~",
            found=f"one of {len(token)} characters",
            do="leave --token out and one is made and printed",
        )
    return token


def _name(host: str) -> str:
    """The name in a Host header, without its port: behind a tunnel that is another."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
