"""Prefix decoders that others exported: what onnx-community calls ``decoder_model_merged``.

They take embeddings as our own do, and besides a mask of ones, positions, how many of the last
logits are wanted or a choice of branch: whatever of these is among a graph's own inputs is given.
Where all logits come back, those that were not asked for are left out here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import USE_CACHE_BRANCH
from srd_edge.runtime.decoders import PrefixDecoder, State
from srd_edge.runtime.graphs import Value, host_value
from srd_edge.runtime.sessions import Provider

EMBEDDINGS: Final = "inputs_embeds"
LOGITS_WANTED: Final = "num_logits_to_keep"
MADE: Final = frozenset({"attention_mask", "position_ids", LOGITS_WANTED})
"""Inputs that tell no more than the lengths of the others."""


class MergedPrefixDecoder(PrefixDecoder):
    """Reads embeddings with a graph of which only the names of its inputs are known.

    Args:
        bundle: a verified bundle of the kind merged-prefix.
        provider, strict, views: as in ``open_graph``.
    """

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> None:
        super().__init__(bundle, provider, strict=strict, views=views)
        self._wanted = self.graph.types[EMBEDDINGS]
        self._converts = False
        self._converts = self._embed(np.zeros((1, 1), np.int64), 0).numpy().dtype != self._wanted

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        # Several tokens after a past may look at one another both ways, as those of a prefix may.
        steps = []
        for column in np.split(ids, ids.shape[1], axis=1):
            logits, state = super().advance(state, column)
            steps.append(logits)
        return (steps[0] if len(steps) == 1 else np.concatenate(steps, axis=1)), state

    def _read(
        self, state: State, embeddings: Value, positions: NDArray[np.int64], answers: int
    ) -> tuple[NDArray[np.float32], State]:
        count = positions.shape[1]
        # Positions are turned by, so that it is all one whether a model counts from 0 or from 1.
        each = positions[:, None] if self._spec.positions == "grid" else positions[0]
        shape = (*each.shape[:-2], state.rows, count)
        made: dict[str, NDArray[Any]] = {
            "attention_mask": np.ones((state.rows, state.read + count), np.int64),
            "position_ids": np.broadcast_to(each, shape),
            LOGITS_WANTED: np.array(answers),
            USE_CACHE_BRANCH: np.array([state.read > 0]),
        }
        types = self.graph.types
        feed = {n: host_value(value.astype(types[n])) for n, value in made.items() if n in types}
        logits, after = self._run(state, feed | {EMBEDDINGS: embeddings}, count, answers)
        return logits[:, -answers:], after

    def _embed(self, ids: NDArray[np.int64], said: int) -> Value:
        embedded = super()._embed(ids, said)
        return host_value(embedded.numpy().astype(self._wanted)) if self._converts else embedded
