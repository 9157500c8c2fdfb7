"""The sinks that a run's configuration asks for, opened; and that none destroys what is read.

A sink is imported when it is asked for: few runs want more than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from srd_edge.errors import UsageError
from srd_edge.runtime.addresses import parse_address
from srd_edge.runtime.annotated_video import AnnotatedVideo
from srd_edge.runtime.run_config import RunConfig
from srd_edge.runtime.sinks import STANDARD_OUTPUT, JsonLines, Lossy, Sink
from srd_edge.runtime.source import Source
from srd_edge.runtime.stills import AnnotatedPicture, AnnotatedPictures, form_of
from srd_edge.runtime.subtitles import Subtitles
from srd_edge.runtime.terminal import ReadableLines, is_watched

if TYPE_CHECKING:
    from srd_edge.runtime.live.page import LivePage


def check_sources_are_safe(source: Source, config: RunConfig) -> None:
    """Refuse outputs that are among the files to be read, or their folder.

    Raises:
        UsageError: for the first of them.
    """
    read = source.paths
    folders = {path.parent for path in read if path.is_file()}
    for path in config.outputs:
        if path in read or path in folders:
            raise UsageError(
                expected="outputs that are not among the files to be read, nor their folder",
                found=f"'{path}' in '{source.name}'",
                do="choose another name with -o, --annotate or --srt, or move it out of the source",
            )


def open_sinks(config: RunConfig, source: Source, say: Callable[[str], object]) -> Iterator[Sink]:
    """The sinks, opened one after the other; files first, which are not touched by it.

    Args:
        config: of the run.
        source: what is captioned.
        say: told in a line where something is served, what cannot be delivered, and where a video
            will not play.

    Raises:
        UsageError: if several frames were to be annotated in one picture, or where a sink's
            library is not installed.
        RunError: from a sink that cannot be written.
    """
    if config.output is not None or not config.goes_elsewhere:
        yield _lines(config)
    if config.annotate is not None:
        if Path(config.annotate).suffix.lower() == ".mp4":
            say(f"srd-edge: browsers do not play '{config.annotate}'; name a .webm for them")
        yield _annotating(config, config.annotate, source)
    if config.srt is not None:
        yield Subtitles(config.srt, source.fps)
    lossy: list[Lossy] = []
    for spec in config.sinks:
        from srd_edge.runtime.own_sinks import own_sink

        sink = own_sink(spec)
        lossy += [sink] if isinstance(sink, Lossy) else []
        yield sink
    if config.mqtt is not None:
        from srd_edge.runtime.mqtt import Mqtt
        from srd_edge.runtime.outbox import Outbox

        outbox = Outbox(Mqtt(config.mqtt), say)
        lossy.append(outbox)
        yield outbox
    if config.webhook is not None:
        from srd_edge.runtime.outbox import Outbox
        from srd_edge.runtime.webhook import Webhook

        outbox = Outbox(Webhook(config.webhook), say)
        lossy.append(outbox)
        yield outbox
    if config.metrics is None and config.serve is None:
        return
    from srd_edge.runtime.metrics import Metrics

    metrics = Metrics(fps=source.fps, budget_ms=config.budget_ms, lossy=lossy)
    yield metrics
    if config.metrics is not None:
        address = metrics.serve(parse_address(config.metrics))
        say(f"srd-edge: metrics at {address.url}metrics")


def open_page(
    config: RunConfig, source: Source, sinks: Sequence[Sink], provider: str
) -> LivePage | None:
    """The live page, served from now on; None if none was asked for.

    Args:
        config: of the run.
        source: what is captioned; the page says how it fares.
        sinks: the others, whose figures and losses the page shows.
        provider: where the graphs run.

    Raises:
        UsageError: where its libraries are not installed.
        RunError: if its address cannot be listened on.
    """
    if config.serve is None:
        return None
    from srd_edge.runtime.live.board import About
    from srd_edge.runtime.live.faring import Faring
    from srd_edge.runtime.live.page import LivePage
    from srd_edge.runtime.metrics import Metrics

    about = About(
        source=source.name,
        live=source.live,
        frames=source.frames,
        fps=source.fps,
        budget_ms=config.budget_ms,
        defended=config.defend,
        compared=config.compare,
        provider=provider,
    )
    lossy = [sink for sink in sinks if isinstance(sink, Lossy)]
    metrics = next(sink for sink in sinks if isinstance(sink, Metrics))

    def faring() -> Faring:
        return Faring(tuple(source.statuses), {sink.name: sink.lost for sink in lossy})

    return LivePage(parse_address(config.serve), about, config.token, faring, metrics.text)


def _lines(config: RunConfig) -> Sink:
    if config.output is None and is_watched():
        return ReadableLines(timed=config.kind != "image")
    return JsonLines(config.output or STANDARD_OUTPUT)


def _annotating(config: RunConfig, name: str, source: Source) -> Sink:
    form = form_of(name)
    if form == "video":
        return AnnotatedVideo(name, source.fps, meanwhile=config.budget_ms is None)
    if form == "folder":
        # The list or folder that was asked for is among the paths too, unless it is all there is.
        asked = [Path(spec).expanduser().resolve() for spec in config.sources]
        files = [path.name for path in source.paths if path not in asked]
        only = files[0] if files else asked[0].name if source.paths else "stream"
        reserved = {*source.paths, *config.outputs}
        return AnnotatedPictures(name, only="live" if source.live else only, reserved=reserved)
    if source.frames != 1 and config.max_frames != 1:
        count = "an unknown number" if source.frames is None else str(source.frames)
        raise UsageError(
            expected=f"a single frame for the picture '{name}'",
            found=f"{count} in '{source.name}'",
            do="name a folder (with / at its end) or a video, or add --max-frames 1",
        )
    return AnnotatedPicture(name)
