"""Live sources: the newest frame, numbers that stay true, streams that are lost and got back."""

from __future__ import annotations

import math
import threading

import cv2
import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.runtime.live_source import LiveSource, Patience
from srd_edge.runtime.source import Arrivals, SourceFacts
from tests.runtime.films import NOTHING, Camera, Film, Stuck


def camera_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name in ("srd-edge camera", "srd-edge reader")]


def assert_no_threads() -> None:
    for thread in camera_threads():
        thread.join(10)
    assert not camera_threads()


def test_a_lost_stream_is_got_back_after_waits_that_double() -> None:
    error = cv2.error("a driver")
    films: list[Film | SourceError]
    seen: list[tuple[int, float, int]] = []
    films = [Film(2), NOTHING, NOTHING, Film(2, 50, error), Film(1, 90), NOTHING, NOTHING, NOTHING]
    camera = Camera(films)
    source = camera.source(patience=Patience(attempts=3))
    with source, pytest.raises(SourceError) as caught:
        seen.extend(camera.seen(source))
    # Frames are numbered, and timed by our own clock, over all connections.
    assert seen == [(0, 0, 0), (1, 1, 1), (2, 2, 50), (3, 3, 51), (4, 4, 90)]
    assert camera.waits_s == [0.5, 1.0, 2.0, 0.5, 0.5, 1.0, 2.0]
    assert source.arrivals == Arrivals(0, 2)
    assert [line.partition(" (")[0] for line in camera.said] == [
        "cam: lost after 2 frames",
        "cam: back after 3 attempts",
        "cam: lost after 4 frames",
        "cam: back after 1 attempt",
        "cam: lost after 5 frames",
    ]
    assert "after 5 frames, and not back in 3 attempts" in str(caught.value)
    assert "nothing there" in str(caught.value)
    assert all(film.released for film in films if isinstance(film, Film))
    assert_no_threads()


def test_its_condition_says_when_it_is_lost_when_it_is_back_and_how_it_ended() -> None:
    camera = Camera([Film(1), NOTHING, Film(1), NOTHING, NOTHING])
    source = camera.source(patience=Patience(attempts=2))
    told: list[str] = []

    def say(line: str) -> None:
        (status,) = source.statuses
        told.append(status.condition)
        assert status.condition == ("lost" if "trying again" in line else "reading")
        assert (status.name, status.live, status.arrivals) == ("cam", True, source.arrivals)

    source._say = say
    assert [status.condition for status in source.statuses] == ["reading"]
    with source, pytest.raises(SourceError):
        list(camera.seen(source))
    assert told == ["lost", "reading", "lost"]
    assert [status.condition for status in source.statuses] == ["failed"]


def test_a_stream_that_opens_and_shows_nothing_is_not_back() -> None:
    camera = Camera([Film(1), Film(0), Film(0)])
    with camera.source(patience=Patience(attempts=2)) as source, pytest.raises(SourceError):
        list(camera.seen(source))
    assert source.arrivals.reconnections == 0
    assert camera.waits_s == [0.5, 1.0]


@pytest.mark.parametrize("film", [Film(0), NOTHING, Film(0, end=cv2.error("x"))])
def test_a_source_that_never_showed_a_frame_is_refused_at_once(film: Film | SourceError) -> None:
    camera = Camera([film])
    with camera.source() as source, pytest.raises(SourceError, match="before the first"):
        next(source)
    assert (camera.opened, camera.waits_s, camera.said) == (1, [], [])


def test_any_other_exception_ends_the_run_with_its_cause() -> None:
    camera = Camera([Film(1, end=ZeroDivisionError("in a thread"))])
    with camera.source() as source, pytest.raises(SourceError) as caught:
        list(camera.seen(source))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert camera.waits_s == []


def test_who_is_slower_than_the_camera_gets_the_newest_frame() -> None:
    at_end, go_on = threading.Event(), threading.Event()

    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            at_end.set()
            return go_on.wait(timeout)

    facts, film = SourceFacts("cam", live=True), Film(10, end=Waits())
    with LiveSource(lambda: film, facts, patience=Patience(attempts=0), every=2) as source:
        source.start()
        assert at_end.wait(10)
        assert source.waiting == 1
        assert next(source).frame.index == 8
        assert source.arrivals == Arrivals(passed_over=4)
        go_on.set()
        with pytest.raises(SourceError, match="after 10 frames"):
            next(source)


def test_a_stalled_stream_is_left_and_opened_again() -> None:
    never = threading.Event()
    seen: list[tuple[int, float, int]] = []
    camera = Camera([Film(2, end=never), Film(1, 50), NOTHING])
    source = camera.source(patience=Patience(stall_s=0.05, attempts=1))
    with source, pytest.raises(SourceError):
        seen.extend(camera.seen(source))
    assert [brightness for *_, brightness in seen] == [0, 1, 50]
    assert "cam: lost after 2 frames (nothing for 0.05 s); trying again" in camera.said
    never.set()
    assert_no_threads()


def test_data_without_a_picture_is_no_sign_of_life() -> None:
    over = threading.Event()
    film = Film(10**9, torn=range(10**9), pace=lambda _: over.wait(0.001))
    source = LiveSource(
        lambda: film, SourceFacts("cam", live=True), patience=Patience(stall_s=0.05, attempts=3)
    )
    with source, pytest.raises(SourceError) as caught:
        next(source)
    assert "no whole picture for 0.05 s before the first" in str(caught.value)
    over.set()
    assert_no_threads()


def test_a_stream_that_comes_back_without_a_picture_is_not_back() -> None:
    camera = Camera([Film(2), Film(9, torn=range(9)), NOTHING, NOTHING])
    with camera.source(patience=Patience(attempts=3)) as source, pytest.raises(SourceError):
        list(camera.seen(source))
    assert (source.arrivals.reconnections, camera.waits_s) == (0, [0.5, 1.0, 2.0])


def test_after_a_torn_picture_all_are_looked_at_until_one_is_whole() -> None:
    film, seen = Film(9, torn=(4, 5)), list[int]()
    source = LiveSource(
        lambda: film, SourceFacts("cam", live=True), patience=Patience(attempts=0), every=4
    )
    with source, pytest.raises(SourceError, match="after 7 frames"):
        seen.extend(item.frame.index for item in source)
    assert film.looked_at == [0, 4, 5, 6, 8]
    assert seen[-1] == 8
    assert set(seen) <= {0, 8}


def test_a_frame_of_a_connection_that_was_given_up_is_dropped() -> None:
    stuck, never = Stuck(), threading.Event()
    camera = Camera([stuck, Film(1, 50, end=never), NOTHING])
    camera.taken.release()  # for the frame that is never taken
    with camera.source(patience=Patience(stall_s=0.05, attempts=1)) as source:
        brightness = (brightness for *_, brightness in camera.seen(source))
        assert [next(brightness), next(brightness)] == [0, 50]
        stuck.goes_on.set()
        assert stuck.let_go.wait(30)
        assert source.waiting == 0
    never.set()
    assert_no_threads()


def test_close_returns_though_a_read_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srd_edge.runtime.live_source._FAREWELL_S", 0.01)
    never = threading.Event()
    film = Film(1, end=never)
    source = LiveSource(lambda: film, SourceFacts("cam", live=True))
    assert next(source).frame.index == 0
    source.close()
    source.close()
    assert list(source) == []
    assert not film.released
    never.set()
    assert_no_threads()
    assert film.released


def test_close_interrupts_a_wait_between_attempts() -> None:
    lost = threading.Event()
    camera = Camera([Film(1), NOTHING])
    source = LiveSource(
        camera.open,
        SourceFacts("cam", live=True),
        patience=Patience(first_wait_s=3600, longest_wait_s=3600),
        say=lambda _: lost.set(),
    )
    assert next(source).frame.index == 0
    assert lost.wait(10)
    source.close()
    assert_no_threads()
    assert camera.opened == 1


def test_max_frames_counts_what_was_taken() -> None:
    camera = Camera([Film(9)])
    with camera.source(max_frames=3) as source:
        assert [index for index, *_ in camera.seen(source)] == [0, 1, 2]
    assert camera.said == []


def test_waits_are_bounded() -> None:
    waits = list(Patience(attempts=200).waits_s())
    assert waits[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert (len(waits), max(waits)) == (200, 30)
    for stall_s, attempts in ((0.0, 1), (1.0, -1), (math.nan, 1), (math.inf, 1), (1e6, 1)):
        with pytest.raises(UsageError):
            Patience(stall_s, attempts)
