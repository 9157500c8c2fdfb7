"""The defence of one frame: the policy perturbs the canvas until it stops, or the time is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import apply_action
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.budget import FrameTimer, StageCosts
from srd_edge.runtime.bundle_specs import PolicySpec
from srd_edge.runtime.captioning import CrossAttentionCaptioner, Encoded
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.policy import Policy, choose, suspicion
from srd_edge.runtime.records import AppliedAction, Decision, Observation

LEAST_DECODE: Final = "decode_least"
"""The stage that makes the shortest caption worth having."""


@dataclass(frozen=True, slots=True)
class Defended:
    """A frame after the policy was done with it.

    Args:
        encoded: the canvas as it is to be captioned; None where time ran out.
        decision: what the policy chose; None where nobody asked it.
        actions: what was laid over the frame.
    """

    encoded: Encoded | None
    decision: Decision | None
    actions: tuple[AppliedAction, ...]


class Defence:
    """Observes, decides and perturbs.

    Args:
        manifest, spec: of the bundle and of its policy.
        policy: values actions.
        captioner: encodes what was perturbed.
        costs: what stages cost, shared with the defender.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: PolicySpec,
        policy: Policy,
        captioner: CrossAttentionCaptioner,
        costs: StageCosts,
    ) -> None:
        self._table = manifest.actions
        self._preprocessing = manifest.preprocessing
        self._max_steps, self._temperature = spec.max_steps, spec.temperature
        self._policy, self._captioner, self._costs = policy, captioner, costs

    def apply(
        self,
        frame: Frame,
        canvas: Pixels,
        encoded: Encoded,
        timer: FrameTimer,
        degraded: list[str],
    ) -> Defended:
        """Let the policy perturb ``canvas`` in place until it stops, its steps or the time end.

        Args:
            frame: where the canvas came from; its index seeds the noise.
            canvas: (height, width, 3) uint8 RGB at the captioner's size, changed in place.
            encoded: the canvas as it is.
            timer: of the frame.
            degraded: what is given up is added to it.
        """
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
            decode = "decode" if taken else LEAST_DECODE
            if not timer.affords("perturb", "encode", decode):
                if taken:
                    degraded.append("policy_steps")
                    break
                degraded.append("caption")
                kept = None
                # These ran in no stage of this frame; a first encoding did, and was learned.
                self._costs.doubt("perturb", decode)
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
        return Defended(kept, decision, tuple(applied))

    def rehearse(self, canvas: Pixels, encoded: Encoded, timer: FrameTimer) -> None:
        """Value the actions, and lay every perturbation over a copy of ``canvas`` once.

        A regional one over the middle cell only: a hundred actions take 0.1 s at 224 pixels.
        """
        table = self._table
        regional = len(table.regional) * table.cells
        actions = [
            *range(table.cells // 2, regional, table.cells),
            *range(regional, regional + len(table.whole)),
        ]
        values = self._values(encoded, [], timer)
        if not actions or values.shape != (len(table),):
            raise BundleError(
                expected=f"a perturbation in the table, and Q-values for its {len(table)} actions",
                found=f"{len(actions)} perturbations and Q-values of shape {values.shape}",
                do="export the bundle again, with the policy that was trained for it",
            )
        rng = np.random.default_rng(0)
        for action in actions:
            painted = canvas.copy()
            with timer.stage("perturb"):
                apply_action(painted, table, action, rng)
        with timer.stage("encode"):
            self._captioner.encode(painted)

    def _values(self, encoded: Encoded, taken: list[int], timer: FrameTimer) -> NDArray[np.float32]:
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
