"""A folder of one's own is one that nobody else can write to or replace."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from srd_edge.errors import RunError
from srd_edge.runtime.cache_folder import cache_folder, private_folder


def test_the_cache_is_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRD_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SRD_EDGE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "srd-edge"


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SRD_EDGE_CACHE")
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(RunError, match="SRD_EDGE_CACHE"):
        cache_folder()


def test_what_is_made_is_closed_to_others(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b" / "c")
    for made in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert private_folder(folder) == folder


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_others_may_not_write_to_it(tmp_path: Path, mode: int) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(mode)
    with pytest.raises(RunError, match="others may write") as caught:
        private_folder(tmp_path / "c")
    assert "\n" not in str(caught.value)


def test_others_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir(0o755)
    assert private_folder(tmp_path / "c") == (tmp_path / "c").resolve()


def test_others_may_not_put_another_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RunError, match="can replace"):
        private_folder(tmp_path / "open" / "c")
    (tmp_path / "open").chmod(0o1777)  # as /tmp is
    assert private_folder(tmp_path / "open" / "c").is_dir()


def test_it_is_not_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_folder(tmp_path / "c")
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(RunError, match=f"user {own}'s"):
        private_folder(tmp_path / "c")


def test_it_is_no_link_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RunError, match="a link"):
        private_folder(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(RunError, match="a link"):
        private_folder(tmp_path / "dangling")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="no folder"):
        private_folder(tmp_path / "file")
    with pytest.raises(RunError, match="closed to others"):
        private_folder(tmp_path / "file" / "below")
    # A link on the way is the user's own business.
    assert private_folder(tmp_path / "link" / "c") == (tmp_path / "real" / "c").resolve()
