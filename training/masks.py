"""The policy's perturbations of pictures at rest: the same greedy choice as on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.samples import Sample
from srd_edge.errors import UsageError
from srd_edge.kernels.actions import ActionTable, apply_action
from srd_edge.kernels.frames import Pixels
from srd_edge.training.checkpoints import PolicyCheckpoint


def greedy_actions(
    policy: PolicyCheckpoint,
    suspect: Captioner,
    canvases: NDArray[np.uint8],
    seeds: Sequence[Sequence[int]],
) -> list[tuple[int, ...]]:
    """What the policy lays over each picture until it stops; nothing where it stops at once.

    Args:
        policy: trained on the suspect, or to fit it.
        suspect: whose encoder's features the policy looks at.
        canvases: (B, H, W, 3) uint8 RGB of the suspect's size.
        seeds: of each picture's random operators.

    Raises:
        UsageError: when the policy was made for another encoder.
    """
    table, network = policy.network.table, policy.network
    taken: list[list[int]] = [[] for _ in canvases]
    states = canvases.copy()
    generators = [np.random.default_rng(list(seed)) for seed in seeds]
    going = list(range(len(canvases)))
    for _ in range(policy.max_steps):
        if not going:
            break
        features = _features(policy, suspect, states[going])
        coverage = torch.from_numpy(np.stack([table.coverage(taken[i]) for i in going]))
        with torch.no_grad():
            values = network(features, coverage)
        for row, i in enumerate(going):
            values[row, taken[i]] = -torch.inf  # as runtime.policy.choose
        chosen = values.argmax(dim=1).tolist()
        stopped = {i for i, action in zip(going, chosen, strict=True) if action == table.stop_index}
        for i, action in zip(going, chosen, strict=True):
            if i not in stopped:
                apply_action(states[i], table, action, generators[i])
                taken[i].append(action)
        going = [i for i in going if i not in stopped]
    return [tuple(actions) for actions in taken]


def masked(
    sample: Sample,
    captioner: Captioner,
    table: ActionTable,
    actions: Sequence[int],
    seed: Sequence[int],
) -> Sample:
    """``sample`` as the captioner's canvas with the actions laid over it; captions as they were."""

    def load() -> Pixels:
        canvas: Pixels = captioner.canvases([sample.load()])[0]
        rng = np.random.default_rng(list(seed))
        for action in actions:
            apply_action(canvas, table, action, rng)
        return canvas

    return replace(sample, load=load)


@torch.no_grad()
def _features(
    policy: PolicyCheckpoint, suspect: Captioner, canvases: NDArray[np.uint8]
) -> torch.Tensor:
    """(B, N, C) float32."""
    values = suspect.pixel_values(canvases).to(memory_format=torch.channels_last)
    features: torch.Tensor = suspect.model.encoder(values).last_hidden_state
    made_for = policy.network.config
    wanted = made_for.rows * made_for.columns, made_for.channels
    if tuple(features.shape[1:]) != wanted:
        raise UsageError(
            expected=f"a captioner with {wanted[0]} features of {wanted[1]} channels",
            found=f"{features.shape[1]} of {features.shape[2]}",
            do="give the policy that was trained for this captioner",
        )
    return features
