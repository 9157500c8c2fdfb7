"""``srd-edge run``: from a config to an opened source, a loaded defender and written results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from srd_edge.errors import UsageError
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.found_files import Kind
from srd_edge.runtime.live import ATTEMPTS, STALL_S, Patience
from srd_edge.runtime.runner import Summary, Tally, progress_bar, run
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.sinks import STANDARD_OUTPUT, AnnotatedVideo, JsonLines, Sink
from srd_edge.runtime.source import Source
from srd_edge.runtime.sources import open_sources
from srd_edge.runtime.stills import AnnotatedPicture, AnnotatedPictures, form_of


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What is captioned, how, and where the results go.

    Args:
        sources: SRCs as in ``srd_edge.runtime.sources``, read side by side.
        kind: what the user takes it for.
        bundle: a directory; None for the built-in one.
        budget_ms: most milliseconds from a frame to its caption; None for as long as it takes.
        every: caption every Nth frame.
        max_frames: stop after so many captions; None for all.
        stall_s: a live source without a frame for so many seconds is lost.
        reconnect: attempts to get a lost live source back.
        provider: the execution provider.
        strict: whether a late frame or a missing provider is an error.
        defend: False captions every frame as it is.
        compare: also ask what the undefended model would have said.
        output: file of JSON lines, "-" for standard output; None for that too, unless annotating.
        annotate: a video, a picture (of the only frame) or a folder (a picture a frame), or None.
        quiet: no progress bar and no summary.

    Raises:
        UsageError: for a name to annotate that is none of these, or two outputs in one file.
    """

    sources: tuple[str, ...]
    kind: Kind = "any"
    bundle: Path | None = None
    budget_ms: float | None = None
    every: int = 1
    max_frames: int | None = None
    stall_s: float = STALL_S
    reconnect: int = ATTEMPTS
    provider: Provider = "auto"
    strict: bool = False
    defend: bool = True
    compare: bool = False
    output: str | None = None
    annotate: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.annotate is not None:
            form_of(self.annotate)
        if len(set(self.outputs)) < len(self.outputs):
            raise UsageError(
                expected="outputs that differ from each other",
                found=f"'{self.outputs[0]}' twice",
                do="choose another name with -o or --annotate",
            )

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What will be written, files or a folder, resolved."""
        names = (self.output, self.annotate)
        return tuple(Path(name).resolve() for name in names if name not in (None, STANDARD_OUTPUT))


def run_stage(config: RunConfig, say: Callable[[str], object]) -> Summary:
    """Caption a source under the defence; progress and summary go to standard error.

    Args:
        config: of the run.
        say: told in one line when the provider is not the one asked for, when a live source is lost
            and when it is back.

    Raises:
        SrdEdgeError: as ``Defender.load``, ``open_source``, the sinks and ``runner.run``; and
            UsageError before any output is opened if one of them is among the source's files, or if
            several frames were to be annotated in one picture.
        BrokenPipeError: when the reader of standard output has gone.
    """
    patience = Patience(stall_s=config.stall_s, attempts=config.reconnect)
    defender = Defender.load(
        config.bundle,
        budget_ms=config.budget_ms,
        provider=config.provider,
        strict=config.strict,
        defend=config.defend,
    )
    if defender.fallback is not None:
        say(defender.fallback)
    tally = Tally()
    with ExitStack() as stack:
        source = stack.enter_context(
            open_sources(
                config.sources,
                kind=config.kind,
                every=config.every,
                max_frames=config.max_frames,
                patience=patience,
                say=say,
            )
        )
        _check_sources_are_safe(source, config)
        sinks = _open_sinks(config, source)
        progress = None
        if not config.quiet:
            stack.callback(_print_summary, tally)
            progress = stack.enter_context(progress_bar(source.frames))
        return run(
            source,
            defender,
            sinks,
            compare=config.compare,
            strict=config.strict,
            progress=progress,
            tally=tally,
        )


def _check_sources_are_safe(source: Source, config: RunConfig) -> None:
    read = source.paths
    folders = {path.parent for path in read if path.is_file()}
    for path in config.outputs:
        if path in read or path in folders:
            raise UsageError(
                expected="outputs that are not among the files to be read, nor their folder",
                found=f"'{path}' in '{source.name}'",
                do="choose another name with -o or --annotate, or move it out of the source",
            )


def _open_sinks(config: RunConfig, source: Source) -> list[Sink]:
    """The sinks; none touches its file before the first frame, so none is closed before it."""
    sinks: list[Sink] = []
    if config.output is not None or config.annotate is None:
        sinks.append(JsonLines(config.output or STANDARD_OUTPUT))
    if config.annotate is not None:
        sinks.append(_annotating(config, config.annotate, source))
    return sinks


def _annotating(config: RunConfig, name: str, source: Source) -> Sink:
    form = form_of(name)
    if form == "video" and len(config.sources) > 1:
        raise UsageError(
            expected=f"one source for the video '{name}'",
            found=f"{len(config.sources)}: their pictures would take turns",
            do="name a folder of pictures (with / at its end), or run each source for itself",
        )
    if form == "video":
        return AnnotatedVideo(name, source.fps)
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


def _print_summary(tally: Tally) -> None:
    from rich.console import Console

    if len(tally.total_ms):
        Console(stderr=True).print(tally.summary().table())
