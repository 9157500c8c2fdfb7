"""Where frames come from: one SPEC in, numbered frames out.

    video file | picture | directory | glob | list file (.txt) | "demo"
    camera number | rtsp:// or http:// address | gst:PIPELINE, or any text with " ! " in it
    "-" (Motion JPEG or a container on standard input)
    raw:WIDTHxHEIGHT[:rgb24|bgr24|gray|yuv420p|nv12][@FPS] (raw frames on standard input)

Frames are numbered over the whole of their SPEC, one number for each frame that is *read*; with
``every=N`` each Nth is yielded and keeps its number. Several SPECs are read side by side, and each
counts for itself: a source and a number name one frame of the run.

Files are read losslessly: every frame, in order, none twice; so is standard input, and a recording
of known length behind an address or pipeline. Of live sources only the newest frame is kept
(``live_source.py``). A file with one of the names above is meant by ``./NAME``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

from srd_edge.errors import SourceError, UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.clips import ClipHeader, open_clip, read_clip, read_streamed
from srd_edge.runtime.found_files import DEMO, Kind, find_files, is_picture, not_a_picture
from srd_edge.runtime.live_source import LiveSource, Patience
from srd_edge.runtime.merged import MergedSource
from srd_edge.runtime.native_output import quiet_opencv
from srd_edge.runtime.pictures import read_picture
from srd_edge.runtime.reader_thread import ReaderThread, on_a_thread
from srd_edge.runtime.source import Source, SourcedFrame, SourceFacts, expected_frames
from srd_edge.runtime.standard_input import NAME, open_standard_input, reads_standard_input
from srd_edge.runtime.streams import Capture, is_camera, is_stream, open_stream, shown


def open_source(
    spec: str,
    *,
    kind: Kind = "any",
    every: int = 1,
    max_frames: int | None = None,
    patience: Patience | None = None,
    say: Callable[[str], object] = lambda _: None,
    name: str | None = None,
) -> Source:
    """Open what ``spec`` names. Clips and streams are opened here, so most bad input fails here.

    Args:
        spec: see the module's text. A file or directory of that name goes before a glob; relative
            paths in a list file count from the list's own folder.
        kind: what the user asked for.
        every: yield every Nth frame, counted over all that ``spec`` names.
        max_frames: stop after that many frames have been yielded.
        patience: with a live source that keeps quiet or is lost.
        say: told in a line, on any thread, when a live source is lost and when it is back.
        name: of a stream, for people; None for its address without what it keeps secret.

    Raises:
        SourceError: for anything that cannot be read, here or while iterating.
        UsageError: for ``every`` or ``max_frames`` below 1.
    """
    for count, value in (("every", every), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise UsageError(expected=f"{count} of at least 1", found=str(value), do="raise it")
    quiet_opencv()
    if reads_standard_input(spec):
        if kind == "image":
            raise not_a_picture(spec, NAME)
        return open_standard_input(spec, every, max_frames)
    if is_stream(spec):
        if kind == "image":
            raise not_a_picture(spec, "a camera" if is_camera(spec) else "a stream")
        stream = name or shown(spec)
        return _open_stream(spec, stream, every, max_frames, patience or Patience(), say)
    return _open_files(spec, kind, every, max_frames)


def open_sources(
    specs: Sequence[str],
    *,
    kind: Kind = "any",
    every: int = 1,
    max_frames: int | None = None,
    patience: Patience | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Source:
    """Open what each of ``specs`` names, as one source; see ``open_source`` and ``merged.py``.

    Of several, a live one that cannot be opened ends alone; anything else that cannot is raised.

    Args:
        specs: at least one, none twice.
        every: counted in each source.
        max_frames: of all sources together.
        kind, patience, say: as for ``open_source``.
    """
    if len(specs) == 1:
        return open_source(
            specs[0], kind=kind, every=every, max_frames=max_frames, patience=patience, say=say
        )
    read = [NAME if reads_standard_input(spec) else spec for spec in specs]
    twice = next((spec for spec in read if read.count(spec) > 1), None)
    if twice is not None or not specs:
        raise UsageError(
            expected="one source, or several that differ",
            found="none" if twice is None else f"'{shown(twice)}' twice",
            do="name each source once",
        )
    with contextlib.ExitStack() as opened:
        sources: list[Source] = []
        for spec, name in zip(specs, _numbered(map(shown, read)), strict=True):
            try:
                source = open_source(
                    spec, kind=kind, every=every, patience=patience, say=say, name=name
                )
            except SourceError as error:
                if not is_stream(spec):
                    raise
                source = ReaderThread(_failing(error), SourceFacts(name, live=True))
            sources.append(opened.enter_context(source))
        merged = MergedSource(sources, max_frames=max_frames, say=say)
        opened.pop_all()
        return merged


def _numbered(names: Iterable[str]) -> list[str]:
    """``names``, of which those that differ in secrets alone are told apart by a number."""
    count = Counter[str]()
    numbered: list[str] = []
    for name in names:
        count[name] += 1
        numbered.append(name if count[name] == 1 else f"{name} ({count[name]})")
    return numbered


def _failing(error: SourceError) -> Generator[SourcedFrame]:
    yield from ()
    raise error


def _open_files(spec: str, kind: Kind, every: int, max_frames: int | None) -> Source:
    paths = find_files(spec, kind)
    headers = [_header(path) for path in paths]
    # "demo" names no file, so a folder may have that name.
    named = {*paths} if spec == DEMO else {*paths, Path(spec).expanduser()}
    counts = [header.frames for header in headers if header.frames is not None]
    fps = next((header.fps for header in headers if header.fps), None)
    facts = SourceFacts(
        name=spec,
        files=len(paths),
        paths=tuple(path.resolve() for path in named),
        frames=expected_frames(sum(counts), every, max_frames)
        if len(counts) == len(headers)
        else None,
        fps=fps / every if fps else None,
    )
    return ReaderThread(_read_files(paths, every), facts, max_frames=max_frames)


def _open_stream(
    spec: str,
    name: str,
    every: int,
    max_frames: int | None,
    patience: Patience,
    say: Callable[[str], object],
) -> Source:
    def open_again() -> Capture:
        return open_stream(spec, patience.stall_s)[0]

    capture, header = on_a_thread(lambda: open_stream(spec, patience.stall_s))
    fps = header.fps / every if header.fps else None
    if header.frames is not None:
        facts = SourceFacts(name, frames=expected_frames(header.frames, every, max_frames), fps=fps)
        frames = read_streamed(capture, header, name, every)
        recording = (SourcedFrame(frame, name) for frame in frames)
        return ReaderThread(recording, facts, max_frames=max_frames)
    opened: Iterator[Capture] = iter((capture,))
    live = LiveSource(
        lambda: next(opened, None) or open_again(),
        SourceFacts(name, frames=max_frames, fps=fps, live=True),
        every=every,
        max_frames=max_frames,
        patience=patience,
        say=say,
    )
    live.start()
    return live


def _read_files(paths: list[Path], every: int) -> Generator[SourcedFrame]:
    numbers = itertools.count()
    for path in paths:
        if not is_picture(path):
            for frame in read_clip(path, numbers, every):
                yield SourcedFrame(frame, str(path))
        elif (number := next(numbers)) % every == 0:
            yield SourcedFrame(Frame(read_picture(path), number), str(path))


def _header(path: Path) -> ClipHeader:
    if is_picture(path):
        return ClipHeader(1, None)
    capture, header = open_clip(path)
    capture.release()
    return header
