"""Who may see the page, request by request; and where it may listen."""

from __future__ import annotations

import pytest

from srd_edge.errors import UsageError
from srd_edge.runtime.addresses import Address, parse_address, without_secrets
from srd_edge.runtime.live.access import Access, choose_token

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", Address("127.0.0.1", 8000)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:0", Address("::1", 0)),
        ("camera.local:65535", Address("camera.local", 65535)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", "65536", "host:", ":80", "a b:80", "::1:80", "-1"])
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_address(text)


def test_only_this_machine_is_local() -> None:
    local = ("127.0.0.1", "127.8.0.1", "::1", "localhost")
    assert all(Address(host, 1).is_local for host in local)
    assert not any(Address(host, 1).is_local for host in ("0.0.0.0", "::", "10.0.0.1", "a.b"))
    assert Address("::1", 80).url == "http://[::1]:80/"


def test_where_others_can_reach_it_there_is_a_token() -> None:
    assert choose_token(Address("127.0.0.1", 1), None) is None
    assert choose_token(Address("127.0.0.1", 1), TOKEN) == TOKEN
    made = {choose_token(Address("0.0.0.0", 1), None) for _ in range(5)}
    assert len(made) == 5
    assert min(len(token or "") for token in made) >= 32
    for weak in ("", "short", "with space and more", "ü" * 20, "a" * 15):
        with pytest.raises(UsageError, match="token of at least"):
            choose_token(Address("127.0.0.1", 1), weak)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9000", "LOCALHOST:1"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert Access("127.0.0.1").refusal({"host": host}, None, is_page=False) is None


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "", "10.0.0.1"])
def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    refusal = Access("127.0.0.1").refusal({"host": host}, None, is_page=True)
    assert refusal is not None
    assert refusal.status == 403
    assert "\n" not in refusal.text


@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "\u00fc\udce4"])
def test_without_the_token_nothing_is_told(given: str | None) -> None:
    refusal = Access("0.0.0.0", TOKEN).refusal({"host": "any"}, given, is_page=True)
    assert refusal is not None
    assert refusal.status == 401


def test_the_token_opens() -> None:
    assert Access("0.0.0.0", TOKEN).refusal({"host": "any"}, TOKEN, is_page=False) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_but_not_read(site: str) -> None:
    headers = {"host": "localhost", "sec-fetch-site": site}
    for access, given in ((Access("127.0.0.1"), None), (Access("0.0.0.0", TOKEN), TOKEN)):
        refusal = access.refusal(headers, given, is_page=False)
        assert refusal is not None
        assert refusal.status == 403
        assert access.refusal(headers, given, is_page=True) is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@camera/live?key=1", "rtsp://camera/live"),
        ("rtsp://me:p@ss@camera/1", "rtsp://camera/1"),
        ("https://host/a#b", "https://host/a"),
        ("rtsp://me:p/a?s#s@camera/1", "rtsp://camera/1"),
        ("rtsp://me:p@ss@camera:1/x@y", "rtsp://camera:1/x@y"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("http://host:80/a@b?user=me&pwd='s", "http://host:80/a@b"),
        ("--video=rtsp://me:secret@camera/1", "--video=rtsp://camera/1"),
        (
            'gst:rtspsrc location="rtsp://me:s s@h/x?k=1" user-id=me user-pw = "s s" ! x key=a',
            'gst:rtspsrc location="rtsp://h/x" user-id=... user-pw = ... ! x key=...',
        ),
        ("souphttpsrc location=http://h/x?pwd=s ! x", "souphttpsrc location=http://h/x ! x"),
        ("what?.mp4", "what?.mp4"),
        ("a@b.mp4", "a@b.mp4"),
    ],
)
def test_what_is_secret_is_not_shown(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
