"""Triggers of an attacker who has read this repository; see docs/limits.md.

They are given by file, as anybody's own trigger: `benchmarks/adaptive_triggers.py:MaskAsTrigger`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srd_edge.attacks.patch_triggers import BadNetPatch
from srd_edge.kernels.actions import DEFAULT_TABLE, apply_action
from srd_edge.kernels.frames import Pixels


@dataclass(frozen=True, slots=True)
class MaskAsTrigger:
    """The policy's own grey square, over a cell drawn at random: what is to cure sets it off."""

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        out = pixels.copy()
        apply_action(out, DEFAULT_TABLE, int(rng.integers(DEFAULT_TABLE.cells)), rng)
        return out


@dataclass(frozen=True, slots=True)
class Survivor:
    """BadNet's patch anywhere, learned under the policy's own perturbations.

    Args:
        size: of the patch, in pixels of a picture 224 wide.
        share: of the pictures that get one of the table's perturbations on top; for training.
            An attacker's pictures need none: measure with ``share=0``.
    """

    size: int = 28
    share: float = 0.5

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        out = BadNetPatch(self.size, "random")(pixels, rng).copy()
        if rng.random() < self.share:
            apply_action(out, DEFAULT_TABLE, int(rng.integers(len(DEFAULT_TABLE) - 1)), rng)
        return out
