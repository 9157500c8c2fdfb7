"""The controls: chance is even and seeded, the untrained network what training begins with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srd_edge.evaluation.controls import RandomPolicy, TorchPolicy, untrained_policy
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.runtime.bundle_specs import (
    CaptionerSpec,
    GenerationDefaults,
    ObservationSpec,
    PolicySpec,
)
from srd_edge.runtime.manifest import Manifest
from srd_edge.runtime.records import Observation
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig

MANIFEST = Manifest(
    captioner=CaptionerSpec(
        "vision-encoder-decoder",
        "cross-attention",
        {"encoder": "encoder_model.onnx", "decoder": "decoder_model.onnx"},
        layers=1,
        heads=1,
        head_dim=4,
    ),
    preprocessing=Preprocessing(8, 6, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)),
    generation=GenerationDefaults(1, 2, 0, 8),
    actions=DEFAULT_TABLE,
    observation=ObservationSpec(rows=2, columns=3, channels=4),
    policy=PolicySpec("policy.onnx", "", max_steps=2, temperature=1.0),
    precision="fp32",
    opset=18,
)


@pytest.fixture
def observation() -> Observation:
    rng = np.random.default_rng(0)
    return Observation(
        rng.standard_normal((6, 4), dtype=np.float32), rng.random((5, 5), dtype=np.float32)
    )


def test_chance_is_even_and_seeded(observation: Observation) -> None:
    policies = [RandomPolicy(9, seed=seed) for seed in (1, 1, 2)]
    choices = [[int(p.q_values(observation).argmax()) for _ in range(900)] for p in policies]
    assert choices[0] == choices[1] != choices[2]
    counts = np.bincount(choices[0], minlength=9)
    assert counts.shape == (9,)
    assert counts.min() > 60


def test_the_untrained_network_is_what_training_begins_with(observation: Observation) -> None:
    policy = untrained_policy(MANIFEST, seed=4)
    torch.manual_seed(4)
    network = QNetwork(QNetworkConfig(2, 3, 4), DEFAULT_TABLE).eval()
    expected = TorchPolicy(network).q_values(observation)
    assert expected.shape == (len(DEFAULT_TABLE),)
    assert expected.dtype == np.float32
    assert (policy.q_values(observation) == expected).all()
    assert (untrained_policy(MANIFEST, seed=5).q_values(observation) != expected).any()
    assert expected[DEFAULT_TABLE.stop_index or 0] == 0
