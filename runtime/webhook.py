"""Results to a web address: each is posted as the JSON object that it is in the lines.

With the standard library, which does all that is needed here: checked TLS, a proxy from the
environment, time limits. A connection for each result is what that costs, on a thread of its own.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from typing import IO, Final

from srd_edge import __version__
from srd_edge.runtime.addresses import check_webhook
from srd_edge.runtime.records import Result

VERDICT_HEADER: Final = "X-SRD-Edge-Verdict"
"""So that a receiver need not read the result to know whether it is suspicious."""

_TIMEOUT_S: Final = 10.0
_MOST_WORDS: Final = 80
_TRY_AGAIN: Final = frozenset({408, 425, 429})


class Webhook:
    """The carrier to a web address.

    Args:
        url: http:// or https://; a user and password in it are sent as basic authentication.
        timeout_s: how long a connection and an answer may take, in seconds.

    Raises:
        UsageError: here, for anything else.
    """

    def __init__(self, url: str, timeout_s: float = _TIMEOUT_S) -> None:
        parts = check_webhook(url)
        host = parts.netloc.rpartition("@")[2]
        self.name = f"{parts.scheme}://{host}"  # some services have a secret in the path
        self._url = parts._replace(netloc=host, fragment="").geturl()
        self._timeout_s = timeout_s
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"srd-edge/{__version__}",
        }
        if parts.username is not None:
            words = [urllib.parse.unquote(word or "") for word in (parts.username, parts.password)]
            secret = base64.b64encode(":".join(words).encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {secret}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def deliver(self, result: Result) -> str | None:
        body = json.dumps(result.to_json(), allow_nan=False).encode("ascii")
        headers = self._headers | {VERDICT_HEADER: result.verdict}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            self._opener.open(request, timeout=self._timeout_s).close()
        except urllib.error.HTTPError as error:
            error.close()
            found = f"HTTP {error.code} {_printable(error.reason)}".strip()
            if error.code >= 500 or error.code in _TRY_AGAIN:
                raise OSError(found) from error
            return found
        except urllib.error.URLError as error:
            reason = error.reason
            told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise OSError(told) from error
        except http.client.HTTPException as error:
            raise OSError(f"no answer in HTTP ({type(error).__name__})") from error
        return None

    def settle(self, seconds: float) -> int:  # noqa: ARG002 - the protocol's
        """Nothing is on its way: ``deliver`` has waited for each answer."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def _printable(words: str) -> str:
    """A server's words without what would move a terminal's cursor, and no more than a few."""
    return "".join(c if c.isprintable() else " " for c in words)[:_MOST_WORDS].strip()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A result that was posted is not to be fetched from elsewhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - the library's
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None
