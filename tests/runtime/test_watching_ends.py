"""However watching ends, the source is closed, no thread is left and the defender is free."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.records import Result
from srd_edge.runtime.watching import Watch, watch
from tests.runtime.watched import (
    FRAMES,
    Camera,
    Numbering,
    all_of,
    assert_no_thread_is_left,
    pictures,
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert_no_thread_is_left()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return pictures(tmp_path / "pictures")


@pytest.mark.parametrize("where", ["waiting for a frame", "in the caller's own work"])
def test_a_cancelled_task_closes_the_source(where: str) -> None:
    camera = Camera()

    async def follow(started: asyncio.Event) -> None:
        async for _ in Watch(lambda: camera, Numbering()):
            started.set()
            if where != "waiting for a frame":
                await asyncio.sleep(3600)

    async def look() -> None:
        started = asyncio.Event()
        camera.show(0)
        task = asyncio.create_task(follow(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        while not camera.closed:
            gc.collect()
            await asyncio.sleep(0.01)

    asyncio.run(look())


def test_a_source_that_opens_too_late_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srd_edge.runtime.watching._FAREWELL_S", 0.01)
    camera, defender = Camera(), Numbering()
    camera.show(0)
    asked, opening = threading.Event(), threading.Event()

    def opened() -> Camera:
        asked.set()
        assert opening.wait(30)
        return camera

    async def look() -> None:
        task = asyncio.create_task(all_of(aiter(Watch(opened, defender))))
        await asyncio.to_thread(asked.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(look())
    assert not camera.closed
    opening.set()
    while not camera.closed:
        time.sleep(0.01)
    assert defender.captioned == []


def test_a_loop_that_is_left_early_closes_the_source_and_frees_the_defender(folder: str) -> None:
    camera, defender = Camera(), Numbering()
    camera.show(0)
    for _ in Watch(lambda: camera, defender):
        break
    assert camera.closed

    async def look() -> list[Result]:
        async for _ in watch(folder, defender):
            break
        return await all_of(aiter(watch(folder, defender)))

    assert len(asyncio.run(look())) == FRAMES


def test_a_source_that_cannot_be_opened(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.mp4")
    with pytest.raises(SourceError, match=r"missing\.mp4"):
        list(watch(missing, Numbering()))
    with pytest.raises(SourceError, match=r"missing\.mp4"):
        asyncio.run(all_of(aiter(watch(missing, Numbering()))))


def test_a_failure_comes_after_the_frames_before_it_as_it_was_raised(folder: str) -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 3:
            raise ZeroDivisionError("in the captioner") from KeyError("its cause")

    async def look(seen: list[int]) -> None:
        async for _, result in watch(folder, Numbering(fail)):
            seen.append(result.frame)

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match="in the captioner") as caught:
        asyncio.run(look(seen))
    assert isinstance(caught.value.__cause__, KeyError)
    assert seen == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(watch(folder, Numbering(fail)))


def test_a_damaged_file_ends_both_in_the_same_way(folder: str) -> None:
    whole = (Path(folder) / "4.png").read_bytes()
    (Path(folder) / "4.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError) as in_turn:
        list(watch(folder, Numbering()))
    with pytest.raises(SourceError) as aside:
        asyncio.run(all_of(aiter(watch(folder, Numbering()))))
    assert str(in_turn.value) == str(aside.value)


def test_the_callers_own_mistake_closes_the_source() -> None:
    async def look() -> None:
        async with Watch(lambda: camera, Numbering()) as watched:
            async for _ in watched:
                raise ZeroDivisionError

    camera = Camera()
    camera.show(0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(look())
    assert camera.closed


def test_one_defender_captions_for_one_watch_at_a_time(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srd_edge.runtime.watching._FAREWELL_S", 0.05)
    defender = Numbering()
    with watch(folder, defender) as first:
        results = iter(first)
        next(results)
        with pytest.raises(UsageError, match="another watch"):
            next(iter(watch(folder, defender)))
        assert len(list(watch(folder, Numbering()))) == FRAMES
        results.close()
    assert len(list(watch(folder, defender))) == FRAMES


def test_close_ends_a_wait_for_a_silent_camera_and_what_is_closed_gives_nothing() -> None:
    camera = Camera()
    watched = Watch(lambda: camera, Numbering())
    closing = threading.Timer(0.05, watched.close)
    closing.start()
    assert list(watched) == []
    closing.join()
    assert camera.closed
    assert list(watched) == []
    assert asyncio.run(all_of(aiter(watched))) == []
