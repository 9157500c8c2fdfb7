"""METEOR's scores, by its own Java program where that can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from srd_edge.training import caption_metrics
from srd_edge.training.caption_metrics import CaptionScorer, unavailable
from tests.training.caption_sample import CAPTIONS, ODD_CAPTIONS, REFERENCES, SAMPLE

Meteor = Callable[[Sequence[str], Sequence[Sequence[str]]], float]


@pytest.fixture(scope="module")
def meteor() -> Iterator[Meteor]:
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


def test_meteor_of_the_fixed_set(meteor: Meteor) -> None:
    expected = pytest.approx(SAMPLE["scores"]["meteor"], abs=1e-6)
    assert [meteor(SAMPLE["captions"], SAMPLE["references"]) for _ in range(2)] == [expected] * 2


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
