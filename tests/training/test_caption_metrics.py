"""Caption metrics against pycocoevalcap's own figures, the papers' examples and their formulas.

METEOR and SPICE, which are Java programs, are tested in test_meteor.py and test_java_metrics.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest

from srd_edge.errors import UsageError
from srd_edge.training.caption_metrics import CaptionScorer, cider_d
from tests.training.caption_sample import CAPTIONS, REFERENCES, SAMPLE


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
    value = score(name, SAMPLE["captions"], SAMPLE["references"])
    assert value == pytest.approx(SAMPLE["scores"][name], abs=1e-6)


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
        (SAMPLE["captions"], SAMPLE["references"]),
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
        (SAMPLE["captions"], SAMPLE["references"]),
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
