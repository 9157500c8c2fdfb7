"""What contestants cost in time: each picture by each contestant, alone and in turn.

Apart from the answers: times are never the same twice, and answers are given in batches. Every
contestant captions a picture before the next one is read, each goes first in turn, and the first
pictures are left out, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from srd_edge.evaluation.metrics import trimmed_mean
from srd_edge.evaluation.trials import Trial

SCHEMA: Final = 1
UNDEFENDED: Final = "none"
_WARM_UP_PICTURES: Final = 3


def measure_times(trial: Trial, pictures: int, advance: Callable[[], None]) -> dict[str, Any]:
    """Milliseconds a picture by contestant, and ratios to the undefended captioner.

    Args:
        trial: whose contestants are timed, on its first pictures.
        pictures: how many, after the warm-up.
        advance: called after each picture.
    """
    names = trial.names
    seed = trial.seeds[0]
    clean: dict[str, list[float]] = {name: [] for name in names}
    attacked: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-_WARM_UP_PICTURES, pictures):
        picture = [number % len(trial.samples)]
        as_it_is, triggered = trial.cases(picture, None), trial.cases(picture, seed)
        for into, cases in ((clean, as_it_is), (attacked, triggered)):
            for name in _in_turn(names, number):
                contestant = trial.contestant(name)
                start = time.perf_counter()
                contestant.answer(cases, seed)
                if number >= 0:
                    into[name].append((time.perf_counter() - start) * 1e3)
        advance()
    return {name: _figures(name, clean, attacked) for name in names}


def _figures(
    name: str, clean: dict[str, list[float]], attacked: dict[str, list[float]]
) -> dict[str, float | None]:
    both = np.array([*clean[name], *attacked[name]])
    return {
        "ms_clean": trimmed_mean(clean[name]),
        "ms_triggered": trimmed_mean(attacked[name]),
        "p50_ms": float(np.percentile(both, 50)),
        "p95_ms": float(np.percentile(both, 95)),
        "ratio_clean": _ratio(clean, name),
        "ratio_triggered": _ratio(attacked, name),
    }


def _ratio(times: dict[str, list[float]], name: str) -> float | None:
    """Over the undefended captioner's; None where it is not among the contestants."""
    if UNDEFENDED not in times:
        return None
    return trimmed_mean(times[name]) / trimmed_mean(times[UNDEFENDED])


def _in_turn(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    first = number % len(names)
    return names[first:] + names[:first]
