"""What somebody sees who runs the command in a terminal, and what a pipe gets all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import COMMAND, SrdEdge, parsed, write_clip
from tests.terminal import run_in_terminal


@pytest.fixture
def run(toy_bundle: Path, tmp_path: Path) -> list[str]:
    clip = write_clip(tmp_path / "clip.avi", frames=30)
    return [*COMMAND, "run", "--video", str(clip), "--bundle", str(toy_bundle)]


def test_a_pipe_gets_the_lines_whatever_standard_error_is(
    srd_edge: SrdEdge, run: list[str], tmp_path: Path
) -> None:
    seen = run_in_terminal(run, pipe=tmp_path / "lines.jsonl")
    assert seen.code == 0
    told = [(r["frame"], r["verdict"], r["caption"]) for r in parsed(seen.piped)]
    alone = srd_edge(*run[len(COMMAND) :], "--quiet").results
    assert told == [(r["frame"], r["verdict"], r["caption"]) for r in alone]
    assert "{" not in seen.written
    assert any("ms a frame" in line for line in seen.screen)
