"""What is written beside figures."""

import subprocess
from pathlib import Path

import pytest

import srd_edge
from srd_edge.runtime.machine import processor, usable_cores
from srd_edge.runtime.provenance import commit, provenance


def test_what_measured_on_what_with_what() -> None:
    command = ["some.py", "--with", "two words", "--video", "rtsp://me:secret@camera/1?key=secret"]
    found = provenance(command, ("numpy", "not-a-package-at-all"))
    assert found["command"] == "some.py --with 'two words' --video rtsp://camera/1"
    assert found["machine"]["processor"] == processor()
    assert found["machine"]["cores"] == usable_cores()
    assert found["versions"]["srd_edge"] == srd_edge.__version__
    assert "numpy" in found["versions"]
    assert "not-a-package-at-all" not in found["versions"]


def test_the_commit_is_that_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, "-C", str(tmp_path), *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(srd_edge, "__file__", str(tmp_path / "__init__.py"))
    assert commit() is None
    git("init", "--quiet")
    (tmp_path / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    assert commit() == git("rev-parse", "--short", "HEAD")
    (tmp_path / "__init__.py").write_text("# changed")
    assert commit() == git("rev-parse", "--short", "HEAD") + "-dirty"
