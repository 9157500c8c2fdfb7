"""What is refused of a command line before any of it is done, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from srd_edge.runtime import run_stage
from tests.command_line import SrdEdge, assert_refused, write_picture

REFUSED = {
    "rn": "a known command, found 'rn': try run",
    "--nope": "a known option, found '--nope': see `srd-edge --help`",
    "run --vidoe demo": "a known option, found '--vidoe': try --video",
    "run --video": "a value behind --video, found none: see `srd-edge run --help`",
    "run --quiet=yes": "--quiet alone, found a value with it: see `srd-edge run --help`",
    "run --every 0": "--every to be in the range x>=1, found 0: see",
    "run --every some": "--every to be a valid integer, found 'some': see",
    "run --stall-s 0 --reconnect 3": "--stall-s to be in the range x>0, found 0.0: see",
    "run --video demo --token 0123456789abcdef": "--serve with --token, found no live page that",
    "run --provider abacus": "--provider to be one of 'auto', 'cpu', 'cuda', 'tensorrt', found 'ab",
    "run clip.mp4": "options only, found 'clip.mp4': put --video in front of a source (try",
    "run --image a.jpg b.jpg c.jpg": "options only, found 'b.jpg' and 1 more: put --video in front",
    "run -o a.jsonl --video demo -o b.jsonl": "-o once, found it 2 times",
    "run --srt a.srt --srt b.srt --srt c.srt --image x.png": "--srt once, found it 3 times",
    "attack --captioner tiny --captioner tiny -o x": "--captioner once, found it 2 times",
    "export --captioner x": "-o, found nothing: see `srd-edge export --help`",
    "inspect bundle other": "options and one BUNDLE, found 'other': see `srd-edge inspect --help`",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_is_told_in_a_line(srd_edge: SrdEdge, line: str) -> None:
    assert_refused(srd_edge(*line.split()), 2, f"error: expected {REFUSED[line]}")


def test_a_pattern_that_the_shell_took_apart_is_to_be_put_in_quotes(srd_edge: SrdEdge) -> None:
    assert_refused(srd_edge("run", "--image", "a.jpg", "b.jpg"), 2, "a pattern in quotes: '*.jpg'")


def test_no_words_at_all_show_the_help(srd_edge: SrdEdge) -> None:
    outcome = srd_edge()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: srd-edge [OPTIONS] COMMAND")


def test_help_goes_before_what_is_wrong(srd_edge: SrdEdge) -> None:
    outcome = srd_edge("run", "clip.mp4", "-o", "a", "-o", "b", "--help")
    assert (outcome.code, outcome.err) == (0, "")


def test_the_built_in_captioner_is_not_taken_for_one_of_photographs(
    srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stage, "run_stage", lambda *_: None)
    picture = tmp_path / "a.png"
    (line,) = srd_edge("run", "--image", picture).err.splitlines()
    assert "knows the drawn scenes of `demo` and nothing else" in line
    assert "--bundle" in line
    assert srd_edge("run", "--video", "demo", "--video", picture).err.splitlines() == [line]
    for silent in (
        ("--video", "demo"),
        ("--image", picture, "--quiet"),
        ("--image", picture, "--bundle", toy_bundle),
    ):
        assert srd_edge("run", *silent).err == ""


def test_a_token_that_is_always_there_needs_no_page(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stage, "run_stage", lambda *_: None)
    monkeypatch.setenv("SRD_EDGE_TOKEN", "0123456789abcdef")
    assert srd_edge("run", "--video", "demo").code == 0


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("run", "10.0"),
        ("bench", "300"),
        ("evaluate", "test"),
        ("train", "consensus"),
        ("attack", "scenes"),
        ("export", "scenes"),
        ("purify", "drop"),
    ],
)
def test_help_says_what_the_defaults_are(srd_edge: SrdEdge, command: str, default: str) -> None:
    assert f"[default: {default}" in " ".join(srd_edge(command, "--help").out.split())


def test_a_switch_may_be_given_again(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png")
    outcome = srd_edge("run", "--image", picture, "--bundle", toy_bundle, "--quiet", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")


def test_every_image_is_captioned(srd_edge: SrdEdge, toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = [
        write_picture(tmp_path / "in" / f"{name}.png", np.full((20, 20, 3), level, np.uint8))
        for name, level in (("a", 20), ("b", 220), ("c", 120))
    ]
    named = [word for picture in pictures for word in ("--image", picture)]
    out, seen = tmp_path / "out.jsonl", tmp_path / "seen"
    run = ("run", "--bundle", toy_bundle, "--quiet")
    outcome = srd_edge(*run, *named, "-o", out, "--annotate", f"{seen}/")
    assert (outcome.code, outcome.err) == (0, "")
    results = {r["source"]: r for r in map(json.loads, out.read_text().splitlines())}
    assert {source: r["frame"] for source, r in results.items()} == {str(p): 0 for p in pictures}
    assert sorted(path.name for path in seen.iterdir()) == ["a.png", "b.png", "c.png"]
    (alone,) = srd_edge(*run, "--image", pictures[1]).results
    assert results[str(pictures[1])]["caption"] == alone["caption"]
