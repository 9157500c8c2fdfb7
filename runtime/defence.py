"""The defence of one frame: the policy perturbs the canvas until it stops, or the time is up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import BundleError
from srd_edge.kernels.actions import apply_action
from srd_edge.kernels.frames import Box, Frame, Pixels
from srd_edge.runtime.budget import LEAST_DECODE, TOKEN, FrameTimer
from srd_edge.runtime.bundle_specs import PolicySpec
from srd_edge.runtime.captioning import OnnxCaptioner
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.policy import Policy, choose, suspicion
from srd_edge.runtime.records import AppliedAction, Decision, Observation


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
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: PolicySpec,
        policy: Policy,
        captioner: OnnxCaptioner,
    ) -> None:
        self.table, self.spec = manifest.actions, spec
        self.preprocessing = manifest.preprocessing
        self.policy, self.captioner = policy, captioner

    def begin(self, frame: Frame, canvas: Pixels, encoded: Encoded, timer: FrameTimer) -> Episode:
        """The episode of one frame.

        Args:
            frame: where the canvas came from; its index seeds the noise.
            canvas: (height, width, 3) uint8 RGB at the captioner's size, changed in place.
            encoded: the canvas as it is.
            timer: of the frame.
        """
        return Episode(self, frame, canvas, encoded, timer)

    def rehearse(self, canvas: Pixels, encoded: Encoded, timer: FrameTimer) -> None:
        """Value the actions, and lay every perturbation over a copy of ``canvas`` once.

        A regional one over the middle cell only: a hundred actions take 0.1 s at 224 pixels.
        """
        table = self.table
        regional = len(table.regional) * table.cells
        actions = [
            *range(table.cells // 2, regional, table.cells),
            *range(regional, regional + len(table.whole)),
        ]
        values = self.values(encoded, [], timer)
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
            self.captioner.encode(painted)

    def values(self, encoded: Encoded, taken: list[int], timer: FrameTimer) -> NDArray[np.float32]:
        """(A,) float32 Q-values, stop's raised by the margin."""
        with timer.stage("policy"):
            coverage = self.table.coverage(taken)
            values = self.policy.q_values(Observation(encoded.features[0], coverage))
        stop = self.table.stop_index
        if stop is not None and self.spec.margin and stop < len(values):
            values = values.copy()
            values[stop] += self.spec.margin
        return values


class Episode:
    """What the policy does to one frame; see ``Defence.begin``."""

    def __init__(
        self, by: Defence, frame: Frame, canvas: Pixels, encoded: Encoded, timer: FrameTimer
    ) -> None:
        self._by, self._frame, self._canvas, self._timer = by, frame, canvas, timer
        self._taken: list[int] = []
        self._applied: list[AppliedAction] = []
        self._encoded: Encoded | None = encoded
        self._values = self._first_values = by.values(encoded, [], timer)
        self._valued, self._passes = 0, 1
        self._suspicion = suspicion(self._values, by.table.stop_index, by.spec.temperature)

    @property
    def defended(self) -> Defended:
        """How the frame stands now."""
        taken = tuple(self._taken)
        decision = Decision(taken, self._first_values, self._suspicion, self._passes)
        return Defended(self._encoded, decision, tuple(self._applied))

    def follow(self, degraded: list[str]) -> None:
        """Do what the policy says until it stops, its steps or the time end.

        Args:
            degraded: what is given up is added to it.
        """
        while len(self._taken) < self._by.spec.max_steps:
            action = choose(self._current_values(), self._taken)
            if action == self._by.table.stop_index:
                return
            # A first step may cost the caption its end; a further one may not.
            decode = ("decode",) if self._taken else LEAST_DECODE
            if not self._timer.affords("perturb", "encode", *decode):
                if self._taken:
                    degraded.append("policy_steps")
                    return
                if not self._timer.run_over():
                    degraded.append("caption")
                    self._encoded = None
                    # These ran in no stage of this frame; a first encoding did, and was learned.
                    self._timer.costs.doubt("perturb", TOKEN)
                    return
            self._perturb(action)

    def insist(self) -> bool:
        """Take the best perturbation though the policy stopped; False where none is left.

        It is for when the caption was refused: then something is wrong, whatever the policy says.
        """
        stop = self._by.table.stop_index
        ruled_out = [*self._taken, *([] if stop is None else [stop])]
        if self._encoded is None or len(ruled_out) >= len(self._by.table):
            return False
        self._perturb(choose(self._current_values(), ruled_out))
        return True

    @cached_property
    def _rng(self) -> np.random.Generator:
        """Seeding it takes as long as a small convolution, and most frames need none."""
        return np.random.default_rng(self._frame.index)

    def _perturb(self, action: int) -> None:
        by = self._by
        with self._timer.stage("perturb"):
            box = apply_action(self._canvas, by.table, action, self._rng)
        with self._timer.stage("encode"):
            self._encoded = by.captioner.encode(self._canvas)
        self._taken.append(action)
        self._applied.append(self._describe(action, box))

    def _current_values(self) -> NDArray[np.float32]:
        """Of the canvas as it is now; the policy is asked only when somebody wants to know."""
        if self._valued < len(self._taken):
            assert self._encoded is not None
            self._values = self._by.values(self._encoded, self._taken, self._timer)
            self._valued = len(self._taken)
            self._passes += 1
        return self._values

    def _describe(self, action: int, box: Box | None) -> AppliedAction:
        """The action as it would look on the frame itself, whose size is not the canvas's."""
        assert box is not None
        perturbation = self._by.table[action].perturbation
        assert perturbation is not None
        height, width = self._frame.pixels.shape[:2]
        placed = self._by.preprocessing.on_picture(box, width, height)
        return AppliedAction(perturbation.op, placed, perturbation.strength)
