"""Greedy decoding and beam search over any decoder, in numpy.

Both give, token for token, what transformers' ``generate`` gives. Several *views* of one picture
are captioned as one, by the geometric mean of what they make likely. Rows of a decoder's state are
ordered picture by picture (or beam by beam), the views of each side by side.

Source of the beam search: transformers' ``GenerationMixin._beam_search``; the finished captions'
scores are sums of log-probabilities over length to the power of ``length_penalty``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.decoders import Decoder, State
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.token_rules import TokenRules

_LOWEST: Final = np.float32(-1e9)
"""Stands for the score of what does not count, as in transformers."""


@dataclass(slots=True)
class Line:
    """The tokens of one caption, and their log-probabilities under the captioner in nats.

    ``log_probabilities`` has one more where the end token was said, which is not among ``tokens``.
    """

    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """How captions are searched for.

    Args:
        decoder: makes logits.
        settings: of the bundle.
        views: rows of the state that belong to one picture.
        expired: whether time is up; asked before every call of the decoder.
    """

    decoder: Decoder
    settings: GenerationDefaults
    views: int
    expired: Callable[[], bool]

    def greedy(self, state: State) -> list[Line]:
        """The likeliest token each time; a line for each picture of the state."""
        rules = TokenRules(self.settings, self.decoder.prompt)
        lines = [Line() for _ in range(state.rows // self.views)]
        running = np.ones(len(lines), np.bool_)
        pending = self._prompt(state)
        in_time = True
        for _ in range(self.settings.max_new_tokens):
            in_time = not self.expired()
            if not in_time:
                break
            last, state = self._next(state, pending)
            chosen = np.argmax(rules(last, [line.tokens for line in lines]), axis=1)
            likely = log_softmax(last)[np.arange(len(lines)), chosen]
            for row in np.flatnonzero(running):
                lines[row].log_probabilities.append(float(likely[row]))
                running[row] = chosen[row] not in self.settings.end_tokens
            # Rows that have ended go on unheard, so that all are of one length.
            for line, token in zip(lines, chosen, strict=True):
                line.tokens.append(int(token))
            if not running.any():
                break
            pending = np.repeat(chosen.astype(np.int64)[:, None], self.views, axis=0)
        for line in lines:
            ended = next(
                (at for at, token in enumerate(line.tokens) if token in self.settings.end_tokens),
                None,
            )
            if ended is not None:
                del line.tokens[ended:]
            line.finished = in_time or ended is not None
        return lines

    def beams(self, state: State) -> Line:
        """The best of several lines that are followed side by side; for one picture."""
        settings = self.settings
        rules = TokenRules(settings, self.decoder.prompt)
        state = self.decoder.repeat(state, settings.beams)
        front = _Beams(settings)
        pending = self._prompt(state)
        while not front.over:
            if self.expired():
                return front.best(time_is_up=True)
            last, state = self._next(state, pending)
            likely = log_softmax(last)
            parents, tokens = front.advance(rules(likely, front.running_tokens), likely)
            if front.over:
                break
            rows = (parents[:, None] * self.views + np.arange(self.views)).ravel()
            state = self.decoder.reorder(state, rows)
            pending = np.repeat(tokens[:, None], self.views, axis=0)
        return front.best()

    def _prompt(self, state: State) -> NDArray[np.int64]:
        return np.tile(np.array([self.settings.prompt], np.int64), (state.rows, 1))

    def _next(self, state: State, pending: NDArray[np.int64]) -> tuple[NDArray[np.float32], State]:
        """(P, V) logits after ``pending`` (P * views, S), the mean over views of each picture."""
        if pending.shape[1]:
            logits, state = self.decoder.advance(state, pending)
            last = logits[:, -1]
        else:
            assert state.logits is not None, "a decoder without a prompt has been given a prefix"
            last = state.logits
        if self.views > 1:
            last = last.reshape(-1, self.views, last.shape[1]).mean(axis=1)
        return last, state


class _Beams:
    """The lines of one beam search, running and finished, best first."""

    def __init__(self, settings: GenerationDefaults) -> None:
        self._settings = settings
        count = settings.beams
        self._running = [Line() for _ in range(count)]
        self._running_scores = np.array([0, *[_LOWEST] * (count - 1)], np.float32)
        self._finished: list[tuple[np.float32, bool, Line]] = [(_LOWEST, False, Line())] * count
        self._length = 0
        self._may_improve = True
        self.over = False

    @property
    def running_tokens(self) -> list[list[int]]:
        return [line.tokens for line in self._running]

    def advance(
        self, scores: NDArray[np.float32], likely: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One token more.

        Args:
            scores: (beams, V) log-probabilities with the rules applied, which lines are ranked by.
            likely: (beams, V) log-probabilities as the captioner gave them, which are kept.

        Returns:
            (beams,) which line each of the running lines goes on from, and (beams,) its last token.
        """
        settings, count = self._settings, self._settings.beams
        total = (scores + self._running_scores[:, None]).ravel()
        kept = max(2, 1 + len(settings.end_tokens)) * count
        best = _highest(total, kept)
        parents, tokens = np.divmod(best, scores.shape[1])
        self._length += 1
        stops = np.isin(tokens, settings.end_tokens) | (self._length == settings.max_new_tokens)
        lines = [
            self._longer(parent, token, float(likely[parent, token]))
            for parent, token in zip(parents, tokens, strict=True)
        ]
        self._finish(lines, total[best], stops)
        open_scores = total[best] + stops * _LOWEST
        chosen = _highest(open_scores, count)
        self._running = [lines[place] for place in chosen]
        self._running_scores = open_scores[chosen]
        self._may_improve = self._may_improve and self._better_is_possible()
        full = all(done for _, done, _ in self._finished)
        first_is_enough = full and settings.early_stopping == "first"
        self.over = not self._may_improve or first_is_enough or bool(stops.all())
        return parents[chosen], tokens[chosen]

    def best(self, *, time_is_up: bool = False) -> Line:
        """The best finished line; where time is up and none is, the best running one."""
        _, done, line = self._finished[0]
        if time_is_up and not done:
            return self._running[0]
        ended = bool(line.tokens) and line.tokens[-1] in self._settings.end_tokens
        return Line(line.tokens[: len(line.tokens) - ended], line.log_probabilities, True)

    def _longer(self, parent: int, token: int, likely: float) -> Line:
        line = self._running[parent]
        return Line([*line.tokens, int(token)], [*line.log_probabilities, likely])

    def _finish(
        self, lines: list[Line], totals: NDArray[np.float32], stops: NDArray[np.bool_]
    ) -> None:
        settings = self._settings
        candidates = totals / np.float32(self._length**settings.length_penalty)
        full = all(done for _, done, _ in self._finished)
        if (full and settings.early_stopping == "first") or not self._may_improve:
            candidates += _LOWEST
        # Those beyond the first so many are there only to go on with.
        counts = stops & (np.arange(len(lines)) < settings.beams)
        candidates += ~counts * _LOWEST
        merged = [
            *self._finished,
            *zip(candidates, (bool(one) for one in counts), lines, strict=True),
        ]
        order = _highest(np.array([score for score, _, _ in merged], np.float32), settings.beams)
        self._finished = [merged[place] for place in order]

    def _better_is_possible(self) -> bool:
        settings = self._settings
        optimistic = settings.early_stopping == "never" and settings.length_penalty > 0
        length = settings.max_new_tokens if optimistic else self._length
        hoped = self._running_scores[0] / np.float32(length**settings.length_penalty)
        worst = min(score for score, _, _ in self._finished)
        return any(hoped > (worst if done else _LOWEST) for _, done, _ in self._finished)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, V) logits -> (R, V) float32 log-probabilities in nats; NaN beside infinite logits."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _highest(values: NDArray[np.float32], count: int) -> NDArray[Any]:
    """Places of the ``count`` highest, in order; the first of equals first."""
    among = np.sort(np.argpartition(-values, count - 1)[:count])
    return among[np.argsort(-values[among], kind="stable")]
