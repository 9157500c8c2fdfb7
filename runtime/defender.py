"""The defender: observe, decide, perturb, caption, verdict - for one frame, inside its budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.kernels.actions import apply_action
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.budget import Clock, FrameTimer, LatencyBudget, StageCosts
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import CrossAttentionCaptioner, Encoded, Generated
from srd_edge.runtime.policy import OnnxPolicy, Policy, choose, suspicion
from srd_edge.runtime.records import AppliedAction, Decision, Observation, Result, Verdict
from srd_edge.runtime.sessions import Provider

_WARM_UP_FRAMES: Final = 3
_LEAST_DECODE: Final = "decode_least"
_LEAST_TOKENS: Final = 4
"""A caption shorter than this says nothing; a frame that has no time for it is held."""


@dataclass(slots=True)
class _Trusted:
    """The last caption that was made under the defence."""

    caption: str | None = None
    frame: int = 0


@dataclass(frozen=True, slots=True)
class _Defended:
    """A frame after the policy was done with it; ``encoded`` is None where time ran out."""

    encoded: Encoded | None
    decision: Decision
    actions: tuple[AppliedAction, ...]


class Defender:
    """Captions frames with a captioner that may be backdoored, and defends each.

    Args:
        bundle: verified; see ``Defender.load`` for the usual way in.
        policy: values actions; the bundle's own Q-network by default.
        defend: False captions every frame as it is, for comparison.
        budget: time for one frame.
        provider, strict: the execution provider, and whether its absence is an error.
        clock: seconds, rising.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: Policy | None = None,
        defend: bool = True,
        budget: LatencyBudget | None = None,
        provider: Provider = "auto",
        strict: bool = False,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.bundle = bundle
        self._captioner = CrossAttentionCaptioner(bundle, provider, strict=strict)
        spec = bundle.manifest.policy
        if defend and spec is None:
            raise UsageError(
                expected="a bundle with a policy",
                found=f"none in {bundle.directory}",
                do="export one with --policy, or caption undefended with --no-defense",
            )
        self._max_steps = spec.max_steps if spec else 0
        self._temperature = spec.temperature if spec else 1.0
        own = OnnxPolicy(bundle, provider, strict=strict) if defend and policy is None else None
        self._policy: Policy | None = policy if defend and policy is not None else own
        self._table = bundle.manifest.actions
        self._preprocessing = bundle.manifest.preprocessing
        self._budget = budget or LatencyBudget()
        self._clock = clock
        self._costs = StageCosts()
        self._trusted = _Trusted()
        self._warm_up()

    @classmethod
    def load(
        cls,
        bundle: Path | str | None = None,
        *,
        budget_ms: float | None = None,
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
        """Why the provider is not the one asked for, or None."""
        return self._captioner.fallback

    def caption(self, frame: Frame | Pixels, *, compare: bool = False) -> Result:
        """Caption one frame.

        Args:
            frame: a Frame, or its pixels (H, W, 3) uint8 RGB of any size.
            compare: also say what the undefended model would have said; not charged to the frame.
        """
        frame = frame if isinstance(frame, Frame) else Frame(frame)
        timer = FrameTimer(self._budget, self._costs, self._clock)
        degraded: list[str] = []
        with timer.stage("preprocess"):
            canvas = to_canvas(frame.pixels, self._preprocessing)
        with timer.stage("encode"):
            raw = self._captioner.encode(canvas)
        defended = self._defend(frame, canvas, raw, timer, degraded)
        generated = self._generate(defended.encoded, timer, degraded)
        total_ms, within = timer.total_ms, timer.within_budget
        verdict: Verdict = "suspicious" if defended.actions else "clean"
        if generated is None:
            verdict = "held"
            caption, held_for = self._trusted.caption, frame.index - self._trusted.frame
        else:
            caption, held_for = generated.text, None
            self._trusted = _Trusted(caption, frame.index)
        raw_caption = None
        if compare:
            unchanged = generated is not None and generated.finished and not defended.actions
            raw_caption = caption if unchanged else self._captioner.generate(raw).text
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=caption,
            verdict=verdict,
            suspicion=defended.decision.suspicion,
            actions=defended.actions,
            raw_caption=raw_caption,
            stage_ms=timer.stage_ms,
            total_ms=total_ms,
            within_budget=within,
            degraded=tuple(degraded),
            held_for=held_for if caption is not None else None,
        )

    def _defend(
        self,
        frame: Frame,
        canvas: Pixels,
        encoded: Encoded,
        timer: FrameTimer,
        degraded: list[str],
    ) -> _Defended:
        """Let the policy perturb ``canvas`` in place until it stops, its steps or the time end."""
        if self._policy is None:
            nothing = np.zeros(len(self._table), np.float32)
            return _Defended(encoded, Decision((), nothing, 0.0, 0), ())
        taken: list[int] = []
        applied: list[AppliedAction] = []
        rng = np.random.default_rng(frame.index)
        values = first_values = self._values(encoded, taken, timer)
        passes = 1
        kept: Encoded | None = encoded
        while len(taken) < self._max_steps:
            action = choose(values, taken)
            if action == self._table.stop_index:
                break
            # A first step may cost the caption its end; a further one may not.
            decode = "decode" if taken else _LEAST_DECODE
            if not timer.affords("perturb", "encode", decode):
                degraded.append("policy_steps" if taken else "caption")
                kept = kept if taken else None
                break
            with timer.stage("perturb"):
                box = apply_action(canvas, self._table, action, rng)
            with timer.stage("encode"):
                kept = self._captioner.encode(canvas)
            taken.append(action)
            applied.append(self._describe(action, box, frame))
            if len(taken) < self._max_steps:
                values = self._values(kept, taken, timer)
                passes += 1
        level = suspicion(first_values, self._table.stop_index, self._temperature)
        decision = Decision(tuple(taken), first_values, level, passes)
        return _Defended(kept, decision, tuple(applied))

    def _values(self, encoded: Encoded, taken: list[int], timer: FrameTimer) -> NDArray[np.float32]:
        assert self._policy is not None
        with timer.stage("policy"):
            coverage = self._table.coverage(taken)
            return self._policy.q_values(Observation(encoded.features[0], coverage))

    def _describe(self, action: int, box: Box | None, frame: Frame) -> AppliedAction:
        """The action as it would look on the frame itself, whose size is not the canvas's."""
        assert box is not None
        perturbation = self._table[action].perturbation
        assert perturbation is not None
        height, width = frame.pixels.shape[:2]
        across = width / self._preprocessing.width
        down = height / self._preprocessing.height
        return AppliedAction(perturbation.op, box.scaled(across, down), perturbation.strength)

    def _generate(
        self, encoded: Encoded | None, timer: FrameTimer, degraded: list[str]
    ) -> Generated | None:
        """The caption, cut at a whole word where time runs out; None if there is none to trust."""
        if encoded is None:
            return None
        start = timer.clock()
        with timer.stage("decode"):
            generated = self._captioner.generate(
                encoded, deadline_s=timer.deadline_s, clock=timer.clock
            )
        if generated.finished:
            token_ms = (timer.clock() - start) * 1e3 / (len(generated.tokens) + 1)
            self._costs.learn(_LEAST_DECODE, _LEAST_TOKENS * token_ms)
            return generated
        degraded.append("caption_length" if generated.text else "caption")
        return generated if generated.text else None

    def _warm_up(self) -> None:
        """Run every stage a few times, so that the first frame finds its costs learned."""
        grey = np.full((self._preprocessing.height, self._preprocessing.width, 3), 127, np.uint8)
        unbounded = LatencyBudget()
        for _ in range(_WARM_UP_FRAMES):
            timer = FrameTimer(unbounded, self._costs, self._clock)
            with timer.stage("preprocess"):
                canvas = to_canvas(grey, self._preprocessing)
            with timer.stage("encode"):
                encoded = self._captioner.encode(canvas)
            self._defend(Frame(grey), canvas, encoded, timer, [])
            self._generate(encoded, timer, [])
