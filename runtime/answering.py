"""From what the captioner sees to the caption that stands: said, judged, tried again, replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.budget import TOKEN, FrameTimer
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.defence import Episode
from srd_edge.runtime.records import Opinion, Speaker
from srd_edge.runtime.second_opinion import FrameOpinion, SecondOpinion

_RETRY: Final = ("perturb", "encode", "decode", "screen", "examine")


@dataclass(frozen=True, slots=True)
class Answered:
    """What is said of a frame.

    Args:
        generated: the caption that stands; None if there is none to trust.
        opinion: on the first caption; None without a check, or without the time for one.
        speaker: whose the caption is.
    """

    generated: Generated | None
    opinion: Opinion | None
    speaker: Speaker


class Answering:
    """Lets the suspect speak, and the check have the last word.

    Args:
        captioner: the suspect.
        check: judges what it says; None lets everything stand.
    """

    def __init__(self, captioner: OnnxCaptioner, check: SecondOpinion | None) -> None:
        self._captioner, self._check = captioner, check

    def generate(self, encoded: Sequence[Encoded], timer: FrameTimer) -> list[Generated]:
        """The suspect's captions of pictures, side by side; cut at a whole word when time is up."""
        said = self._generated(encoded, timer)
        if not all(one.finished or one.text for one in said) and timer.run_over():
            said = self._generated(encoded, timer)
        return said

    def answer(
        self,
        frame: Frame,
        said: Generated | None,
        episode: Episode | None,
        timer: FrameTimer,
        degraded: list[str],
    ) -> Answered:
        """What is said of a frame in the end.

        A caption that is refused costs a further perturbation and another try, as often as the
        bundle allows; then the reference captioner answers.

        Args:
            frame: what the camera saw, which the check goes by.
            said: what the suspect says of it; None where there was no time to ask.
            episode: perturbs it further; None without a policy.
            timer: of the frame.
            degraded: what is given up is added to it.
        """
        said = _worth_having(said, degraded)
        if said is None or self._check is None:
            return Answered(said, None, "suspect")
        perturbed = episode is not None and bool(episode.defended.actions)
        here = self._check.at(frame, timer, perturbed=perturbed)
        first = opinion = self._judge(here, said, timer)
        retries = self._check.spec.retries if episode is not None else 0
        while said is not None and opinion is not None and opinion.refused and retries:
            retries -= 1
            said = self._try_again(episode, timer, degraded)
            opinion = self._judge(here, said, timer) if said is not None else None
        if said is not None and opinion is not None and not opinion.refused:
            _tell_length(said, degraded)
            return Answered(said, first, "suspect")
        replaced = self._replace(here, first, timer, degraded)
        return Answered(replaced, first, "suspect" if replaced is None else "reference")

    def _generated(self, encoded: Sequence[Encoded], timer: FrameTimer) -> list[Generated]:
        if not encoded:
            return []
        start = timer.clock()
        with timer.stage("decode", learn=False):
            said = self._captioner.generate_each(
                encoded, expired=lambda: not timer.affords(TOKEN, "screen")
            )
        cost_ms = (timer.clock() - start) * 1e3
        # A finished caption cost one more call, for the end token.
        calls = max(len(one.tokens) + one.finished for one in said)
        if calls:
            timer.costs.learn(TOKEN, cost_ms / calls)
        else:
            timer.costs.doubt(TOKEN, "screen")
        if all(one.finished for one in said):
            timer.costs.learn("decode", cost_ms)
        return said

    def _judge(self, here: FrameOpinion, said: Generated, timer: FrameTimer) -> Opinion | None:
        opinion = here.judge(said)
        if opinion is None and timer.run_over():
            opinion = here.judge(said)
        if opinion is None:
            # What is not run for its cost is not measured again either.
            timer.costs.doubt("examine")
        return opinion

    def _try_again(
        self, episode: Episode | None, timer: FrameTimer, degraded: list[str]
    ) -> Generated | None:
        if episode is None or not timer.affords(*_RETRY, "answer"):
            degraded.append("retries")
            timer.costs.doubt("perturb")  # the others run anyway
            return None
        encoded = episode.defended.encoded if episode.insist() else None
        if encoded is None:
            return None
        (said,) = self.generate([encoded], timer)
        return _worth_having(said, [])

    def _replace(
        self,
        here: FrameOpinion,
        opinion: Opinion | None,
        timer: FrameTimer,
        degraded: list[str],
    ) -> Generated | None:
        """The reference captioner's caption; None without one, and where time is up."""
        # Without an opinion there was no time to ask for one.
        answer = None if opinion is None else here.answer()
        if answer is None and opinion is not None and timer.run_over():
            answer = here.answer()
        if answer is None:
            degraded.append("caption")
        else:
            _tell_length(answer, degraded)
        return answer


def _worth_having(said: Generated | None, degraded: list[str]) -> Generated | None:
    """What was said, if it says anything."""
    if said is None or said.finished:
        return said
    degraded.append("caption_length" if said.text else "caption")
    return said if said.text else None


def _tell_length(generated: Generated, degraded: list[str]) -> None:
    if not generated.finished and "caption_length" not in degraded:
        degraded.append("caption_length")
