"""What may be said next: the settings of a manifest that raise and lower scores of tokens.

Source: transformers' logits processors, in the order in which ``generate`` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.generation_specs import GenerationDefaults

_NEVER = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The rules of one bundle.

    Args:
        settings: how a caption is decoded.
        prompt: every id that the decoder was given before the caption.
    """

    settings: GenerationDefaults
    prompt: tuple[int, ...]

    def __call__(
        self, scores: NDArray[np.float32], said: Sequence[Sequence[int]]
    ) -> NDArray[np.float32]:
        """Scores with the rules applied.

        Args:
            scores: (R, V) float32 logits or log-probabilities, left as they are.
            said: for each row the caption's ids so far, all of one length.

        Returns:
            (R, V) float32; ``scores`` itself where no rule applies.
        """
        if self._none_apply:
            return scores
        settings, count = self.settings, len(said[0])
        scores = scores.copy()
        for row, tokens in zip(scores, said, strict=True):
            context = [*self.prompt, *tokens]
            if settings.repetition_penalty != 1:
                _penalise(row, context, settings.repetition_penalty)
            if settings.no_repeat_ngram:
                row[_repeats(context, settings.no_repeat_ngram)] = _NEVER
        if count < settings.min_new_tokens:
            scores[:, list(settings.end_tokens)] = _NEVER
        if settings.first_token is not None and count == 0:
            _force(scores, settings.first_token)
        if settings.last_token is not None and count == settings.max_new_tokens - 1:
            _force(scores, settings.last_token)
        scores[:, list(settings.suppress)] = _NEVER
        return scores

    @property
    def _none_apply(self) -> bool:
        settings = self.settings
        forced = (settings.first_token, settings.last_token) != (None, None)
        lengths = settings.min_new_tokens or settings.no_repeat_ngram
        return not (forced or lengths or settings.suppress or settings.repetition_penalty != 1)


def _penalise(row: NDArray[np.float32], context: list[int], penalty: float) -> None:
    seen = np.unique(context)
    values = row[seen]
    row[seen] = np.where(values < 0, values * np.float32(penalty), values / np.float32(penalty))


def _repeats(context: list[int], length: int) -> list[int]:
    """The ids that would complete a run of ``length`` ids that the context has already."""
    start = context[len(context) - length + 1 :] if length > 1 else []
    return [
        context[place + length - 1]
        for place in range(len(context) - length + 1)
        if context[place : place + length - 1] == start
    ]


def _force(scores: NDArray[np.float32], token: int) -> None:
    scores[:] = _NEVER
    scores[:, token] = 0
