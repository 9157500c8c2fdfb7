"""PyTorch's own `generate` as a contestant of ``srd-edge bench``."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from srd_edge.export.parity import transformers_batch
from srd_edge.export.source import open_source
from srd_edge.kernels.frames import Frame
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.bundle import read_bundle
from srd_edge.runtime.graphs import threads_of
from srd_edge.runtime.records import Result


class EagerCaptioner:
    """A captioner in PyTorch, eager and in fp32, undefended.

    Args:
        name: its directory or hub name.
        bundle: whose beams and longest caption it keeps to; None for the built-in one.

    Raises:
        UsageError: there is no such captioner.
        BundleError: the bundle is refused.
    """

    def __init__(self, name: str, bundle: Path | None) -> None:
        opened = read_bundle(bundle)
        self._generation = opened.manifest.generation
        self._source = open_source(
            name,
            beams=self._generation.beams,
            max_new_tokens=self._generation.max_new_tokens,
        )
        torch.set_num_threads(threads_of(opened))

    def caption(self, frame: Frame) -> Result:
        """Caption one frame."""
        start = time.perf_counter()
        captioner = self._source.captioner
        canvas = to_canvas(frame.pixels, captioner.preprocessing)
        tokens = transformers_batch(self._source, self._generation, [canvas])
        (text,) = captioner.decode(tokens)
        return Result(
            frame=frame.index,
            time_s=frame.time_s,
            caption=text,
            verdict="undefended",
            suspicion=None,
            total_ms=(time.perf_counter() - start) * 1e3,
        )
