"""Graphs of a bundle, open on a device: values go in, values come out and stay where they are.

A *value* is an ``onnxruntime.OrtValue`` or anything else with ``numpy()``, ``shape()`` and
``update_inplace()``. What one graph gives another is given as it is, so that on a GPU nothing but
token ids, logits and features crosses to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.bundle_profiles import graph_file
from srd_edge.runtime.machine import usable_cores
from srd_edge.runtime.sessions import DTYPES, Provider, Session, open_session
from srd_edge.runtime.tensorrt_provider import options_for, warm_up

_GPU: Final = "cuda"
RECORDING_KEY: Final = "gpu_graph_id"
"""Of a run's options: which recording is made or played."""
_NONE: Final = -1
_SMALL_BYTES: Final = 2**22
"""Of all of a bundle's files, weights beside graphs too. In graphs this small, waking a second
thread costs more than it computes (benchmarks/threads.py; docs/log.md, 2026-11-30)."""


def threads_of(bundle: Bundle) -> int:
    """Within an operator of the captioner's graphs."""
    small = sum(entry.bytes for entry in bundle.manifest.files) < _SMALL_BYTES
    return 1 if small else usable_cores()


class Value(Protocol):
    """A tensor on some device."""

    def numpy(self) -> NDArray[Any]:
        """On the host; a value that lies there may show itself, for as long as it is there."""
        ...

    def shape(self) -> Sequence[int]: ...

    def update_inplace(self, data: Any) -> None:
        """Overwrite it with an array, or a value, of its own shape and type."""
        ...


class Graph(Protocol):
    """An open graph.

    Attributes:
        provider: the one that took it: cpu, cuda or tensorrt.
        fallback: as in ``Session``.
        types: dtype of each input.
        widths: of each output, the length of its last axis; 0 where that varies.
    """

    provider: str
    fallback: str | None
    types: Mapping[str, DTypeLike]
    widths: Mapping[str, int]

    def run(self, outputs: Sequence[str], feed: Mapping[str, Value]) -> list[Value]:
        """Values that nothing else writes to."""
        ...

    def room(self, shape: Sequence[int], dtype: DTypeLike) -> Value:
        """Zeros where the graph runs."""
        ...

    def bring(self, value: Value) -> Value:
        """A value that another graph gave, where this one can read it; copied only if it must."""
        ...

    def bind(
        self, feed: Mapping[str, Value], into: Mapping[str, Value], *, again: bool
    ) -> Callable[[], None]:
        """A call from and into values that stay where they are; it can be made many times.

        Args:
            feed: all inputs, as ``room`` made them.
            into: outputs.
            again: whether it will be, so that a GPU had better record it.
        """
        ...


class OnnxGraph:
    """A graph that onnxruntime runs."""

    def __init__(self, session: Session) -> None:
        self.provider, self.fallback = session.provider, session.fallback
        self._session, self._records = session.session, session.records
        self._place = "cpu" if session.provider == "cpu" else _GPU
        self._recorded = 0
        self.types: Mapping[str, DTypeLike] = {
            value.name: DTYPES[value.type] for value in self._session.get_inputs()
        }
        self.widths: Mapping[str, int] = {
            value.name: value.shape[-1] if value.shape and isinstance(value.shape[-1], int) else 0
            for value in self._session.get_outputs()
        }

    def run(self, outputs: Sequence[str], feed: Mapping[str, Value]) -> list[Any]:
        # On the CPU too: `run_with_ort_values` does the same and takes longer.
        binding = self._bound(feed)
        for name in outputs:
            binding.bind_output(name, self._place)
        self._session.run_with_iobinding(binding, self._options(_NONE))
        return list(binding.get_outputs())

    def room(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype), self._place, 0)

    def bring(self, value: Value) -> Any:
        from onnxruntime import OrtValue

        if isinstance(value, OrtValue):
            return value
        return OrtValue.ortvalue_from_numpy(value.numpy(), self._place, 0)

    def bind(
        self, feed: Mapping[str, Value], into: Mapping[str, Value], *, again: bool
    ) -> Callable[[], None]:
        binding = self._bound(feed)
        for name, value in into.items():
            binding.bind_ortvalue_output(name, value)
        self._recorded += again
        options = self._options(self._recorded if again else _NONE)
        return partial(self._session.run_with_iobinding, binding, options)

    def _bound(self, feed: Mapping[str, Value]) -> Any:
        binding = self._session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, value)
        return binding

    def _options(self, recording: int) -> Any:
        """With the number of the recording that is made or played; by default there is one."""
        if not self._records:
            return None
        from onnxruntime import RunOptions

        options = RunOptions()
        options.add_run_config_entry(RECORDING_KEY, str(recording))
        return options


def open_graph(
    bundle: Bundle,
    role: str,
    provider: Provider,
    *,
    strict: bool,
    threads: int | None = None,
    views: int = 1,
    record: bool = False,
) -> Graph:
    """Open one graph of a bundle, and run it at all shapes that TensorRT has to know beforehand.

    Where onnxruntime has no TensorRT that loads and TensorRT itself is there, that is asked.

    Args:
        bundle: a verified bundle.
        role: a component of the captioner, "policy" or "language".
        provider, strict, record: as in ``open_session``.
        threads: within one operator; None for one in a bundle of less than 4 MiB, and otherwise
            for all cores that may be used.
        views: of a picture that are captioned as one, at most.
    """
    told = partial(options_for, bundle, role, views=views)
    threads = threads or threads_of(bundle)
    opened = open_session(
        bundle.path(graph_file(bundle.manifest, role)),
        provider,
        strict=strict,
        threads=threads,
        tensorrt=told,
        record=record,
        native=partial(_native, bundle, role, views=views),
    )
    if opened.native:
        graph: Graph = opened.session
        return graph
    warm_up(opened, bundle, role, views=views)
    return OnnxGraph(opened)


def _native(bundle: Bundle, role: str, *, views: int) -> Graph | None:
    # That module is made of this one's parts.
    from srd_edge.runtime.native_graphs import open_native_if_there

    return open_native_if_there(bundle, role, views=views)


def host_value(array: NDArray[Any]) -> Value:
    """The array as a value on the host."""
    from onnxruntime import OrtValue

    value: Value = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    return value
