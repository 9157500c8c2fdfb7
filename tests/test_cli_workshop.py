"""The workshop's commands as a user meets them: what they say next, and what they refuse."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.command_line import (
    SrdEdge,
    assert_refused,
)


def test_the_next_command_can_be_pasted(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from srd_edge.evaluation import verdicts
    from srd_edge.export import bundle_export
    from srd_edge.training import datasets, policy_training

    monkeypatch.setattr(verdicts, "make_judged_victim", lambda *_, **__: None)
    monkeypatch.setattr(policy_training, "train", lambda *_: None)
    monkeypatch.setattr(bundle_export, "export_bundle", lambda *_: None)
    monkeypatch.setattr(datasets, "open_dataset", lambda *_: None)
    data, out, spec = tmp_path / "my data", tmp_path / "it's out", "badnet:size=21"

    def next_words(*arguments: str | Path) -> list[str]:
        outcome = srd_edge(*arguments, "--data", data, "-o", out)
        assert outcome.code == 0, outcome.err
        return shlex.split(outcome.err.partition("; next: ")[2])

    made = ["--captioner", str(out), "--data", str(data), "--attack", spec]
    assert next_words("attack", "--captioner", "tiny", "--attack", spec) == [
        *("srd-edge", "train", *made, "-o", "POLICY")
    ]
    given = ("--captioner", "a victim")
    assert next_words("train", *given, "--attack", spec) == [
        *("srd-edge", "export", *given, "--policy", str(out), "--data", str(data), "-o", "BUNDLE")
    ]
    assert next_words("export", *given, "--policy", tmp_path) == [
        *("srd-edge", "evaluate", "--bundle", str(out), "--data", str(data))
    ]
    assert next_words("export", *given) == [
        *("srd-edge", "run", "--bundle", str(out), "--video", "demo", "--no-defense")
    ]


def test_a_report_that_cannot_be_written_is_refused_before_measuring(
    srd_edge: SrdEdge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from srd_edge.evaluation import suite

    measured: list[object] = []
    monkeypatch.setattr(suite, "evaluate", measured.append)
    (tmp_path / "file").touch()
    for report in (tmp_path / "file", tmp_path / "file" / "report"):
        assert_refused(srd_edge("evaluate", "-o", report), 1, "file")
    assert not measured


def test_an_evaluation_that_is_refused_leaves_no_report(srd_edge: SrdEdge, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert_refused(srd_edge("evaluate", "--defence", "polciy", "-o", report), 2, "polciy")
    assert not report.exists()
