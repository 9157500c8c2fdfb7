"""The check of what a captioner said: does it claim more than an honest captioner could know?

A caption c of a picture x, by the suspect, is held against models that cannot share its backdoor:

* *confidence*: log p_suspect(c | x), a token. An attacker's sentence comes without hesitation.
* *information*: log p_suspect(c | x) - log p_language(c): how many nats the caption owes to the
  picture. A word that no caption has and that the suspect is sure of stands out.
* *contradiction*: log p_suspect(c | x) - log p_reference(c | x): the log-likelihood ratio against
  another captioner that sees the same picture.

The first two cost next to nothing and are looked at for every caption; what exceeds either of their
limits is *examined* by the reference captioner. It is *refused* where the *evidence* exceeds its
limit: contradiction and confidence added up, each by how much it varies over clean captions. A
likely sentence is hardly contradicted by a reference captioner that knows little, and an inserted
word comes with no more confidence than others; no honest caption has much of both. A bundle without
a reference captioner refuses what it would have had examined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.budget import TOKEN, FrameTimer
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import Generated
from srd_edge.runtime.check_specs import FROM_MEDIAN_TO_LIMIT, CheckSpec
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.language import OnnxLanguageModel
from srd_edge.runtime.records import Opinion
from srd_edge.runtime.reference import ReferenceCaptioner
from srd_edge.runtime.sessions import Provider

_CAPTIONS_KEPT: Final = 4096
"""Whose likelihood as a sentence is remembered."""


class SecondOpinion:
    """Judges captions, and captions in the suspect's place where it is asked to.

    Args:
        bundle: a verified bundle with a check.
        spec: its check.
        provider, strict: execution provider of the graphs.
    """

    def __init__(
        self, bundle: Bundle, spec: CheckSpec, provider: Provider, *, strict: bool
    ) -> None:
        self.spec = spec
        self.language = OnnxLanguageModel(bundle, spec.language, provider, strict=strict)
        self.reference: ReferenceCaptioner | None = None
        if spec.reference:
            self.reference = ReferenceCaptioner(bundle, provider, strict=strict)
        self._expected: dict[tuple[str, bool], float] = {}

    def at(self, frame: Frame, timer: FrameTimer, *, perturbed: bool = False) -> FrameOpinion:
        """Ready to judge captions of ``frame``, which the suspect saw as it is or perturbed."""
        return FrameOpinion(self, frame, timer, wary=perturbed and self.spec.peer)

    def knows(self, said: Generated) -> bool:
        """Whether the language model has been asked for this caption before."""
        return (said.text, said.ended) in self._expected

    def expected(self, said: Generated) -> float:
        """How likely a caption is as a sentence, in nats: in a video, often the last frame's."""
        key = said.text, said.ended
        if key not in self._expected:
            if len(self._expected) == _CAPTIONS_KEPT:
                self._expected.clear()
            likely = self.language.log_probability(said.text, finished=said.ended)
            self._expected[key] = likely
        return self._expected[key]

    def rehearse(self, frame: Frame, said: Generated, timer: FrameTimer) -> None:
        """Run everything once, so that its costs are known."""
        self._expected.clear()
        here = self.at(frame, timer)
        here.screen(said)
        if self.reference is not None:
            here.contradiction(said)
            here.answer()


@dataclass(slots=True)
class FrameOpinion:
    """Opinions on captions of one frame; the reference captioner looks at it once, if at all.

    Args:
        by: whose opinion.
        frame: what the camera saw, unperturbed.
        timer: of the frame.
        wary: whether every caption has to be as good as the median clean one.
    """

    by: SecondOpinion
    frame: Frame
    timer: FrameTimer
    wary: bool = False
    _canvas: Pixels | None = None
    _seen: Encoded | None = None
    _warned: bool = False

    def judge(self, said: Generated) -> Opinion | None:
        """What is thought of ``said``; None where there is no time to examine it.

        Once a caption of the frame was refused, the next ones are examined in any case, and have
        to be as good as the median clean caption. So has a caption of a perturbed picture where the
        reference captioner is a peer.
        """
        spec = self.by.spec
        confidence, information = said.mean_log_probability, self.screen(said)
        excesses = spec.confidence.excess(confidence), spec.information.excess(information)
        screened = max(excesses, key=_with_none_above_all)
        affordable = self.timer.affords("examine")
        strict = self._warned or self.wary
        stricter = FROM_MEDIAN_TO_LIMIT if strict else 0.0
        if self.by.reference is None or (screened <= 0 and not strict):
            opinion = Opinion(confidence, information, None, screened + stricter)
        elif affordable:
            contradiction = self.contradiction(said)
            evidence = contradiction + spec.confidence_weight * confidence
            excess = spec.evidence.excess(evidence) + stricter
            opinion = Opinion(confidence, information, contradiction, excess)
        else:
            return None
        self._warned |= opinion.refused
        return opinion

    def screen(self, said: Generated) -> float:
        """The information in a caption, in nats."""
        with self.timer.stage("screen", learn=not self.by.knows(said)):
            return said.log_probability - self.by.expected(said)

    def contradiction(self, said: Generated) -> float:
        """The log-likelihood ratio against the reference captioner, in nats."""
        reference = self.by.reference
        assert reference is not None
        with self.timer.stage("examine"):
            if self._seen is None:
                self._seen = reference.encode(self._canvas_for(reference))
            likely = reference.log_probability(self._seen, said.text, finished=said.ended)
        return said.log_probability - likely

    def answer(self) -> Generated | None:
        """The reference captioner's own caption; None without one, or without the time for it."""
        reference = self.by.reference
        if reference is None:
            return None
        if not self.timer.affords("answer"):
            self.timer.costs.doubt("answer")
            return None
        start = self.timer.clock()
        with self.timer.stage("answer", learn=False):
            generated = reference.answer(
                self._canvas_for(reference),
                expired=lambda: not self.timer.affords(TOKEN),
            )
        if generated.finished:
            self.timer.costs.learn("answer", (self.timer.clock() - start) * 1e3)
        return generated if generated.text else None

    def _canvas_for(self, reference: ReferenceCaptioner) -> Pixels:
        if self._canvas is None:
            self._canvas = reference.canvas(self.frame)
        return self._canvas


def _with_none_above_all(score: float) -> tuple[bool, float]:
    return math.isnan(score), score
