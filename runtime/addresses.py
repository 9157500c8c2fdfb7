"""Addresses on the network: where to listen, and how one is shown without what it keeps secret."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from typing import Final

from srd_edge.errors import UsageError

_LISTENING: Final = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s/]+):)?(\d{1,5})")
_SECRETS: Final = re.compile(
    r"""(?<=://)(?:[^/?#]*@|(?!\[)[^/?#:]*:(?!\d*(?:[/?#]|$)).*@)|[?#].*?(?=["']?\Z)""", re.DOTALL
)
"""A login, also one with / ? # in its password where a port would be, and a query: FFmpeg takes
the text between :// and the last @ before the path for the login."""
_PIPELINE: Final = "gst:"
_LINK: Final = " ! "
_WORD: Final = re.compile(r"""(?:[^\s"']|"[^"]*"?|'[^']*'?)+""")
_SETTING: Final = re.compile(
    r"""([\w-]*(?:user|pw|pass|secret|token|key)[\w-]*\s*=\s*)("[^"]*"?|'[^']*'?|\S+)"""
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 for any that is free."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether nobody else can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"


def parse_address(text: str) -> Address:
    """``PORT`` on this machine alone, or ``HOST:PORT``.

    Raises:
        UsageError: for anything else.
    """
    match = _LISTENING.fullmatch(text.strip())
    if match is None or int(match[2]) > 65_535:
        raise UsageError(
            expected="a port, or HOST:PORT, to serve on",
            found=f"'{text}'",
            do="try 8000, or 0.0.0.0:8000 to be reached from elsewhere",
        )
    return Address((match[1] or "127.0.0.1").strip("[]"), int(match[2]))


def check_webhook(url: str) -> urllib.parse.SplitResult:
    """``url`` in parts, if results can be posted to it.

    Raises:
        UsageError: if it is no web address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address or any(character <= " " for character in url):
        raise UsageError(
            expected="a webhook such as https://host/path",
            found=f"'{redacted(url)}'",
            do="give the address that takes a POST of JSON",
        )
    return parts


def redacted(address: str) -> str:
    """``address`` without all that may be a password in it, for one that could not be read."""
    return without_secrets(re.sub(r"(?<=://).*@", "", address, flags=re.DOTALL))


def without_secrets(spec: str) -> str:
    """An address without user, password and query, for people; also within a GStreamer pipeline.

    Of a pipeline, what settings such as ``user-pw`` are set to goes too. A name without ``://`` is
    left as it is.
    """
    if spec.startswith(_PIPELINE) or _LINK in spec:
        return _WORD.sub(lambda word: _bare(word[0]), _SETTING.sub(r"\1...", spec))
    return _bare(spec)


def _bare(address: str) -> str:
    return _SECRETS.sub("", address) if "://" in address else address
