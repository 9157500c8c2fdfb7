"""The Q-network as a graph.

encoder_hidden_states (B, N, C) and coverage (B, rows, columns) -> q_values (B, A).
"""

from __future__ import annotations

import torch

from srd_edge.export.component import Component
from srd_edge.training.qnetwork import QNetwork


def policy_component(network: QNetwork) -> Component:
    """``network``, ready to be exported."""
    config, table = network.config, network.table
    return Component(
        "policy",
        network.eval(),
        {
            "encoder_hidden_states": torch.randn(2, config.rows * config.columns, config.channels),
            "coverage": torch.rand(2, table.rows, table.columns),
        },
        ("q_values",),
        {"encoder_hidden_states": {0: "batch"}, "coverage": {0: "batch"}},
    )
