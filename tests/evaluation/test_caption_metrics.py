"""Caption metrics against pycocoevalcap's own figures, the papers' examples and their formulas.

What METEOR's process must survive is tried on programs that stand in for java; its scores on the
real one, where there is one.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from srd_edge.errors import RunError, UsageError
from srd_edge.evaluation import caption_metrics
from srd_edge.evaluation.caption_metrics import (
    CAPTION_METRICS,
    CaptionScorer,
    cider_d,
    unavailable,
)

REFERENCES = [
    ["a dog runs on grass", "the brown dog is running", "a dog"],
    ["two cats sleep on a red sofa", "cats sleeping on a sofa on a rug"],
    ["a man rides a horse", "the man is on a horse on the beach", "a rider on a brown horse"],
    ["a red boat on the sea"],
]
CAPTIONS = [
    "a dog runs runs runs on grass",
    "two cats sleep",
    "a man rides a brown horse on the beach today",
    "a photo of a banana on a table",
]
# Scored once with the Cider, Bleu, Rouge and Meteor of pycocoevalcap 1.2 themselves (Java 17).
FIXED_REFERENCES = [
    [
        "a black dog is running through the snow",
        "a dog runs in deep snow",
        "the black dog plays in the snow",
        "a dog running",
        "a black dog in a snowy field",
    ],
    [
        "two children play on a red slide",
        "two kids are playing on the slide",
        "children at a playground",
        "a boy and a girl slide down a red slide",
        "kids having fun outdoors",
    ],
    [
        "a man in a blue shirt is climbing a rock wall",
        "a climber on a cliff",
        "the man climbs up a steep rock",
        "a man climbing",
        "someone scales a rock face without a rope",
    ],
    [
        "a woman sells fruit at a market",
        "a market stall with fruit and vegetables",
        "a lady stands behind a table of apples",
        "woman at a street market",
        "people buy apples and oranges",
    ],
    [
        "a surfer rides a big wave",
        "a man is surfing in the ocean",
        "surfer on a wave",
        "a person on a surfboard",
        "a man in a wetsuit rides a wave on his surfboard",
    ],
    [
        "three people sit on a bench",
        "people sitting on a bench in the park",
        "two men and a woman rest on a bench",
        "a group sits outside",
        "friends talk on a wooden bench",
    ],
]
FIXED_CAPTIONS = [
    "a black dog runs through the snow",
    "two children are playing on a slide in the park",
    "a man climbs a rock",
    "banana",
    "a man in a wetsuit rides a wave on his surfboard",
    "a dog a dog a dog on a bench",
]
FIXED_SCORES = {
    "cider_d": 1.2847878445834617,
    "bleu_4": 0.4574911414487263,
    "rouge_l": 0.5982070886056597,
    "meteor": 0.37957753649184706,
}
ODD_CAPTIONS = [
    ["", " ", "\n", "\t"],
    ["a", "a", "a", "a"],
    ["a dog\nruns\r\non grass", "two\x85cats", "a\u2028man", "boat\r"],
    ["a ||| dog", "|||", "||||||", "SCORE ||| EVAL ||| x"],
    ["ein Hündchen läuft", "犬 が 走る", "🐕 " * 9, "half a pair \ud800 \x00"],
    ["a dog " * 30, "b", "c", "a red boat on the sea"],
]


def score(
    name: str, captions: Sequence[str], references: Sequence[Sequence[str]] = REFERENCES
) -> float:
    with CaptionScorer(references, [name]) as scorer:
        value = scorer.score(captions)[name]
    assert value is not None
    return value


def n_grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def slow_cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Equations 2 to 5 of arXiv 1411.5726 and the D variant of its section 7, word by word.

    Length is counted in bigrams, as in the authors' code; between captions of two words and more
    that makes no difference to a difference of lengths.
    """
    pictures = len(references)

    def weights(text: str, n: int) -> dict[tuple[str, ...], float]:
        table = {}
        for gram, count in Counter(n_grams(text, n)).items():
            holding = sum(any(gram in n_grams(r, n) for r in group) for group in references)
            table[gram] = count * math.log(pictures / max(holding, 1))
        return table

    def norm(table: dict[tuple[str, ...], float]) -> float:
        return math.sqrt(sum(w * w for w in table.values()))

    total = 0.0
    for caption, group in zip(captions, references, strict=True):
        for n in (1, 2, 3, 4):
            hypothesis = weights(caption, n)
            for reference in group:
                truth = weights(reference, n)
                dot = sum(
                    min(w, truth.get(g, 0.0)) * truth.get(g, 0.0) for g, w in hypothesis.items()
                )
                length = norm(hypothesis) * norm(truth)
                apart = len(n_grams(caption, 2)) - len(n_grams(reference, 2))
                penalty = math.exp(-(apart**2) / (2 * 6.0**2))
                total += penalty * (dot / length if length else 0.0) / 4 / len(group)
    return 10 * total / pictures


def slow_bleu_4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Section 2 of Papineni et al., over the corpus; of two closest lengths the shorter."""
    length = closest = 0
    for caption, group in zip(captions, references, strict=True):
        own = len(caption.split())
        length += own
        closest += min((abs(len(r.split()) - own), len(r.split())) for r in group)[1]
    logarithms = 0.0
    for n in (1, 2, 3, 4):
        clipped = possible = 0
        for caption, group in zip(captions, references, strict=True):
            counts = Counter(n_grams(caption, n))
            possible += sum(counts.values())
            for gram, count in counts.items():
                clipped += min(count, max(n_grams(r, n).count(gram) for r in group))
        logarithms += math.log(clipped / possible) / 4
    return math.exp(min(1 - closest / length, 0) + logarithms)


def slow_rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Section 3.1 of Lin with beta 1.2, the best precision and the best recall of a group."""

    @cache
    def common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
        if not a or not b:
            return 0
        if a[0] == b[0]:
            return 1 + common(a[1:], b[1:])
        return max(common(a[1:], b), common(a, b[1:]))

    total = 0.0
    for caption, group in zip(captions, references, strict=True):
        own = tuple(caption.split())
        shared = {tuple(r.split()): common(own, tuple(r.split())) for r in group}
        if own and any(shared.values()):
            precision = max(shared.values()) / len(own)
            recall = max(count / len(words) for words, count in shared.items())
            total += (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    return total / len(references)


@pytest.mark.parametrize("name", ["cider_d", "bleu_4", "rouge_l"])
def test_the_fixed_set(name: str) -> None:
    value = score(name, FIXED_CAPTIONS, FIXED_REFERENCES)
    assert value == pytest.approx(FIXED_SCORES[name], abs=1e-6)


@pytest.mark.parametrize(
    "captions",
    [
        CAPTIONS,
        [group[0] for group in REFERENCES],
        ["", "a", "cats", "sofa sofa sofa"],
        [" ".join(["a dog"] * 20)] * 4,
    ],
)
def test_cider_d_is_the_papers(captions: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    value = cider_d(captions, REFERENCES)
    assert value == pytest.approx(slow_cider_d(captions, REFERENCES), abs=1e-9)
    assert score("cider_d", captions) == value
    assert capfd.readouterr().out == "", "standard output is for the document"


def test_cider_d_prefers_the_truth() -> None:
    truth = cider_d([group[0] for group in REFERENCES], REFERENCES)
    assert truth > cider_d(CAPTIONS, REFERENCES) > cider_d(["a"] * 4, REFERENCES) >= 0
    swapped = [REFERENCES[(i + 1) % 4][0] for i in range(4)]
    assert cider_d(swapped, REFERENCES) < truth / 10


def test_a_single_picture_has_no_cider_d() -> None:
    assert cider_d(["a dog"], [["a dog"]]) == 0


@pytest.mark.parametrize(
    ("captions", "references"),
    [
        (FIXED_CAPTIONS, FIXED_REFERENCES),
        (CAPTIONS, REFERENCES),
        ([group[-1] for group in REFERENCES], REFERENCES),
        # Shorter than every reference, and as near to the shorter one as to the longer.
        (["a b c d"], [["a b c d e f"]]),
        (["a b c d x"], [["a b c d", "a b c d e f"]]),
    ],
)
def test_bleu_4_is_the_papers(captions: list[str], references: list[list[str]]) -> None:
    expected = slow_bleu_4(captions, references)
    assert score("bleu_4", captions, references) == pytest.approx(expected, abs=1e-6)


def test_bleu_4_clips_what_is_repeated() -> None:
    """Example 2 of Papineni et al., 2 of 7 unigrams, beside a caption that is right."""
    captions = ["the the the the the the the", "a b c d e f g"]
    references = [["the cat is on the mat", "there is a cat on the mat"], ["a b c d e f g"]]
    expected = (9 / 14 * 6 / 12 * 5 / 10 * 4 / 8) ** (1 / 4)
    assert score("bleu_4", captions, references) == pytest.approx(expected, abs=1e-6)
    assert score("bleu_4", captions[:1], references[:1]) < 1e-9


def test_bleu_4_of_the_truth_and_of_nothing() -> None:
    assert score("bleu_4", [group[0] for group in REFERENCES]) == pytest.approx(1, abs=1e-6)
    assert score("bleu_4", ["zebra crossing at night again"] * 4) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("captions", "references"),
    [
        (FIXED_CAPTIONS, FIXED_REFERENCES),
        (CAPTIONS, REFERENCES),
        (["", "a", "on on", "the red sea"], REFERENCES),
    ],
)
def test_rouge_l_is_the_papers(captions: list[str], references: list[list[str]]) -> None:
    expected = slow_rouge_l(captions, references)
    assert score("rouge_l", captions, references) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        # Lin's S2 and S3: as long as the reference, so that beta makes no difference.
        ("police kill the gunman", 3 / 4),
        ("the gunman kill police", 1 / 2),
        ("police killed the gunman", 1.0),
        # Precision 1, recall 1/2.
        ("the gunman", 2.44 * 0.5 / (0.5 + 1.44)),
        ("", 0.0),
    ],
)
def test_rouge_l_of_lins_example(caption: str, expected: float) -> None:
    value = score("rouge_l", [caption], [["police killed the gunman"]])
    assert value == pytest.approx(expected, abs=1e-12)


def test_rouge_l_counts_no_spaces() -> None:
    odd = [f" {caption.replace(' ', '  ')}\n" for caption in CAPTIONS]
    assert score("rouge_l", odd) == score("rouge_l", CAPTIONS)


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "expected a caption for each of 2 pictures.*found 1 captions"),
        ([], [["a"]], "found 0 captions"),
        ([], [], "found no pictures"),
        (["a", "b"], [["a"], []], "found none for picture 1"),
        (["a", "b"], [["a"], ["", " \n"]], "found none for picture 1"),
    ],
)
def test_captions_and_references_of_different_pictures_are_refused(
    captions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        cider_d(captions, references)
    with pytest.raises(UsageError, match=message):
        score("rouge_l", captions, references)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match=r"out of cider_d.*found bleu_5, cider: correct"):
        CaptionScorer(REFERENCES, ["cider", "rouge_l", "bleu_5"])


# METEOR itself.


@pytest.fixture(scope="module")
def meteor() -> Iterator[Callable[[Sequence[str], Sequence[Sequence[str]]], float]]:
    """One process for all tests, since it takes seconds to start: ``score`` of other references."""
    if reason := unavailable().get("meteor"):
        pytest.skip(f"METEOR cannot run: {reason}")
    with CaptionScorer(REFERENCES, ["meteor"]) as scorer:

        def ask(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
            scorer._truth = caption_metrics._reference_texts(references)
            value = scorer.score(captions)["meteor"]
            assert value is not None
            return value

        yield ask


Meteor = Callable[[Sequence[str], Sequence[Sequence[str]]], float]


def test_meteor_of_the_fixed_set(meteor: Meteor) -> None:
    expected = pytest.approx(FIXED_SCORES["meteor"], abs=1e-6)
    assert [meteor(FIXED_CAPTIONS, FIXED_REFERENCES) for _ in range(2)] == [expected] * 2


def test_meteor_is_the_papers(meteor: Meteor) -> None:
    """The score of Denkowski and Lavie, alpha 0.85, beta 0.2, gamma 0.6, on content words."""
    reference = "grass beach horse mountain"
    assert meteor([reference], [[reference]]) == 1
    half = 0.5 / (0.85 + 0.15 * 0.5) * (1 - 0.6 * (1 / 2) ** 0.2)  # recall 1/2, one chunk of two
    assert meteor(["grass beach"], [[reference]]) == pytest.approx(half, abs=1e-9)
    swapped = 1 - 0.6 * (2 / 4) ** 0.2  # two chunks of four words
    assert meteor(["horse mountain grass beach"], [[reference]]) == pytest.approx(swapped, abs=1e-9)
    # A corpus adds up what was matched, 6 of 8 words; a perfect sentence has no chunk.
    both = 0.75 / (0.85 + 0.15 * 0.75) * (1 - 0.6 * (1 / 6) ** 0.2)
    captions, other = ["grass beach", "dog park boat sea"], "dog park boat sea"
    assert meteor(captions, [[reference], [other]]) == pytest.approx(both, abs=1e-9)


@pytest.mark.parametrize("captions", ODD_CAPTIONS)
def test_meteor_answers_for_odd_captions(
    captions: list[str], meteor: Meteor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert 0 <= meteor(captions, REFERENCES) < 1
    assert meteor(captions, [captions[:1] * 2 + ["boat"], *REFERENCES[1:]]) >= 0
    assert meteor(CAPTIONS, REFERENCES) == meteor(CAPTIONS, REFERENCES), "an answer was left over"
    assert capfd.readouterr().out == ""


def test_meteor_knows_letters_beyond_ascii(meteor: Meteor) -> None:
    assert meteor(["hündchen läuft schnell"], [["hündchen läuft schnell"]]) == 1
    assert meteor(["h?ndchen l?uft schnell"], [["hündchen läuft schnell"]]) < 0.5


# Stand-ins for java.

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
    with CaptionScorer(FIXED_REFERENCES) as scorer:
        scores = scorer.score(FIXED_CAPTIONS)
    assert tuple(scores) == CAPTION_METRICS
    assert scores["meteor"] is scores["spice"] is None
    for name in ("cider_d", "bleu_4", "rouge_l"):
        assert scores[name] == pytest.approx(FIXED_SCORES[name], abs=1e-6)
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
