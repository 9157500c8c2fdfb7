"""Standard input as a source: Motion JPEG, any container that can be streamed, or raw frames.

What it is, is told by its first bytes: JPEGs are cut apart here, picture by picture; anything else
is passed on to FFmpeg through a pipe. It is read losslessly, like a file: where captioning is
slower, the program at the other end waits.

Motion JPEG, and raw frames without a rate, say nothing of time: a frame's time is that of its
arrival after the first one.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final

import cv2

from srd_edge.errors import SourceError
from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.clips import ClipHeader, header_of, read_streamed
from srd_edge.runtime.mjpeg import START, split_mjpeg
from srd_edge.runtime.pictures import decode_picture
from srd_edge.runtime.raw_video import PREFIX, RawFormat, parse_raw, raw_pixels, split_raw
from srd_edge.runtime.reader_thread import ReaderThread, on_a_thread
from srd_edge.runtime.source import SourcedFrame, SourceFacts, expected_frames

STANDARD_INPUT: Final = "-"
NAME: Final = "standard input"

_CHUNK_BYTES: Final = 1 << 16
_MP4_STARTS: Final = frozenset((b"ftyp", b"mdat", b"wide"))


class StoppableInput:
    """A file descriptor whose ``read`` can be ended from another thread.

    Args:
        descriptor: read, and never closed, here.

    Raises:
        SourceError: if it is not open.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        try:
            os.fstat(descriptor)  # or the pipe below might be what is read
        except OSError as error:
            raise _unreadable(error) from error
        self._stopped, self._stop = os.pipe()
        self._stopping = threading.Lock()
        self._is_open = True

    def chunks(self) -> Iterator[bytes]:
        """What comes, in pieces of at most 64 KiB, up to the end or ``stop``.

        Raises:
            SourceError: if it cannot be read.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        try:
            while self._stopped not in dict(poll.poll()):
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk
        except OSError as error:
            raise _unreadable(error) from error
        finally:
            os.close(self._stopped)

    def stop(self) -> None:
        """End ``chunks``, though it waits; from any thread, more than once."""
        with self._stopping:
            if self._is_open:
                self._is_open = False
                os.close(self._stop)  # the other end of that pipe can be read now: it has ended


def reads_standard_input(spec: str) -> bool:
    """Whether ``spec`` is ``-`` or names a format of raw frames."""
    return spec == STANDARD_INPUT or spec.startswith(PREFIX)


def open_standard_input(
    spec: str,
    every: int,
    max_frames: int | None,
    *,
    descriptor: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> ReaderThread:
    """Wait for the first bytes of standard input, and open what they are.

    Args:
        spec: ``-``, or a format as in ``raw_video.py``.
        every: yield every Nth frame.
        max_frames: stop after that many, None for all.
        descriptor: what is read.
        clock: seconds, for times of arrival.

    Raises:
        SourceError: for a terminal, for nothing at all, and for what is no video.
        UsageError: for a raw format that is none.
    """
    raw = None if spec == STANDARD_INPUT else parse_raw(spec)
    if os.isatty(descriptor):
        raise SourceError(
            expected=f"a video on {NAME}",
            found="a terminal",
            do="pipe one in: ... | srd-edge run --video -",
        )
    stoppable = StoppableInput(descriptor)
    try:
        frames, facts = _open(stoppable.chunks(), raw, every, max_frames, clock)
    except BaseException:
        stoppable.stop()
        raise
    return ReaderThread(
        (SourcedFrame(frame, NAME) for frame in frames),
        facts,
        max_frames=max_frames,
        unblock=stoppable.stop,
    )


def _open(
    chunks: Iterator[bytes],
    raw: RawFormat | None,
    every: int,
    max_frames: int | None,
    clock: Callable[[], float],
) -> tuple[Generator[Frame], SourceFacts]:
    head = b""
    while len(head) < len(START) and (chunk := next(chunks, b"")):
        head += chunk
    if not head:
        raise SourceError(
            expected=f"a video on {NAME}",
            found="nothing: it has ended",
            do="check the program that should have written it",
        )
    whole = itertools.chain([head], chunks)
    if raw is not None:
        facts = SourceFacts(NAME, fps=raw.fps / every if raw.fps else None)
        decoders = (partial(raw_pixels, data, raw) for data in split_raw(whole, raw, NAME))
        return _timed(decoders, every, raw.fps, clock), facts
    if head.startswith(START):
        pictures = (partial(decode_picture, data, NAME) for data in split_mjpeg(whole, NAME))
        return _timed(pictures, every, None, clock), SourceFacts(NAME)
    capture, header = _open_container(whole, head)
    expected = header.frames and expected_frames(header.frames, every, max_frames)
    facts = SourceFacts(NAME, frames=expected, fps=header.fps / every if header.fps else None)
    frames = read_streamed(capture, header, NAME, every)
    return _without_index(frames) if _may_lack_index(head) else frames, facts


def _may_lack_index(head: bytes) -> bool:
    """Whether it is an MP4 that does not begin with the index (moov) of where its pictures are."""
    return head[4:8] in _MP4_STARTS and b"moov" not in head


def _without_index(frames: Generator[Frame]) -> Generator[Frame]:
    """``frames`` of an MP4, of which there is none where the index lies behind them in a pipe."""
    count = 0
    try:
        for frame in frames:
            count += 1
            yield frame
    except SourceError as error:
        if count:
            raise
        raise _index_at_the_end() from error


def _index_at_the_end() -> SourceError:
    return SourceError(
        expected=f"a video that can be read from a pipe on {NAME}",
        found="an MP4 whose index (moov) comes after its pictures, if at all",
        do="name the file (--video FILE), or rewrite it: ffmpeg -i FILE -c copy -movflags"
        " +faststart NEW.mp4, or as Matroska (NEW.mkv)",
    )


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        expected=f"a video on {NAME}",
        found=error.strerror or type(error).__name__,
        do="pipe one in: ... | srd-edge run --video -",
    )


def _timed(
    pictures: Iterator[Callable[[], Pixels]],
    every: int,
    fps: float | None,
    clock: Callable[[], float],
) -> Generator[Frame]:
    """Every ``every``th picture, decoded, with its time by the rate or, without one, the clock."""
    start = 0.0
    for index, decode in enumerate(pictures):
        now = clock()
        start = start if index else now
        if index % every == 0:
            yield Frame(decode(), index, index / fps if fps else now - start)


def _open_container(chunks: Iterator[bytes], head: bytes) -> tuple[cv2.VideoCapture, ClipHeader]:
    """Open what comes in ``chunks`` with FFmpeg, which reads it through a pipe from now on."""
    read_end, write_end = os.pipe()
    arguments = (chunks, write_end)
    threading.Thread(target=_pump, args=arguments, name="srd-edge pipe", daemon=True).start()
    capture = on_a_thread(lambda: cv2.VideoCapture(f"pipe:{read_end}", cv2.CAP_FFMPEG))
    os.close(read_end)  # FFmpeg has a copy
    if not capture.isOpened():
        if _may_lack_index(head):
            raise _index_at_the_end()
        raise SourceError(
            expected=f"Motion JPEG, or a video that FFmpeg can read as a stream, on {NAME}",
            found=f"no video (it begins with {head[:12]!r})",
            do="write it as Matroska, WebM or MJPEG, or say what raw frames it holds: "
            "--video raw:WIDTHxHEIGHT",
        )
    return capture, header_of(capture)


def _pump(chunks: Iterator[bytes], write_end: int) -> None:
    """Write ``chunks`` into a pipe and close it; ends early when nobody reads there any more."""
    try:
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[os.write(write_end, left) :]
    except OSError:  # the reader has gone; what is wrong with standard input, it will find missing
        pass
    finally:
        os.close(write_end)
