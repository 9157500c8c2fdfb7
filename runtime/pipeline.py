"""Frames from their pixels to what is said of them: observe, decide, perturb, caption, verdict."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from srd_edge.errors import BundleError, ProviderError, RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.answering import Answering
from srd_edge.runtime.budget import WHOLE, Clock, FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.defence import Defence, Defended, Episode
from srd_edge.runtime.policy import OnnxPolicy, Policy, q_map
from srd_edge.runtime.records import Opinion, Result, Verdict
from srd_edge.runtime.second_opinion import SecondOpinion
from srd_edge.runtime.sessions import Provider

_WARM_UP_FRAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Choices:
    """How a bundle's models are used; see ``srd_edge.runtime.defender.Defender``."""

    defend: bool = True
    check: bool = True
    provider: Provider = "auto"
    strict: bool = False


@dataclass(frozen=True, slots=True)
class _Track:
    """One frame among those that are captioned side by side."""

    frame: Frame
    defended: Defended
    episode: Episode | None
    degraded: list[str]


class Pipeline:
    """A bundle's models, and the way of a frame through them, alone or side by side with others.

    It remembers nothing of earlier frames.

    Args:
        bundle, policy, clock: as in ``srd_edge.runtime.defender.Defender``.
        choices: how the bundle is used.

    Raises:
        BundleError: for a bundle whose parts do not fit together.
        UsageError: for a bundle without a policy, unless ``defend`` is False.
        ProviderError: with ``strict``, when the provider is not available.
    """

    def __init__(
        self,
        bundle: Bundle,
        choices: Choices = Choices(),
        *,
        policy: Policy | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        provider, strict = choices.provider, choices.strict
        self._actions = bundle.manifest.actions
        self._captioner = OnnxCaptioner(bundle, provider, strict=strict)
        spec = bundle.manifest.policy
        if choices.defend and spec is None:
            raise UsageError(
                expected="a bundle with a policy",
                found=f"none in {bundle.directory}",
                do="export one with --policy, or caption undefended with --no-defense",
            )
        self.provider, self.fallback = self._captioner.provider, self._captioner.fallback
        self._preprocessing = bundle.manifest.preprocessing
        self._clock = clock
        self._costs = defaultdict[int, StageCosts](StageCosts)
        self._defence: Defence | None = None
        if choices.defend and spec is not None:
            if policy is None:
                policy = own = OnnxPolicy(bundle, provider, strict=strict)
                self.fallback = self.fallback or own.fallback
            self._defence = Defence(bundle.manifest, spec, policy, self._captioner)
        self._check: SecondOpinion | None = None
        if choices.defend and choices.check and bundle.manifest.check is not None:
            self._check = SecondOpinion(bundle, bundle.manifest.check, provider, strict=strict)
        self._answering = Answering(self._captioner, self._check)
        try:
            self._warm_up()
        except (BundleError, ProviderError, RunError):
            raise
        except Exception as error:  # onnxruntime's own errors have no base but Exception
            raise BundleError(
                expected=f"graphs, tokens and actions that fit together in {bundle.directory}",
                found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                do="fetch or export the bundle again",
            ) from error

    def costs(self, frames: int = 1) -> StageCosts:
        """What the stages have been found to cost with so many frames side by side."""
        return self._costs[frames]

    def captions(self, frames: Sequence[Frame], timer: FrameTimer) -> list[Result]:
        """What is to be said of frames; held, without a caption, where there was no time for one.

        Args:
            frames: one, or several that are captioned side by side and share their time;
                (H, W, 3) uint8 RGB of any sizes.
            timer: of them all, with the costs of so many.
        """
        start = self._clock()
        with timer.stage("preprocess"):
            canvases = [to_canvas(frame.pixels, self._preprocessing) for frame in frames]
        # Among several, what is learned is the cost of encoding a perturbed one, by itself.
        with timer.stage("encode", learn=len(frames) == 1):
            encoded = self._captioner.encode_each(canvases)
        tracks = [
            self._defended(frame, canvas, raw, timer)
            for frame, canvas, raw in zip(frames, canvases, encoded, strict=True)
        ]
        shown = [track.defended.encoded for track in tracks]
        said = iter(self._answering.generate([one for one in shown if one is not None], timer))
        results = [
            self._answered(track, None if one is None else next(said), timer, len(frames))
            for track, one in zip(tracks, shown, strict=True)
        ]
        timer.costs.learn(WHOLE, (self._clock() - start) * 1e3)
        return results

    def _defended(
        self, frame: Frame, canvas: Pixels, encoded: Encoded, timer: FrameTimer
    ) -> _Track:
        if self._defence is None:
            return _Track(frame, Defended(encoded, None, ()), None, [])
        degraded: list[str] = []
        episode = self._defence.begin(frame, canvas, encoded, timer)
        episode.follow(degraded)
        return _Track(frame, episode.defended, episode, degraded)

    def _answered(
        self, track: _Track, said: Generated | None, timer: FrameTimer, frames: int
    ) -> Result:
        frame, episode = track.frame, track.episode
        answered = self._answering.answer(frame, said, episode, timer, track.degraded)
        defended = track.defended if episode is None else episode.defended
        generated, opinion, decision = answered.generated, answered.opinion, defended.decision
        levels = [part.suspicion for part in (decision, opinion) if part is not None]
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=None if generated is None else generated.text,
            verdict="held" if generated is None else _found(defended, opinion),
            suspicion=max(levels, default=None),
            actions=defended.actions,
            stage_ms=timer.stage_ms,
            degraded=tuple(track.degraded),
            side_by_side=frames,
            opinion=opinion,
            speaker=answered.speaker,
            decision=decision,
            q_map=None if decision is None else q_map(decision.q_values, self._actions),
        )

    def undefended(self, frame: Frame) -> str:
        """What the captioner says of a frame by itself."""
        canvas = to_canvas(frame.pixels, self._preprocessing)
        return self._captioner.generate(self._captioner.encode(canvas)).text

    def _warm_up(self) -> None:
        """Run every stage a few times: the costs are learned, and what does not fit is found.

        The first round pays for what is allocated once; its costs are forgotten.
        """
        grey = np.full((self._preprocessing.height, self._preprocessing.width, 3), 127, np.uint8)
        costs = self.costs()
        for number in range(_WARM_UP_FRAMES):
            if number == 1:
                costs.forget()
            timer = FrameTimer(LatencyBudget(), costs, self._clock)
            with timer.stage("preprocess"):
                canvas = to_canvas(grey, self._preprocessing)
            with timer.stage("encode"):
                encoded = self._captioner.encode(canvas)
            if self._defence is not None:
                self._defence.rehearse(canvas, encoded, timer)
                self._defence.begin(Frame(grey), canvas, encoded, timer).follow([])
            (said,) = self._answering.generate([encoded], timer)
            if self._check is not None:
                self._check.rehearse(Frame(grey), said, timer)


def _found(defended: Defended, opinion: Opinion | None) -> Verdict:
    """The verdict on a frame that has a caption."""
    if defended.decision is None:
        return "undefended"
    refused = opinion is not None and opinion.refused
    return "suspicious" if defended.actions or refused else "clean"
