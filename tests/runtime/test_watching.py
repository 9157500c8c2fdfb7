"""Watching a source in Python: what a run says, without blocking."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from srd_edge.errors import SourceError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.merged import MergedSource
from srd_edge.runtime.records import Result
from srd_edge.runtime.runner import run
from srd_edge.runtime.sources import open_sources
from srd_edge.runtime.watching import Watch, watch
from tests.runtime.watched import (
    FRAMES,
    Camera,
    Numbering,
    all_of,
    assert_no_thread_is_left,
    pictures,
)


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
    assert_no_thread_is_left()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return pictures(tmp_path / "pictures")


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
