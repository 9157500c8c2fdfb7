"""One frame from its pixels to what is said of it: observe, decide, perturb, caption, verdict."""

from __future__ import annotations

from typing import Final

import numpy as np

from srd_edge.errors import BundleError, ProviderError, RunError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.answering import Answering
from srd_edge.runtime.budget import Clock, FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.defence import Defence, Defended
from srd_edge.runtime.policy import OnnxPolicy, Policy, q_map
from srd_edge.runtime.records import Result
from srd_edge.runtime.second_opinion import SecondOpinion
from srd_edge.runtime.sessions import Provider

_WARM_UP_FRAMES: Final = 3


class Pipeline:
    """A bundle's models, and the way of a frame through them. It knows one frame at a time.

    Args:
        bundle, policy, defend, check, provider, strict, clock: as in
            ``srd_edge.runtime.defender.Defender``.

    Attributes:
        costs: what its stages have been found to cost.

    Raises:
        BundleError: for a bundle whose parts do not fit together.
        UsageError: for a bundle without a policy, unless ``defend`` is False.
        ProviderError: with ``strict``, when the provider is not available.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: Policy | None,
        defend: bool,
        check: bool,
        provider: Provider,
        strict: bool,
        clock: Clock,
    ) -> None:
        self._actions = bundle.manifest.actions
        self._captioner = OnnxCaptioner(bundle, provider, strict=strict)
        spec = bundle.manifest.policy
        if defend and spec is None:
            raise UsageError(
                expected="a bundle with a policy",
                found=f"none in {bundle.directory}",
                do="export one with --policy, or caption undefended with --no-defense",
            )
        self.provider, self.fallback = self._captioner.provider, self._captioner.fallback
        self._preprocessing = bundle.manifest.preprocessing
        self._clock = clock
        self.costs = StageCosts()
        self._defence: Defence | None = None
        if defend and spec is not None:
            if policy is None:
                policy = own = OnnxPolicy(bundle, provider, strict=strict)
                self.fallback = self.fallback or own.fallback
            self._defence = Defence(bundle.manifest, spec, policy, self._captioner, self.costs)
        self._check: SecondOpinion | None = None
        if defend and check and bundle.manifest.check is not None:
            self._check = SecondOpinion(bundle, bundle.manifest.check, provider, strict=strict)
        self._answering = Answering(self._captioner, self._check, self.costs)
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

    def caption(self, frame: Frame, timer: FrameTimer) -> Result:
        """What is to be said of a frame; held, without a caption, where there was no time for one.

        Args:
            frame: (H, W, 3) uint8 RGB of any size.
            timer: of the frame.
        """
        degraded: list[str] = []
        with timer.stage("preprocess"):
            canvas = to_canvas(frame.pixels, self._preprocessing)
        with timer.stage("encode"):
            raw = self._captioner.encode(canvas)
        defended, episode = Defended(raw, None, ()), None
        if self._defence is not None:
            episode = self._defence.begin(frame, canvas, raw, timer)
            episode.follow(degraded)
            defended = episode.defended
        answered = self._answering.answer(frame, defended.encoded, episode, timer, degraded)
        if episode is not None:
            defended = episode.defended
        generated, opinion, decision = answered.generated, answered.opinion, defended.decision
        is_suspect = bool(defended.actions) or (opinion is not None and opinion.refused)
        levels = [part.suspicion for part in (decision, opinion) if part is not None]
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=None if generated is None else generated.text,
            verdict="held" if generated is None else "suspicious" if is_suspect else "clean",
            suspicion=max(levels, default=None),
            actions=defended.actions,
            stage_ms=timer.stage_ms,
            total_ms=timer.total_ms,
            within_budget=timer.within_budget,
            degraded=tuple(degraded),
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
        for number in range(_WARM_UP_FRAMES):
            if number == 1:
                self.costs.forget()
            timer = FrameTimer(LatencyBudget(), self.costs, self._clock)
            with timer.stage("preprocess"):
                canvas = to_canvas(grey, self._preprocessing)
            with timer.stage("encode"):
                encoded = self._captioner.encode(canvas)
            if self._defence is not None:
                self._defence.rehearse(canvas, encoded, timer)
                self._defence.begin(Frame(grey), canvas, encoded, timer).follow([])
            said = self._answering.generate(encoded, timer, [])
            if self._check is not None and said is not None:
                self._check.rehearse(Frame(grey), said, timer, self.costs)
