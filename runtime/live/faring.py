"""How the sources and sinks of a run fare, as the live page says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from srd_edge.runtime.source import Status


@dataclass(frozen=True, slots=True)
class Faring:
    """How a run's sources and sinks fare now.

    Args:
        sources: one status for each.
        lost: results that were not delivered, by sink; also those that lost none.
    """

    sources: tuple[Status, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the page."""
        return {
            "sources": [
                {
                    "name": status.name,
                    "live": status.live,
                    "condition": status.condition,
                    "passed_over": status.arrivals.passed_over,
                    "reconnections": status.arrivals.reconnections,
                }
                for status in self.sources
            ],
            "lost": dict(self.lost),
        }

    @property
    def news(self) -> tuple[object, ...]:
        """What a viewer is told of at once; frames that are passed over can wait for a result."""
        conditions = [(s.condition, s.arrivals.reconnections) for s in self.sources]
        return (*conditions, *self.lost.items())
