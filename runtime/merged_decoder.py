"""Decoders that read ``encoder_hidden_states``: the graphs that optimum and transformers.js make.

*merged*: one graph with an `If` between two branches, one for the first call and one for all
others, chosen by ``use_cache_branch``. *with-past*: a graph for each. Cross-attention keys and
values, where a graph has any, come out of the first call and are kept from it: what later calls
give in their place is a dummy. Everything else is read off the graphs' own inputs and outputs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_specs import USE_CACHE_BRANCH
from srd_edge.runtime.decoders import Encoded, State, reordered, repeated
from srd_edge.runtime.graphs import Graph, host_value, open_graph
from srd_edge.runtime.resident_cache import LOGITS
from srd_edge.runtime.sessions import Provider

HIDDEN_STATES: Final = "encoder_hidden_states"
PICTURE_MASK: Final = "encoder_attention_mask"
PAST: Final = re.compile(r"past_key_values\.\d+\.(?P<part>encoder\.|decoder\.|)(key|value)")
COUNTED: Final = frozenset({"attention_mask", PICTURE_MASK, "position_ids", "cache_position"})
"""Inputs that tell no more than the lengths of the others: masks of ones, and positions."""
KNOWN_INPUTS: Final = COUNTED | {"input_ids", HIDDEN_STATES, USE_CACHE_BRANCH}
"""What such a decoder may take besides its past."""


def present(past: str) -> str:
    """The output that becomes the input ``past`` of the next call."""
    return past.replace("past_key_values", "present", 1)


class MergedDecoder:
    """Reads token ids beside a picture's hidden states, with one graph or with two.

    Args:
        bundle: a verified bundle of the kind merged or with-past.
        provider, strict, views: as in ``open_graph``.
    """

    def __init__(self, bundle: Bundle, provider: Provider, *, strict: bool, views: int = 1) -> None:
        spec = bundle.manifest.captioner
        self.prompt = bundle.manifest.generation.prompt
        self.graph = open_graph(bundle, "decoder", provider, strict=strict, views=views)
        self._first = self._later = _Takes(self.graph)
        if spec.decoding == "with-past":
            later = open_graph(bundle, "decoder_with_past", provider, strict=strict, views=views)
            self._later = _Takes(later)
        self._heads, self._head_dim = spec.heads, spec.head_dim

    def start(self, encoded: Encoded) -> State:
        (hidden,) = encoded.memory
        seen = host_value(np.ones(hidden.shape()[:2], np.int64))
        constant = {HIDDEN_STATES: hidden, PICTURE_MASK: seen}
        return State(encoded.rows, (), constant=constant)

    def advance(self, state: State, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        if not state.said:
            return self._call(self._first, state, ids)
        # A graph with a past may be fixed to one token a call.
        steps = []
        for column in np.split(ids, ids.shape[1], axis=1):
            logits, state = self._call(self._later, state, column)
            steps.append(logits)
        return (steps[0] if len(steps) == 1 else np.concatenate(steps, axis=1)), state

    def repeat(self, state: State, times: int) -> State:
        return repeated(state, times)

    def reorder(self, state: State, rows: NDArray[np.int64]) -> State:
        return reordered(state, rows)

    def _call(
        self, takes: _Takes, state: State, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], State]:
        first, count = not state.said, ids.shape[1]
        feed = {name: value for name, value in state.constant.items() if name in takes.types}
        made = self._made(state, ids)
        if first:
            nothing = np.empty((state.rows, self._heads, 0, self._head_dim), np.float32)
            made |= dict.fromkeys((*takes.own, *takes.cross), nothing)
        else:
            feed.update(zip(self._later.own, state.past, strict=True))
        feed |= {
            name: host_value(value.astype(takes.types[name], copy=False))
            for name, value in made.items()
            if name in takes.types
        }
        kept = (*self._later.own, *(self._later.cross if first else ()))
        logits, *given = takes.graph.run([LOGITS, *map(present, kept)], feed)
        own = len(self._later.own)
        cross = dict(zip(kept[own:], given[own:], strict=True))
        return np.asarray(logits.numpy(), np.float32), replace(
            state,
            past=tuple(given[:own]),
            said=state.said + count,
            constant={**state.constant, **cross},
        )

    def _made(self, state: State, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """What any graph may take besides the picture and the past."""
        rows, count = ids.shape
        positions = np.arange(state.said, state.said + count)
        return {
            "input_ids": ids,
            "attention_mask": np.ones((rows, state.said + count), np.int64),
            "position_ids": np.tile(positions, (rows, 1)),
            "cache_position": positions,
            USE_CACHE_BRANCH: np.array([state.said > 0]),
        }


class _Takes:
    """What a graph takes, by the names that it has.

    ``own`` and ``cross`` are its inputs for the keys and values of self- and cross-attention.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.types = graph, graph.types
        parts = {name: match["part"] for name in self.types if (match := PAST.fullmatch(name))}
        self.own = tuple(name for name, part in parts.items() if part != "encoder.")
        self.cross = tuple(name for name, part in parts.items() if part == "encoder.")
