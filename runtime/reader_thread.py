"""Reading ahead: a generator of frames runs on its own thread behind a short queue.

Decoding overlaps with captioning, and OpenCV lets go of the interpreter while it decodes. An
exception on the thread is handed to the consumer; nothing that happens there can leave it waiting.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from srd_edge.errors import SourceError
from srd_edge.kernels.frames import Frame

_QUEUE_FRAMES: Final = 4
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class SourcedFrame:
    """A frame and the file, camera or address that it came from.

    ``frame.index`` counts over the whole run; ``frame.time_s`` starts anew with each file.
    """

    frame: Frame
    file: str


class ReaderThread:
    """The Source over a generator of frames; the thread starts with the first ``next``.

    Args:
        generator: run on the thread, and closed there; closed here if it was never started.
        name, files, paths, frames, fps, live: as in ``srd_edge.runtime.sources.Source``.
        max_frames: stop after that many, None for all.
    """

    def __init__(
        self,
        generator: Generator[SourcedFrame],
        *,
        name: str,
        files: int,
        paths: tuple[Path, ...],
        frames: int | None,
        fps: float | None,
        live: bool,
        max_frames: int | None,
    ) -> None:
        self.name, self.files, self.live = name, files, live
        self.paths: tuple[Path, ...] = paths
        self.frames: int | None = frames
        self.fps: float | None = fps
        self._generator, self._max_frames = generator, max_frames
        self._queue: queue.Queue[SourcedFrame | SourceError | None] = queue.Queue(_QUEUE_FRAMES)
        self._stop = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SourcedFrame:
        if self._ended:
            raise StopIteration
        if self._thread is None:
            # A daemon, so that a driver stuck inside a read cannot keep the process alive.
            self._thread = threading.Thread(target=self._read, name="srd-edge reader", daemon=True)
            self._thread.start()
        item = self._queue.get()
        if isinstance(item, SourcedFrame):
            return item
        self._ended = True
        if item is not None:
            raise item
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and free the file or camera; ``next`` then finds the end.

        Waits for the read that is under way: at most the ten seconds that a stream may take.
        """
        self._ended = True
        self._stop.set()
        if self._thread is None:
            self._generator.close()
        else:
            self._thread.join()

    def _read(self) -> None:
        end: SourceError | None = None
        try:
            with contextlib.closing(self._generator) as generator:
                for count, item in enumerate(generator, start=1):
                    if not self._put(item) or count == self._max_frames:
                        break
        except SourceError as error:
            end = error
        except BaseException as error:  # the consumer waits at the queue: it must hear of anything
            end = SourceError(
                expected=f"frames from '{self.name}'",
                found=f"{type(error).__name__}: {' '.join(str(error).split())}",
                do="check that they can be opened elsewhere",
            )
            end.__cause__ = error
        self._put(end)

    def _put(self, item: SourcedFrame | SourceError | None) -> bool:
        """Hand ``item`` to the consumer; False once nobody will take it any more."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
