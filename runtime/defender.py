"""The defender: the pipeline's captions, frame after frame, each inside its budget."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.budget import Clock, FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.gate import ChangeGate
from srd_edge.runtime.memory import Memory
from srd_edge.runtime.pipeline import Pipeline
from srd_edge.runtime.policy import Policy
from srd_edge.runtime.records import Result
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.workers import AtOnce, OnThread, Worker


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame that is being captioned, and whose memory its caption is for."""

    frame: Frame
    memory: Memory


class Defender:
    """Captions frames with a captioner that may be backdoored, and defends each.

    With a budget, a frame whose caption has not come by its deadline is held with the last trusted
    one; the caption that was late is then trusted for the frames after it. Frames that come while
    it is still being made are held too.

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
        worker: does the frames' work; by default a thread where there is a budget, and otherwise
            the caller.

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
        worker: Worker[Result] | None = None,
    ) -> None:
        def fresh() -> Memory:
            return Memory(None if gate_level is None else ChangeGate(gate_level))

        # One at once: a level that is none is to be told before the first frame.
        self._memories = defaultdict(fresh, {0: fresh()})
        self.bundle = bundle
        self._budget = budget or LatencyBudget()
        self._clock = clock
        self._pipeline = Pipeline(
            bundle,
            policy=policy,
            defend=defend,
            check=check,
            provider=provider,
            strict=strict,
            clock=clock,
        )
        self._worker: Worker[Result]
        if worker is not None:
            self._worker = worker
        elif self._budget.frame_ms is None:
            self._worker = AtOnce()
        else:
            self._worker = OnThread(clock, most_spare_s=self._budget.frame_ms / 2e3)
        self._begun: _Begun | None = None
        self._kept: Pixels | None = None

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
        return self._pipeline.provider

    @property
    def fallback(self) -> str | None:
        """Why the provider is not the one asked for, for the captioner or the policy; or None."""
        return self._pipeline.fallback

    def forget(self, source: int = 0) -> None:
        """Drop the captions of earlier frames: what follows is another scene.

        Args:
            source: whose; the others keep theirs.
        """
        self._memories.pop(source, None)

    def caption(self, frame: Frame | Pixels, *, compare: bool = False, source: int = 0) -> Result:
        """Caption one frame.

        Args:
            frame: a Frame, or its pixels (H, W, 3) uint8 RGB of any size. They may be overwritten
                afterwards.
            compare: also say what the undefended model would have said; not charged to the frame.
            source: which of several the frame is from; a late frame is held with a caption of its
                own source only.
        """
        frame = frame if isinstance(frame, Frame) else Frame(frame)
        worker = self._worker
        timer = FrameTimer(
            self._budget,
            self._pipeline.costs,
            self._clock,
            spare_s=worker.spare_s,
            runs_over=worker.runs_over,
        )
        memory = self._memories[source]
        last = memory.standing
        if last is not None and not (compare and last.raw_caption is None):
            with timer.stage("gate"):
                standing = memory.unchanged(frame)
            if standing is not None:
                return _told_of(standing, frame, timer)
        result = self._captioned(frame, timer, memory)
        result = replace(result, total_ms=timer.total_ms, within_budget=timer.within_budget)
        if compare:
            result = replace(result, raw_caption=self._undefended(frame, result))
        memory.stand(result, frame)
        return result

    def _captioned(self, frame: Frame, timer: FrameTimer, memory: Memory) -> Result:
        """What is said of a frame: its own caption if it comes in time, or the last one."""
        if self._begun is not None:
            with timer.stage("wait", learn=False):
                done = self._finish(timer.deadline_s)
            if not done:
                return memory.hold(_held(frame, timer, "frame_rate"))
        begun = self._begun = _Begun(self._copied(frame), memory)
        self._worker.begin(lambda: self._pipeline.caption(begun.frame, timer))
        result = self._collect(timer.deadline_s)
        if result is None:
            timer.run_over()
            result = _held(frame, timer, "caption")
        if result.verdict == "held":
            return memory.hold(result)
        memory.trust(result)
        return result

    def _finish(self, until_s: float) -> bool:
        """Whether the caption that was late has come; it is trusted for the frames after it."""
        begun = self._begun
        if begun is None:
            return True
        late = self._collect(until_s)
        if late is None:
            return False
        if late.verdict != "held":
            begun.memory.trust(late)
        begun.memory.stand(late, begun.frame)
        return True

    def _collect(self, until_s: float) -> Result | None:
        """The result of the frame that was begun; None where it has not come by ``until_s``."""
        try:
            result = self._worker.wait(until_s)
        except Exception:
            self._begun = None
            raise
        if result is not None:
            self._begun = None
        return result

    def _undefended(self, frame: Frame, result: Result) -> str:
        """What the captioner says by itself, made after the frame's time was taken."""
        if result.verdict == "clean" and "caption_length" not in result.degraded:
            assert result.caption is not None
            return result.caption
        self._finish(float("inf"))
        return self._pipeline.undefended(frame)

    def _copied(self, frame: Frame) -> Frame:
        """A frame that stays as it is while a thread looks at it, whatever becomes of the given."""
        if not self._worker.runs_over:
            return frame
        if self._kept is None or self._kept.shape != frame.pixels.shape:
            self._kept = np.empty_like(frame.pixels, order="C")
        np.copyto(self._kept, frame.pixels)
        return replace(frame, pixels=self._kept)


def _held(frame: Frame, timer: FrameTimer, given_up: str) -> Result:
    """A frame that nothing is known of in time."""
    return Result(
        frame=frame.index,
        time_s=frame.time_s,
        caption=None,
        verdict="held",
        suspicion=None,
        stage_ms=dict(timer.stage_ms),
        degraded=(given_up,),
    )


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
