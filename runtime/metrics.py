"""Figures of a run for Prometheus, at http://HOST:PORT/metrics while it goes on.

The live page has the same at its own `/metrics`, for those who may see the page.

Times are in seconds, as Prometheus has them. There are no captions and no pictures among the
figures, so nobody needs a token for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.budget import Clock
from srd_edge.runtime.records import VERDICTS, Result
from srd_edge.runtime.sinks import Lossy

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import CounterMetricFamily

TIME_BUCKETS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
)
"""From a stage that does little to a caption on a slow device; finest where frame rates are."""
TEXT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
SUSPICION_BUCKETS: Final = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """The sink: it counts, and ``serve`` or the live page shows what it has counted.

    Args:
        fps: frames of the source a second, if it has a rate.
        budget_ms: of a frame, or None.
        lossy: sinks whose lost results are counted.
        clock: seconds since 1970.

    Raises:
        UsageError: here, without the library.
    """

    def __init__(
        self,
        *,
        fps: float | None = None,
        budget_ms: float | None = None,
        lossy: Sequence[Lossy] = (),
        clock: Clock = time.time,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise UsageError(
                expected="prometheus-client for figures",
                found=str(error),
                do='pip install "srd-edge[serve]"',
            ) from error
        self._clock = clock
        # One of its own: the library's holds whatever else this process counts.
        self.registry = registry = CollectorRegistry()
        self._frames = Counter(
            "srd_edge_frames", "Frames by verdict.", ["verdict"], registry=registry
        )
        self._late = Counter(
            "srd_edge_late_frames", "Frames that did not keep the budget.", registry=registry
        )
        self._degraded = Counter(
            "srd_edge_degraded_frames",
            "Frames by what was given up in them to keep the budget.",
            ["what"],
            registry=registry,
        )
        self._total = Histogram(
            "srd_edge_frame_seconds",
            "Time from a frame to its caption.",
            buckets=TIME_BUCKETS_S,
            registry=registry,
        )
        self._stages = Histogram(
            "srd_edge_stage_seconds",
            "Time of a stage, in frames in which it ran.",
            ["stage"],
            buckets=TIME_BUCKETS_S,
            registry=registry,
        )
        self._suspicion = Histogram(
            "srd_edge_suspicion",
            "Suspicion of frames, 0 to 1.",
            buckets=SUSPICION_BUCKETS,
            registry=registry,
        )
        self._newest = Gauge(
            "srd_edge_last_frame_timestamp_seconds",
            "When the last frame was captioned, in seconds since 1970.",
            registry=registry,
        )
        for name, text, value in (
            ("srd_edge_source_fps", "Frames of the source a second, as it says itself.", fps),
            ("srd_edge_budget_seconds", "The budget of a frame.", budget_ms and budget_ms / 1000),
        ):
            if value is not None:
                Gauge(name, text, registry=registry).set(value)
        for verdict in VERDICTS:
            self._frames.labels(verdict)  # so that there is a 0 before the first
        registry.register(_Lost(lossy))
        self._server: WSGIServer | None = None

    def serve(self, address: Address) -> Address:
        """Show the figures at ``address`` until ``close``; where that is, with its port.

        Raises:
            RunError: if the address cannot be listened on.
        """
        from prometheus_client import start_http_server

        try:
            self._server, _ = start_http_server(address.port, address.host, self.registry)
        except OSError as error:
            raise RunError(
                expected=f"to serve metrics on {address.host}:{address.port}",
                found=error.strerror or str(error),
                do="choose another port, or end what uses it",
            ) from error
        return Address(address.host, self._server.server_port)

    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        self._frames.labels(result.verdict).inc()
        if result.within_budget is False:
            self._late.inc()
        for what in result.degraded:
            self._degraded.labels(what).inc()
        self._total.observe(result.total_ms / 1000)
        for stage, ms in result.stage_ms.items():
            self._stages.labels(stage).observe(ms / 1000)
        if result.suspicion is not None:
            self._suspicion.observe(result.suspicion)
        self._newest.set(self._clock())

    def text(self) -> bytes:
        """All figures as Prometheus reads them, of the type TEXT_TYPE; from any thread."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))

    def close(self) -> None:
        """Serve no more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Lost:
    """What sinks have lost, asked of them when somebody looks."""

    def __init__(self, lossy: Sequence[Lossy]) -> None:
        self._lossy = lossy

    def collect(self) -> Iterator[CounterMetricFamily]:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(
            "srd_edge_results_lost", "Results that a sink could not deliver.", labels=["sink"]
        )
        for sink in self._lossy:
            family.add_metric([sink.name], sink.lost)
        yield family
