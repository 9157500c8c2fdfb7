"""Results in Python: a source is watched with ``for`` or with ``async for``.

With ``async for`` a thread of its own opens, reads and captions, and the event loop never waits for
any of it. Between the two at most one result waits: of files the next frame is captioned while the
caller works on the last one, and none is lost; of a live source the newest frame is taken when the
caller asks for it, so that no result is older than the wait for it.

Captioned side by side, all results but the first would have aged by what the caller did with those
before. So where one of several sources is live, each frame is captioned by itself, when it is asked
for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Final, Self, TypeAlias

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.found_files import Kind
from srd_edge.runtime.live_source import Patience
from srd_edge.runtime.records import Result
from srd_edge.runtime.runner import Captioner, captioned
from srd_edge.runtime.source import Arrivals, Source
from srd_edge.runtime.sources import open_sources

Spec: TypeAlias = str | int | os.PathLike[str]
"""A SPEC as in ``srd_edge.runtime.sources``, a camera's number, or the path of a file."""
Watched: TypeAlias = tuple[Frame, Result]
"""A frame as it came, and what came of it."""

_FAREWELL_S: Final = 2.0


def watch(
    sources: Spec | Sequence[Spec],
    defender: Captioner,
    *,
    compare: bool = False,
    kind: Kind = "any",
    every: int = 1,
    max_frames: int | None = None,
    patience: Patience | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Watch:
    """Caption what ``sources`` name under the defence, one frame after the other.

        with watch("clip.mp4", defender) as results:
            for frame, result in results: ...

        async with watch(["rtsp://camera/1", "rtsp://camera/2"], defender) as results:
            async for frame, result in results: ...

    Nothing is opened before the first frame is asked for.

    Args:
        sources: one or several, and each result says by its ``source`` which it is from. What has
            come of several is captioned side by side; if one is live, they are captioned in turn,
            a frame for each that is asked for.
        defender: captions for one watch at a time: it remembers captions by their source.
        compare: also ask what the undefended model would have said.
        kind, every, max_frames, patience, say: as for ``srd_edge.runtime.sources.open_sources``.
    """
    several = [sources] if isinstance(sources, (str, int, os.PathLike)) else sources
    specs = [_named(source) for source in several]

    def opened() -> Source:
        return open_sources(
            specs, kind=kind, every=every, max_frames=max_frames, patience=patience, say=say
        )

    return Watch(opened, defender, compare=compare, side_by_side=len(specs))


def _named(source: Spec) -> str:
    if isinstance(source, os.PathLike):
        # Never one of the names that stand for something else, such as that of the built-in clip.
        return os.path.join(os.curdir, source)  # noqa: PTH118 - pathlib drops the dot
    return str(source)


class Watch:
    """Frames with their results, to be gone through once, with ``for`` or with ``async for``.

    Whatever ends it - the last frame, an exception, a cancelled task - closes the source and its
    threads. A loop that is left early does so too once nobody holds what it went through; ``with``
    and ``async with`` do it at once.

    Args:
        open_it: opens the source; with ``async for`` on the thread.
        defender, compare: as for ``watch``.
        side_by_side: as for ``srd_edge.runtime.runner.captioned``, unless the source is live.

    Raises:
        SourceError: while iterating, after the frames before it; and whatever else went wrong on
            the thread, as it was raised there.
        UsageError: while iterating, if the defender captions for another watch.
    """

    def __init__(
        self,
        open_it: Callable[[], Source],
        defender: Captioner,
        *,
        compare: bool = False,
        side_by_side: int = 1,
    ) -> None:
        self._open, self._defender = open_it, defender
        self._compare, self._side_by_side = compare, side_by_side
        self._source: Source | None = None
        self._closed = False
        self._wanted = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    @property
    def arrivals(self) -> Arrivals:
        """What live sources passed over and how often they were got back, so far."""
        return Arrivals() if self._source is None else self._source.arrivals

    def __iter__(self) -> Generator[Watched]:
        """Caption on the caller's own thread."""
        try:
            yield from self._captioned()
        finally:
            self.close()

    async def __aiter__(self) -> AsyncGenerator[Watched]:
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[Watched | _End] = asyncio.Queue()  # as long as what is wanted

        def post(item: Watched | _End) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(came.put_nowait, item)

        # A daemon, so that a driver stuck inside a read cannot keep the process alive.
        thread = threading.Thread(
            target=self._work, args=(post,), name="srd-edge watch", daemon=True
        )
        thread.start()
        self._thread = thread  # once it can be joined: ``close`` may be called from anywhere
        try:
            while True:
                self._wanted.release()
                item = await came.get()
                if isinstance(item, _End):
                    if item.error is not None:
                        raise item.error
                    return
                yield item
        finally:
            await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the source and end the threads; from any thread, more than once.

        Waits for the frame that is being captioned, but not for ever.
        """
        self._closed = True  # before looking: a source that is opened from now on is closed there
        if self._source is not None:
            self._source.close()
        self._wanted.release()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_FAREWELL_S)

    async def aclose(self) -> None:
        """The same, for coroutines."""
        await asyncio.to_thread(self.close)

    def _captioned(self) -> Generator[Watched]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_engaged(self._defender))
            if self._closed:
                return
            self._source = stack.enter_context(self._open())
            if self._closed:
                return
            yield from captioned(
                self._source,
                self._defender,
                compare=self._compare,
                side_by_side=1 if self._source.live else self._side_by_side,
            )

    def _work(self, post: Callable[[Watched | _End], object]) -> None:
        """On the thread: caption a frame for each that is wanted."""
        error: BaseException | None = None
        try:
            with contextlib.closing(self._captioned()) as results:
                self._wanted.acquire()
                for number, item in enumerate(results):
                    post(item)
                    if number == 0 and self._source is not None and not self._source.live:
                        self._wanted.release()  # one ahead
                    self._wanted.acquire()
                    if self._closed:
                        break
        except BaseException as failure:  # whoever waits must hear of anything
            error = failure
        post(_End(error))


class _End:
    """What the thread says last."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


_BUSY: Final[set[int]] = set()
_FREED: Final = threading.Condition()


@contextlib.contextmanager
def _engaged(defender: Captioner) -> Generator[None]:
    """Keep a defender to one watch: two would hand each other's held captions out.

    One that is being closed is waited for.
    """
    with _FREED:
        if not _FREED.wait_for(lambda: id(defender) not in _BUSY, _FAREWELL_S):
            raise UsageError(
                expected="a defender that captions for one watch at a time",
                found="one that another watch is using",
                do="name all sources in one watch, close the other, or load another defender",
            )
        _BUSY.add(id(defender))
    try:
        yield
    finally:
        with _FREED:
            _BUSY.discard(id(defender))
            _FREED.notify_all()
