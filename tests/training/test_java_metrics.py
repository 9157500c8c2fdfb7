"""METEOR and SPICE, which are Java programs, on programs that stand in for java where they fail.

METEOR's scores by its own program are tested in test_meteor.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from srd_edge.errors import RunError
from srd_edge.training import caption_metrics
from srd_edge.training.caption_metrics import CAPTION_METRICS, CaptionScorer, unavailable
from tests.training.caption_sample import CAPTIONS, ODD_CAPTIONS, REFERENCES, SAMPLE

Java = Callable[[str], None]
SPEAKS_METEOR = """
for line in sys.stdin.buffer:
    kind, *fields = line.decode().rstrip("\\n").split(" ||| ")
    with open(here / "asked", "a", encoding="utf-8") as asked:
        asked.write(line.decode())
    sys.stderr.write("noise " * 20_000)
    answers = ["7"] if kind == "SCORE" else [*["0.5"] * len(fields), "0.25"]
    print("\\n".join(answers), flush=True)
"""
SPEAKS_SPICE = """
asked, options = pathlib.Path(sys.argv[4]), sys.argv[5:]
pictures = json.loads(asked.read_text())
(here / "asked").write_text(json.dumps(pictures))
shares = [len(p["test"].split()) / 10 for p in pictures]
scores = [{"image_id": i, "scores": {"All": {"f": f}}} for i, f in enumerate(shares)]
pathlib.Path(options[options.index("-out") + 1]).write_text(json.dumps(scores))
print("Parsing reference captions")
"""


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Java:
    """Puts a Python program first on PATH as ``java``; it knows its folder as ``here``."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def put(body: str) -> None:
        program = tmp_path / "java"
        program.write_text(
            f"#!{sys.executable}\nimport json, os, pathlib, sys, time\n"
            "here = pathlib.Path(__file__).parent\n"
            f"with open(here / 'pids', 'a') as pids:\n    print(os.getpid(), file=pids)\n{body}\n"
        )
        program.chmod(0o755)

    return put


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where all jars are, as empty files."""
    for name in (
        "meteor/meteor-1.5.jar",
        "meteor/data/paraphrase-en.gz",
        "spice/spice-1.0.jar",
        "spice/lib/stanford-corenlp-3.6.0.jar",
        "spice/lib/stanford-corenlp-3.6.0-models.jar",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(caption_metrics, "_HOME", tmp_path)
    return tmp_path


def processes(folder: Path) -> list[bool]:
    """Whether each ``java`` that was started is still there."""
    pids = (folder / "pids").read_text().split() if (folder / "pids").exists() else []
    return [Path("/proc", pid).exists() for pid in pids]


@pytest.mark.parametrize("captions", ODD_CAPTIONS)
def test_a_picture_is_one_line_to_meteor(
    captions: list[str], java: Java, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    java(SPEAKS_METEOR)
    with CaptionScorer(REFERENCES, ["meteor"]) as scorer:
        assert scorer.score(captions) == {"meteor": 0.25}
        assert scorer.score(CAPTIONS) == {"meteor": 0.25}
        assert processes(tmp_path) == [True], "one process serves every call"
    assert processes(tmp_path) == [False]
    asked = (tmp_path / "asked").read_bytes().decode().split("\n")
    fields = [line.split("|||") for line in asked]
    assert [line[0].strip() for line in fields] == [*(["SCORE"] * 4 + ["EVAL"]) * 2, ""]
    assert [len(line) for line in fields[:4]] == [2 + len(group) for group in REFERENCES]
    assert fields[4][1:] == [" 7 "] * 3 + [" 7"]
    assert asked[5] == f"SCORE ||| {' ||| '.join(REFERENCES[0])} ||| {CAPTIONS[0]}"
    assert capfd.readouterr().out == ""


def test_a_process_without_an_answer_is_ended(java: Java, tmp_path: Path) -> None:
    java("time.sleep(600)")
    scorer = CaptionScorer(REFERENCES, ["rouge_l", "meteor"], patience_s=2)
    with pytest.raises(RunError, match=r"within 2 s, found none.*standard error nothing: see"):
        scorer.score(CAPTIONS)
    assert processes(tmp_path) == [False]
    java(SPEAKS_METEOR)
    with scorer:
        assert scorer.score(CAPTIONS)["meteor"] == 0.25, "a new process after a failure"
    assert processes(tmp_path) == [False, False]


@pytest.mark.parametrize("before", ["", "sys.stdin.readline(); print('7', flush=True)\n"])
def test_a_process_that_dies_says_why(
    before: str, java: Java, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trace = "Exception in thread main\\n\\tat Meteor.main\\nCaused by: no memory\\n\\t... 3 more\\n"
    java(f"{before}sys.stderr.write('{trace}'); sys.exit(1)")
    with (
        CaptionScorer(REFERENCES, ["meteor"]) as scorer,
        pytest.raises(RunError, match="standard error Caused by: no memory: see") as caught,
    ):
        scorer.score(CAPTIONS)
    assert "\n" not in str(caught.value)
    assert processes(tmp_path) == [False]
    assert [str(w.message) for w in recwarn] == []


def test_a_process_that_stops_listening_is_ended(java: Java, tmp_path: Path) -> None:
    java("sys.stdin.readline(); os.close(0); print('7', flush=True); time.sleep(600)")
    with (
        CaptionScorer(REFERENCES, ["meteor"]) as scorer,
        pytest.raises(RunError, match="METEOR's score"),
    ):
        scorer.score(CAPTIONS)
    assert processes(tmp_path) == [False]


def test_an_answer_that_is_no_number_is_an_error(java: Java, tmp_path: Path) -> None:
    java("for line in sys.stdin: print('Error: no such command', flush=True)")
    with (
        CaptionScorer([["a"]], ["meteor"], patience_s=2) as scorer,
        pytest.raises(RunError, match="METEOR's score"),
    ):
        scorer.score(["a"])
    assert processes(tmp_path) == [False]


def test_the_process_is_closed_when_the_work_around_it_fails(java: Java, tmp_path: Path) -> None:
    java(SPEAKS_METEOR)
    with pytest.raises(KeyboardInterrupt), CaptionScorer(REFERENCES, ["meteor"]) as scorer:
        scorer.score(CAPTIONS)
        raise KeyboardInterrupt
    assert processes(tmp_path) == [False]


def test_no_process_is_started_for_what_is_python(java: Java, tmp_path: Path) -> None:
    java("time.sleep(600)")
    with CaptionScorer(REFERENCES, ["rouge_l", "cider_d"]) as scorer:
        assert list(scorer.score(CAPTIONS)) == ["rouge_l", "cider_d"]
    assert processes(tmp_path) == []


def test_without_java(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unavailable() == {"meteor": "no java on PATH", "spice": "no java on PATH"}
    with CaptionScorer(SAMPLE["references"]) as scorer:
        scores = scorer.score(SAMPLE["captions"])
    assert tuple(scores) == CAPTION_METRICS
    assert scores["meteor"] is scores["spice"] is None
    for name in ("cider_d", "bleu_4", "rouge_l"):
        assert scores[name] == pytest.approx(SAMPLE["scores"][name], abs=1e-6)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("missing", "metric", "reason"),
    [
        ("meteor/meteor-1.5.jar", "meteor", "no meteor-1.5.jar in pycocoevalcap/meteor"),
        (
            "meteor/data/paraphrase-en.gz",
            "meteor",
            "no data/paraphrase-en.gz in pycocoevalcap/meteor",
        ),
        (
            "spice/lib/stanford-corenlp-3.6.0-models.jar",
            "spice",
            "no lib/stanford-corenlp-3.6.0-models.jar in pycocoevalcap/spice",
        ),
    ],
)
def test_what_is_missing_is_named(
    missing: str, metric: str, reason: str, java: Java, models: Path
) -> None:
    java("""sys.stderr.write('openjdk version "1.8.0_312"')""")
    assert unavailable() == {}
    (models / missing).unlink()
    assert unavailable() == {metric: reason}


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1.8.0_312", None),
        ("11.0.27", None),
        ("14", None),
        ("15.0.1", "java is 15, SPICE needs 8 to 14"),
        ("17.0.15", "java is 17, SPICE needs 8 to 14"),
        ("1.7.0_80", "java is 7, SPICE needs 8 to 14"),
        ("unknown", "java is odd, SPICE needs 8 to 14"),
    ],
)
def test_spice_needs_a_java_of_its_time(
    version: str, reason: str | None, java: Java, models: Path
) -> None:
    java(f"""sys.stderr.write('openjdk version "{version}" 2025-04-15\\nOpenJDK Runtime\\n')""")
    assert unavailable() == ({} if reason is None else {"spice": reason})


OF_ITS_TIME = """
if "-version" in sys.argv:
    sys.exit('openjdk version "11.0.27"')
"""


def test_spice_is_the_mean_over_pictures(
    java: Java, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    java(OF_ITS_TIME + SPEAKS_SPICE)
    with CaptionScorer([["a dog", "犬"], ["a cat"]], ["spice"]) as scorer:
        assert scorer.score(["a dog", "a cat on\na mat"])["spice"] == pytest.approx(0.35)
        assert scorer.score(["", "cat"])["spice"] == pytest.approx(0.05)
    assert (models / "asked").read_text() == (
        '[{"image_id": 0, "test": "", "refs": ["a dog", "\\u72ac"]}, '
        '{"image_id": 1, "test": "cat", "refs": ["a cat"]}]'
    )
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("sys.exit('Caused by: no parser')", "standard error Caused by: no parser"),
        ("pass", "standard error nothing"),
        (f"{SPEAKS_SPICE}sys.exit('Error: half done')", "standard error Error: half done"),
        ("time.sleep(600)", "SPICE's score from java within 3 s"),
    ],
)
def test_an_older_answer_of_spice_is_not_taken_for_a_new_one(
    second: str, message: str, java: Java, models: Path
) -> None:
    java(OF_ITS_TIME + SPEAKS_SPICE)
    with CaptionScorer([["a dog"]], ["spice"], patience_s=3) as scorer:
        assert scorer.score(["a dog"])["spice"] == pytest.approx(0.2)
        java(OF_ITS_TIME + second)
        with pytest.raises(RunError, match=message):
            scorer.score(["a dog"])
    assert not any(processes(models))


def test_nothing_is_ever_downloaded() -> None:
    """The wrappers that would do so are not even imported."""
    with CaptionScorer(REFERENCES, ["spice"]) as scorer:
        assert scorer.score(CAPTIONS).keys() == {"spice"}
    assert not [name for name in sys.modules if name.startswith("pycocoevalcap.spice")]
    assert "pycocoevalcap.meteor.meteor" not in sys.modules
