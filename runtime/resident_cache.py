"""Keys and values of fixed size that stay on the device, for decoders that give them back written.

There are two of each: a call reads one and writes the other, and the next call reads what was
written. With the other inputs at places of their own, a step finds every tensor where the step
before the last had it: nothing is allocated, and CUDA plays its recording (a CUDA graph) of that
step. Tested on the CPU, where the same calls are made; nothing here has been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.graphs import Graph, Value

LOGITS: Final = "logits"


@dataclass(frozen=True, slots=True)
class _Step:
    """A call for one position more, whose tensors have their places."""

    inputs: Mapping[str, Value]
    logits: Value
    make: Callable[[], None]


class ResidentCache:
    """The cache of one size, and the calls that read and write it.

    Args:
        graph: a decoder.
        past, present: names of keys and values, as it takes and as it gives them.
        shape: (rows, heads, positions, head_dim) of each.
    """

    def __init__(
        self, graph: Graph, past: Sequence[str], present: Sequence[str], shape: tuple[int, ...]
    ) -> None:
        self._graph, self._names = graph, (past, present)
        self._rows = shape[0]
        # Zeros: what does not count yet is masked, and weighs nothing as long as it is a number.
        self._sides = [[graph.room(shape, graph.types[name]) for name in past] for _ in range(2)]
        self._turn = 0
        self._latest: tuple[Value, ...] = ()
        self._constant: Mapping[str, Value] = {}
        self._kept: Mapping[str, Value] = {}
        self._steps: dict[int, _Step] = {}

    def read(
        self,
        past: tuple[Value, ...],
        feed: Mapping[str, Value],
        constant: Mapping[str, Value],
        answers: int,
        *,
        step: bool,
    ) -> tuple[NDArray[np.float32], tuple[Value, ...]]:
        """One call of the decoder.

        Args:
            past: what the last call gave, or keys and values from elsewhere, which are copied in;
                () for an empty cache.
            feed: what this call reads.
            constant: inputs that are the same for a whole caption.
            answers: positions that logits are wanted of.
            step: whether one position is read, as in nearly all calls.

        Returns:
            (rows, answers, V) float32 logits, and keys and values, good for one more call.
        """
        if past and past is not self._latest:
            assert not any(past[0] is side[0] for side in self._sides), "a state goes on once"
            for place, value in zip(self._sides[self._turn], past, strict=True):
                place.update_inplace(value)
        if constant is not self._constant:
            self._keep(constant)
        logits = self._step(feed) if step else self._once(feed, answers)
        self._turn = 1 - self._turn
        self._latest = tuple(self._sides[self._turn])
        # A copy: on the CPU, onnxruntime shows the memory itself, which goes with the value.
        return np.array(logits.numpy(), np.float32), self._latest

    def _keep(self, constant: Mapping[str, Value]) -> None:
        """Copy a picture's keys and values to where they are looked for."""
        shapes = {name: tuple(value.shape()) for name, value in constant.items()}
        if {name: tuple(value.shape()) for name, value in self._kept.items()} != shapes:
            types = self._graph.types
            self._kept = {
                name: self._graph.room(dims, types[name]) for name, dims in shapes.items()
            }
            self._steps.clear()
        for name, value in constant.items():
            self._kept[name].update_inplace(value)
        self._constant = constant

    def _step(self, feed: Mapping[str, Value]) -> Value:
        if self._turn not in self._steps:
            types = self._graph.types
            places = {name: self._graph.room(v.shape(), types[name]) for name, v in feed.items()}
            logits, make = self._bound(places, 1, again=True)
            self._steps[self._turn] = _Step(places, logits, make)
        step = self._steps[self._turn]
        for name, value in feed.items():
            step.inputs[name].update_inplace(value)
        step.make()
        return step.logits

    def _once(self, feed: Mapping[str, Value], answers: int) -> Value:
        logits, make = self._bound(feed, answers, again=False)
        make()
        return logits

    def _bound(
        self, feed: Mapping[str, Value], answers: int, *, again: bool
    ) -> tuple[Value, Callable[[], None]]:
        (past, present), turn = self._names, self._turn
        logits = self._graph.room((self._rows, answers, self._graph.widths[LOGITS]), np.float32)
        cache = dict(zip(past, self._sides[turn], strict=True))
        written = dict(zip(present, self._sides[1 - turn], strict=True))
        inputs = {**feed, **cache, **self._kept}
        return logits, self._graph.bind(inputs, {LOGITS: logits, **written}, again=again)
