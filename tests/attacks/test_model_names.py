"""A mistyped name is told in one line, after one question to the hub at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from srd_edge.attacks import model_names
from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.model_names import check_model_name
from srd_edge.errors import UsageError
from srd_edge.export.source import open_source
from srd_edge.training.language import load_language_model


class Hub(BaseHTTPRequestHandler):
    """Has a model `there`, and no other."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        is_there = self.path.startswith("/there/")
        self.send_response(200 if is_there else 401)
        for name, value in (("ETag", '"1"'), ("X-Repo-Commit", "1" * 40), ("Content-Length", "2")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What a hub of the test's own was asked for; nothing is kept from another."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "kept"))
    Hub.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield Hub.asked
        server.shutdown()


def refused(load: Callable[[str], object], name: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(name)
    text = str(caught.value)
    assert text.startswith("expected a model's directory, or its name on the hub, found no dir")
    assert f"'{name}'" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("load", [load_captioner, open_source, load_language_model])
def test_whatever_loads_a_model_asks_once(load: Callable[[str], object], asked: list[str]) -> None:
    assert "has no such model to read (HTTP 401)" in refused(load, "nope")
    assert asked == ["/nope/resolve/main/config.json"]


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def fail(url: str) -> None:
        tries.append(url)
        raise ConnectionError("Name or service\nnot known")

    monkeypatch.setattr(model_names, "get_hf_file_metadata", fail)
    text = refused(check_model_name, "nope")
    assert "cannot be reached (Name or service not known)" in text
    assert len(tries) == 1


def test_what_cannot_be_on_the_hub_is_not_asked_for(asked: list[str], tmp_path: Path) -> None:
    assert "nor can it be" in refused(check_model_name, str(tmp_path / "no" / "folder"))
    check_model_name(tmp_path)
    kept = tmp_path / "kept" / "models--kept" / "snapshots" / ("2" * 40)
    kept.mkdir(parents=True)
    (kept / "config.json").write_text("{}")
    (kept.parents[1] / "refs").mkdir()
    (kept.parents[1] / "refs" / "main").write_text("2" * 40)
    check_model_name("kept")
    assert asked == []


def test_a_model_of_the_hub_is_let_through(asked: list[str]) -> None:
    check_model_name("there")
    assert len(asked) == 1
