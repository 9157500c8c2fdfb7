"""Figures for Prometheus, read with its own parser."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from srd_edge.errors import RunError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.addresses import Address
from srd_edge.runtime.metrics import TEXT_TYPE, TIME_BUCKETS_S, Metrics
from srd_edge.runtime.records import Result, Verdict

ANY_PORT = Address("127.0.0.1", 0)
FRAME = Frame(np.zeros((1, 1, 3), np.uint8))


class Leaky:
    name, lost = "mqtt", 0


@pytest.fixture
def leaky() -> Leaky:
    return Leaky()


@pytest.fixture
def metrics(leaky: Leaky) -> Iterator[Metrics]:
    sink = Metrics(fps=12.5, budget_ms=40.0, lossy=[leaky], clock=lambda: 1e9)
    yield sink
    sink.close()
    sink.close()


def scrape(sink: Metrics) -> dict[str, float]:
    """Every sample by its name and labels."""
    return samples_of(sink.text().decode())


def samples_of(text: str) -> dict[str, float]:
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): (
            sample.value
        )
        for sample in samples
    }


def result(ms: float, verdict: Verdict, suspicion: float | None, *degraded: str) -> Result:
    stages = {"encode": ms / 2}
    within = ms <= 40
    return Result(0, 0.0, "x", verdict, suspicion, (), None, stages, ms, within, degraded)


def test_the_figures_are_those_of_the_results(metrics: Metrics, leaky: Leaky) -> None:
    assert scrape(metrics)["srd_edge_frames_total verdict=suspicious"] == 0
    metrics.write(FRAME, result(12, "clean", 0.05))
    metrics.write(FRAME, result(30, "suspicious", 0.95))
    metrics.write(FRAME, result(60, "held", None, "caption", "retries"))
    leaky.lost = 7
    told = scrape(metrics)
    expected = {
        "srd_edge_frames_total verdict=clean": 1,
        "srd_edge_frames_total verdict=suspicious": 1,
        "srd_edge_frames_total verdict=held": 1,
        "srd_edge_late_frames_total": 1,
        "srd_edge_degraded_frames_total what=caption": 1,
        "srd_edge_frame_seconds_count": 3,
        "srd_edge_frame_seconds_bucket le=0.015": 1,
        "srd_edge_frame_seconds_bucket le=0.03": 2,
        "srd_edge_stage_seconds_bucket le=0.015 stage=encode": 2,
        "srd_edge_suspicion_count": 2,
        "srd_edge_suspicion_bucket le=0.1": 1,
        "srd_edge_source_fps": 12.5,
        "srd_edge_budget_seconds": 0.04,
        "srd_edge_last_frame_timestamp_seconds": 1e9,
        "srd_edge_results_lost_total sink=mqtt": 7,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told["srd_edge_frame_seconds_sum"] == pytest.approx(0.102)


def test_what_is_not_known_is_not_told() -> None:
    told = scrape(Metrics())
    assert not {"srd_edge_source_fps", "srd_edge_budget_seconds"} & set(told)


def test_the_buckets_suit_a_millisecond_and_five_seconds() -> None:
    assert (TIME_BUCKETS_S[0], TIME_BUCKETS_S[-1]) == (0.001, 5.0)
    assert list(TIME_BUCKETS_S) == sorted(TIME_BUCKETS_S)


def test_two_runs_in_a_process_do_not_share_figures(metrics: Metrics) -> None:
    metrics.write(FRAME, result(12, "clean", 0.05))
    assert scrape(Metrics())["srd_edge_frames_total verdict=clean"] == 0


def test_they_are_served_until_the_sink_is_closed(metrics: Metrics) -> None:
    metrics.write(FRAME, result(12, "clean", 0.05))
    address = metrics.serve(ANY_PORT)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{address.url}metrics", timeout=60) as reply:
        assert samples_of(reply.read().decode()) == scrape(metrics)
    metrics.close()
    with pytest.raises(OSError):
        opener.open(f"{address.url}metrics", timeout=60)


def test_the_type_is_the_librarys_own() -> None:
    assert TEXT_TYPE == CONTENT_TYPE_LATEST


def test_a_port_that_is_taken(metrics: Metrics) -> None:
    with pytest.raises(RunError, match="another port"):
        Metrics().serve(metrics.serve(ANY_PORT))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r'pip install "srd-edge\[serve\]"'):
        Metrics()
