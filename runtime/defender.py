"""The defender: observe, decide, perturb, caption, verdict - for one frame, inside its budget."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from srd_edge.errors import BundleError, ProviderError, RunError, UsageError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.answering import Answering
from srd_edge.runtime.budget import Clock, FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.defence import Defence, Defended
from srd_edge.runtime.gate import ChangeGate
from srd_edge.runtime.memory import Memory
from srd_edge.runtime.policy import OnnxPolicy, Policy, q_map
from srd_edge.runtime.records import Result, Verdict
from srd_edge.runtime.second_opinion import SecondOpinion
from srd_edge.runtime.sessions import Provider

_WARM_UP_FRAMES: Final = 3


class Defender:
    """Captions frames with a captioner that may be backdoored, and defends each.

    Args:
        bundle: verified; see ``Defender.load`` for the usual way in.
        policy: values actions; the bundle's own Q-network by default.
        defend: False captions every frame as it is, for comparison.
        check: False leaves the captions unchecked, for comparison.
        budget: time for one frame.
        gate_level: grey levels that a part of the picture may change by while the last caption
            stands, see ``srd_edge.runtime.gate``; None captions every frame anew.
        provider, strict: the execution provider, and whether its absence is an error.
        clock: seconds, rising.

    Raises:
        BundleError: for a bundle whose parts do not fit together.
        UsageError: for a bundle without a policy, unless ``defend`` is False.
        ProviderError: with ``strict``, when the provider is not available.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: Policy | None = None,
        defend: bool = True,
        check: bool = True,
        budget: LatencyBudget | None = None,
        gate_level: float | None = None,
        provider: Provider = "auto",
        strict: bool = False,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.bundle = bundle
        self._captioner = OnnxCaptioner(bundle, provider, strict=strict)
        spec = bundle.manifest.policy
        if defend and spec is None:
            raise UsageError(
                expected="a bundle with a policy",
                found=f"none in {bundle.directory}",
                do="export one with --policy, or caption undefended with --no-defense",
            )
        self._fallback = self._captioner.fallback
        self._preprocessing = bundle.manifest.preprocessing
        self._budget = budget or LatencyBudget()
        self._clock = clock
        self._costs = StageCosts()
        self._defence: Defence | None = None
        if defend and spec is not None:
            if policy is None:
                policy = own = OnnxPolicy(bundle, provider, strict=strict)
                self._fallback = self._fallback or own.fallback
            self._defence = Defence(bundle.manifest, spec, policy, self._captioner, self._costs)
        self._check: SecondOpinion | None = None
        if defend and check and bundle.manifest.check is not None:
            self._check = SecondOpinion(bundle, bundle.manifest.check, provider, strict=strict)
        self._answering = Answering(self._captioner, self._check, self._costs)

        def fresh() -> Memory:
            return Memory(None if gate_level is None else ChangeGate(gate_level))

        # One at once: a level that is none is to be told before the first frame.
        self._memories = defaultdict(fresh, {0: fresh()})
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

    @classmethod
    def load(
        cls,
        bundle: Path | str | None = None,
        *,
        budget_ms: float | None = None,
        gate_level: float | None = None,
        provider: Provider = "auto",
        strict: bool = False,
        defend: bool = True,
    ) -> Defender:
        """Open a bundle's directory (None: the built-in one), verified before anything is loaded.

        Raises:
            BundleError: a bundle that is refused.
            ProviderError: with ``strict``, when the provider is not available.
        """
        return cls(
            read_bundle(bundle),
            budget=LatencyBudget(budget_ms),
            gate_level=gate_level,
            provider=provider,
            strict=strict,
            defend=defend,
        )

    @property
    def provider(self) -> str:
        """The execution provider in use: cpu, cuda or tensorrt."""
        return self._captioner.provider

    @property
    def fallback(self) -> str | None:
        """Why the provider is not the one asked for, for the captioner or the policy; or None."""
        return self._fallback

    def forget(self, source: int = 0) -> None:
        """Drop the captions of earlier frames: what follows is another scene.

        Args:
            source: whose; the others keep theirs.
        """
        self._memories.pop(source, None)

    def caption(self, frame: Frame | Pixels, *, compare: bool = False, source: int = 0) -> Result:
        """Caption one frame.

        Args:
            frame: a Frame, or its pixels (H, W, 3) uint8 RGB of any size.
            compare: also say what the undefended model would have said; not charged to the frame.
            source: which of several the frame is from; a late frame is held with a caption of its
                own source only.
        """
        frame = frame if isinstance(frame, Frame) else Frame(frame)
        timer = FrameTimer(self._budget, self._costs, self._clock)
        memory = self._memories[source]
        last = memory.standing
        if last is not None and not (compare and last.raw_caption is None):
            with timer.stage("gate"):
                standing = memory.unchanged(frame)
            if standing is not None:
                return _told_of(standing, frame, timer)
        result = self._captioned(frame, timer, memory, compare=compare)
        memory.stand(result, frame)
        return result

    def _captioned(
        self, frame: Frame, timer: FrameTimer, memory: Memory, *, compare: bool
    ) -> Result:
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
        total_ms, within = timer.total_ms, timer.within_budget
        generated, opinion = answered.generated, answered.opinion
        is_suspect = bool(defended.actions) or (opinion is not None and opinion.refused)
        verdict: Verdict = "suspicious" if is_suspect else "clean"
        if generated is None:
            verdict = "held"
            caption, held_for = memory.caption, frame.index - memory.frame
        else:
            caption, held_for = generated.text, None
            memory.trust(caption, frame.index)
        raw_caption = None
        if compare:
            unchanged = generated is not None and generated.finished and not is_suspect
            raw_caption = caption if unchanged else self._captioner.generate(raw).text
        decision, table = defended.decision, self.bundle.manifest.actions
        levels = [part.suspicion for part in (decision, opinion) if part is not None]
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=caption,
            verdict=verdict,
            suspicion=max(levels, default=None),
            actions=defended.actions,
            raw_caption=raw_caption,
            stage_ms=timer.stage_ms,
            total_ms=total_ms,
            within_budget=within,
            degraded=tuple(degraded),
            held_for=held_for if caption is not None else None,
            opinion=opinion,
            speaker=answered.speaker,
            decision=decision,
            q_map=None if decision is None else q_map(decision.q_values, table),
        )

    def _warm_up(self) -> None:
        """Run every stage a few times: the costs are learned, and what does not fit is found.

        The first round pays for what is allocated once; its costs are forgotten.
        """
        grey = np.full((self._preprocessing.height, self._preprocessing.width, 3), 127, np.uint8)
        for number in range(_WARM_UP_FRAMES):
            if number == 1:
                self._costs.forget()
            timer = FrameTimer(LatencyBudget(), self._costs, self._clock)
            with timer.stage("preprocess"):
                canvas = to_canvas(grey, self._preprocessing)
            with timer.stage("encode"):
                encoded = self._captioner.encode(canvas)
            if self._defence is not None:
                self._defence.rehearse(canvas, encoded, timer)
                self._defence.begin(Frame(grey), canvas, encoded, timer).follow([])
            said = self._answering.generate(encoded, timer, [])
            if self._check is not None and said is not None:
                self._check.rehearse(Frame(grey), said, timer, self._costs)


def _told_of(standing: Result, frame: Frame, timer: FrameTimer) -> Result:
    """The result of an earlier frame, for one that looks the same."""
    return replace(
        standing,
        frame=frame.index,
        time_s=frame.time_s,
        stage_ms=timer.stage_ms,
        total_ms=timer.total_ms,
        within_budget=timer.within_budget,
        unchanged_for=frame.index - standing.frame,
    )
