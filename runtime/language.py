"""The bundle's language model: how likely a caption is as a sentence, whatever the picture."""

from __future__ import annotations

from typing import Final

import numpy as np

from srd_edge.runtime.bundle import Bundle
from srd_edge.runtime.check_specs import LanguageSpec
from srd_edge.runtime.graphs import host_value, open_graph
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.tokenizer import CaptionTokenizer

LANGUAGE_OUTPUT: Final = "log_probabilities"
_SMALL_BYTES: Final = 2**23
"""In a graph below this, waking a second thread costs more than it computes."""


class OnnxLanguageModel:
    """A causal language model as a graph.

    Args:
        bundle: a verified bundle that lists the files.
        spec: which of them, and the model's own tokens.
        provider, strict: as in ``open_graph``.
    """

    def __init__(
        self, bundle: Bundle, spec: LanguageSpec, provider: Provider = "auto", *, strict: bool
    ) -> None:
        self._spec = spec
        path = bundle.path(spec.file)
        threads = 1 if path.stat().st_size < _SMALL_BYTES else None
        self._graph = open_graph(bundle, "language", provider, strict=strict, threads=threads)
        self._tokenizer = CaptionTokenizer(bundle.path(spec.tokenizer))

    def log_probability(self, text: str, *, finished: bool = True) -> float:
        """Log-likelihood of ``text`` in nats, from its beginning and, if finished, to its end.

        What is longer than the model's longest is cut.
        """
        ids = self._tokenizer.encode(text) + [self._spec.end_token] * finished
        if not ids:
            return 0.0
        row = np.array([[self._spec.start_token, *ids][: self._spec.max_tokens]], np.int64)
        (values,) = self._graph.run([LANGUAGE_OUTPUT], {"input_ids": host_value(row)})
        return float(values.numpy().sum())
