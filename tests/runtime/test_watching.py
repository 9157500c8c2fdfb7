"""Watching a source in Python: what a run says, without blocking, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.handover import Handover, ThreadedSource
from srd_edge.runtime.merged import MergedSource
from srd_edge.runtime.records import Result
from srd_edge.runtime.runner import run
from srd_edge.runtime.source import SourcedFrame, SourceFacts
from srd_edge.runtime.sources import open_sources
from srd_edge.runtime.watching import Watch, watch

FRAMES = 9


@dataclass
class Numbering:
    """Says which frame it is; ``before`` may wait, or fail."""

    before: Callable[[Frame], object] = lambda _: None
    captioned: list[int] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def rest(self) -> None:
        pass

    def forget(self, source: int = 0) -> None:
        self.forgotten.append(source)

    def captions(self, frames: Mapping[int, Frame], *, compare: bool = False) -> dict[int, Result]:
        return {n: self.caption(frame, n, compare=compare) for n, frame in frames.items()}

    def caption(self, frame: Frame, source: int, *, compare: bool) -> Result:
        self.before(frame)
        self.captioned.append(frame.index)
        raw = "a banana" if compare else None
        return Result(frame.index, frame.time_s, f"{source}", "clean", 0.0, raw_caption=raw)


class Camera(ThreadedSource):
    """A live source that shows what it is told to, and is silent otherwise."""

    def __init__(self) -> None:
        super().__init__(SourceFacts("camera", live=True), Handover(1, newest=True))
        self.silent, self.closed = threading.Event(), False

    def show(self, *indices: int) -> None:
        for index in indices:
            frame = Frame(np.zeros((4, 4, 3), np.uint8), index)
            self._handover.put(SourcedFrame(frame, self.name))

    def _read(self) -> None:
        self.silent.wait()

    def _unblock(self) -> None:
        self.closed = True
        self.silent.set()


class Results:
    """A sink that keeps them."""

    def __init__(self) -> None:
        self.kept: list[Result] = []

    def write(self, frame: Frame, result: Result) -> None:  # noqa: ARG002 - the protocol's
        self.kept.append(result)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    give_up = time.monotonic() + 30
    while left := [t.name for t in threading.enumerate() if t.name.startswith("srd-edge ")]:
        gc.collect()
        assert time.monotonic() < give_up, left
        time.sleep(0.01)


def pictures(folder: Path, count: int = FRAMES) -> str:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((6, 8, 3), 20 * index, np.uint8))
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return pictures(tmp_path / "pictures")


async def all_of(results: AsyncIterator[tuple[Frame, Result]], slow_s: float = 0.0) -> list[Result]:
    kept = []
    async for frame, result in results:
        assert frame.index == result.frame
        kept.append(result)
        await asyncio.sleep(slow_s)
    return kept


def as_a_run(*sources: str) -> list[Result]:
    kept = Results()
    run(open_sources(sources), Numbering(), [kept], compare=True)
    return kept.kept


def test_both_say_what_a_run_says(folder: str) -> None:
    expected = as_a_run(folder)
    assert [result.frame for result in expected] == list(range(FRAMES))
    assert [r for _, r in watch(folder, Numbering(), compare=True)] == expected
    for slow_s in (0.0, 0.01):
        results = watch(folder, Numbering(), compare=True)
        assert asyncio.run(all_of(aiter(results), slow_s)) == expected


def test_sources_may_be_paths_and_numbers(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(r.frame, r.caption) for r in as_a_run(folder)]
    assert [(r.frame, r.caption) for _, r in watch(Path(folder), Numbering())] == expected
    pictures(tmp_path / "demo", 2)
    monkeypatch.chdir(tmp_path)
    found = [r for _, r in watch(Path("demo"), Numbering())]
    assert len(found) == 2, "and not the built-in clip"
    with pytest.raises(SourceError, match="number 99"):
        list(watch(99, Numbering()))


def test_several_sources_take_turns_as_in_a_run(folder: str, tmp_path: Path) -> None:
    other = pictures(tmp_path / "others", 4)
    expected = as_a_run(folder, other)
    for found in (
        [r for _, r in watch([folder, other], Numbering(), compare=True)],
        asyncio.run(all_of(aiter(watch([folder, other], Numbering(), compare=True)))),
    ):
        for source in (folder, other):
            of_it = [r for r in found if str(r.source).startswith(source)]
            assert of_it == [r for r in expected if str(r.source).startswith(source)]
            assert len(of_it) == (FRAMES if source == folder else 4)


def test_of_a_file_one_result_is_made_ahead_and_no_more(folder: str) -> None:
    async def look() -> None:
        defender = Numbering()
        async with watch(folder, defender) as results:
            taken = 0
            async for _ in results:
                taken += 1
                while len(defender.captioned) < min(taken + 1, FRAMES):
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
                assert len(defender.captioned) == min(taken + 1, FRAMES)

    asyncio.run(look())


def test_of_a_camera_the_newest_frame_is_taken_when_it_is_asked_for() -> None:
    async def look() -> None:
        camera, defender = Camera(), Numbering()
        async with Watch(lambda: camera, defender) as watched:
            results = aiter(watched)
            camera.show(0, 1, 2)
            assert (await anext(results))[1].frame == 2
            camera.show(3)
            await asyncio.sleep(0.02)
            assert defender.captioned == [2], "nobody has asked for another"
            camera.show(4, 5)
            assert (await anext(results))[1].frame == 5
            assert watched.arrivals.passed_over == 4

    asyncio.run(look())


def test_no_result_of_a_camera_waits_while_the_caller_works_on_anothers() -> None:
    cameras = [Camera(), Camera()]

    def watched() -> Watch:
        return Watch(lambda: MergedSource(cameras), Numbering(), side_by_side=2)

    def show(index: int) -> None:
        for camera in cameras:
            camera.show(index)

    async def look() -> list[Result]:
        async with watched() as frames:
            results, found = aiter(frames), []
            for index in range(4):
                show(index)
                found.append((await anext(results))[1])
            return found

    def in_turn() -> list[Result]:
        found = []
        with watched() as frames:
            results = iter(frames)
            for index in range(4):
                show(index)
                found.append(next(results)[1])
            assert frames.arrivals.passed_over == 3
        return found

    for made in (in_turn, lambda: asyncio.run(look())):
        cameras[:] = [Camera(), Camera()]
        assert [(r.frame, r.caption) for r in made()] == [(0, "0"), (1, "1"), (2, "0"), (3, "1")]


def test_the_event_loop_goes_on_while_a_source_opens_and_a_frame_is_captioned(folder: str) -> None:
    async def look() -> list[Result]:
        opening, captioning = threading.Event(), threading.Event()

        async def set_free() -> None:
            # Were the loop blocked, these would never be set, and the waits below would be false.
            opening.set()
            await asyncio.sleep(0.01)
            captioning.set()

        def opened() -> Camera:
            assert opening.wait(30)
            return camera

        def before(_: Frame) -> None:
            assert captioning.wait(30)

        camera = Camera()
        camera.show(7)
        helper = asyncio.create_task(set_free())
        async with Watch(opened, Numbering(before)) as watched:
            _, result = await anext(aiter(watched))
        await helper
        return [result]

    assert [result.frame for result in asyncio.run(look())] == [7]


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
