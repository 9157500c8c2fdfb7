"""Reading ahead: a generator of frames runs on its own thread behind a short queue.

Decoding overlaps with captioning, and OpenCV lets go of the interpreter while it decodes. Nothing
is lost: a reader that is ahead waits.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

from srd_edge.runtime.handover import Handover, ThreadedSource
from srd_edge.runtime.source import SourcedFrame, SourceFacts

Made = TypeVar("Made")


class ReaderThread(ThreadedSource):
    """The Source over a generator of frames.

    Args:
        generator: run on the thread, and closed there; closed here if it was never started.
        facts: what is known of it.
        max_frames: stop after that many, None for all.
        unblock: called by ``close`` to end a read that would otherwise wait for ever.
    """

    def __init__(
        self,
        generator: Generator[SourcedFrame],
        facts: SourceFacts,
        *,
        max_frames: int | None = None,
        unblock: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(facts, Handover(), max_frames=max_frames)
        self._generator, self._on_close = generator, unblock

    def _read(self) -> None:
        with contextlib.closing(self._generator) as generator:
            for count, item in enumerate(generator, start=1):
                if not self._handover.put(item) or count == self._max_frames:
                    break

    def _unblock(self) -> None:
        if self._on_close is not None:
            self._on_close()

    def _never_started(self) -> None:
        self._generator.close()


def on_a_thread(make: Callable[[], Made]) -> Made:
    """What ``make`` returns or raises, from a thread of its own.

    Opening a camera or an address can take seconds inside C code, where Ctrl-C is not heard. Here
    it is: the thread is left behind, and what it still makes is freed with it.
    """
    done: queue.SimpleQueue[tuple[Made, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((make(), None))
        except BaseException as error:  # raised anew where somebody waits for it
            done.put((None, error))

    threading.Thread(target=work, name="srd-edge opener", daemon=True).start()
    made, error = done.get()
    if error is not None:
        raise error
    return made  # type: ignore[return-value]
