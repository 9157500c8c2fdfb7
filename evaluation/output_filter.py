"""A rival that never looks at the picture: words that do not fit are dropped from the caption.

After ONION (Qi et al., arXiv 2011.10369), which cleans a model's input; here it cleans its output,
which is where a captioner's inserted target stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from srd_edge.errors import UsageError
from srd_edge.evaluation.agreement import THRESHOLD_PICTURES, alarm_threshold
from srd_edge.evaluation.contestants import Answer, BlackBox, Case, Setting, clean_case
from srd_edge.training.language import LanguageModel


@dataclass(slots=True)
class WordDrops:
    """How much the language model's log-perplexity falls without each word of a caption.

    Captions come again and again, so that what was worked out is kept. Each is worked out by
    itself: its figures must not depend on what it was batched with.

    Args:
        language: judges captions.
    """

    language: LanguageModel
    _known: dict[str, list[float]] = field(default_factory=dict)

    def of(self, caption: str) -> list[float]:
        """One number for each word, nats a token; minus infinity for the only word."""
        if caption not in self._known:
            words = caption.split()
            texts = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
            whole, *without = self.language.log_perplexity([caption, *texts]).tolist()
            self._known[caption] = [whole - each for each in without]
        return self._known[caption]

    def largest(self, caption: str) -> float:
        """The largest of them, 0 where no word's removal helps."""
        return max([0.0, *self.of(caption)])


@dataclass(frozen=True, slots=True)
class OutputFilter:
    """Gives the raw caption without the words whose removal helps more than ``threshold``.

    Args:
        captioner: the suspect.
        drops: values words.
        threshold: nats a token.
    """

    seeded: ClassVar[bool] = False

    captioner: BlackBox
    drops: WordDrops
    threshold: float

    def answer(self, cases: Sequence[Case], seed: int) -> list[Answer]:  # noqa: ARG002 - protocol
        captions = self.captioner.caption([self.captioner.canvas(case) for case in cases])
        return [self._filtered(caption) for caption in captions]

    def _filtered(self, caption: str) -> Answer:
        drops, level = self.drops.of(caption), self.drops.largest(caption)
        if level <= self.threshold:
            return Answer(caption, alarm=False, suspicion=level)
        words = zip(caption.split(), drops, strict=True)
        kept = [word for word, drop in words if drop <= self.threshold]
        return Answer(" ".join(kept), alarm=True, suspicion=level)


def output_filter(setting: Setting) -> OutputFilter:
    """With the threshold that leaves 99 % of the captions of clean dev pictures untouched.

    Raises:
        UsageError: without a language model or dev pictures.
    """
    if setting.language is None:
        raise UsageError(
            expected="a language model of captions", found="none", do="ask for language models"
        )
    box, drops = setting.captioner, WordDrops(setting.language)
    canvases = [
        box.canvas(clean_case(sample, i))
        for i, sample in enumerate(setting.dev[:THRESHOLD_PICTURES])
    ]
    levels = [drops.largest(caption) for caption in box.caption(canvases)]
    return OutputFilter(box, drops, alarm_threshold(levels))
