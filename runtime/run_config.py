"""What ``srd-edge run`` is told, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from srd_edge.errors import UsageError
from srd_edge.runtime.addresses import check_webhook, parse_address
from srd_edge.runtime.found_files import Kind
from srd_edge.runtime.live.access import choose_token
from srd_edge.runtime.live_source import ATTEMPTS, STALL_S
from srd_edge.runtime.mqtt import parse_mqtt
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.sinks import STANDARD_OUTPUT
from srd_edge.runtime.stills import form_of
from srd_edge.runtime.subtitles import named_subtitles


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What is captioned, how, and where the results go.

    Args:
        sources: SRCs as in ``srd_edge.runtime.sources``, read side by side.
        kind: what the user takes it for.
        bundle: a directory; None for the built-in one.
        budget_ms: most milliseconds from a frame to its caption; None for as long as it takes.
        gate: grey levels that a part of the picture may change by while the last caption stands;
            None captions every frame anew.
        every: caption every Nth frame.
        max_frames: stop after so many captions; None for all.
        stall_s: a live source without a frame for so many seconds is lost.
        reconnect: attempts to get a lost live source back.
        provider: the execution provider.
        strict: whether a late frame or a missing provider is an error.
        defend: False captions every frame as it is.
        compare: also ask what the undefended model would have said.
        output: file of JSON lines, "-" for standard output; None for that too, or for lines to read
            where that is a terminal, unless the results go elsewhere.
        annotate: a video, a picture (of the only frame) or a folder (a picture a frame), or None.
        srt: file of subtitles, or None.
        mqtt: address of a broker and topic, or None.
        webhook: web address that results are posted to, or None.
        sinks: SPECs of other packages' sinks, as in ``srd_edge.runtime.own_sinks``.
        serve: PORT or HOST:PORT of the live page, or None.
        metrics: PORT or HOST:PORT of the figures for Prometheus, or None.
        token: that viewers of the page need; None for one that is made where others can reach it.
        quiet: no progress bar and no summary.

    Raises:
        UsageError: for a name that does not say what is to be written, two outputs in one file, or
            several sources in a video or subtitles, which have one time.
    """

    sources: tuple[str, ...]
    kind: Kind = "any"
    bundle: Path | None = None
    budget_ms: float | None = None
    gate: float | None = None
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
    srt: str | None = None
    mqtt: str | None = field(default=None, repr=False)
    webhook: str | None = field(default=None, repr=False)
    sinks: tuple[str, ...] = ()
    serve: str | None = None
    token: str | None = field(default=None, repr=False)
    metrics: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.annotate is not None and form_of(self.annotate) == "video":
            self._check_sources(self.annotate)
        if self.srt is not None:
            named_subtitles(self.srt)
            self._check_sources(self.srt)
        if self.serve is not None:
            choose_token(parse_address(self.serve), self.token)
        if self.mqtt is not None:
            parse_mqtt(self.mqtt)
        if self.webhook is not None:
            check_webhook(self.webhook)
        if self.metrics is not None:
            parse_address(self.metrics)
        outputs = self.outputs
        twice = next((path for path in outputs if outputs.count(path) > 1), None)
        if twice is not None:
            raise UsageError(
                expected="outputs that differ from each other",
                found=f"'{twice}' twice",
                do="choose another name with -o, --annotate or --srt",
            )

    @property
    def goes_elsewhere(self) -> bool:
        """Whether results go anywhere else than into ``output``."""
        others = (self.annotate, self.srt, self.mqtt, self.webhook, self.serve)
        return bool(self.sinks) or any(other is not None for other in others)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What will be written, files or a folder, resolved."""
        names = (self.output, self.annotate, self.srt)
        return tuple(Path(name).resolve() for name in names if name not in (None, STANDARD_OUTPUT))

    def _check_sources(self, name: str) -> None:
        if len(self.sources) > 1:
            raise UsageError(
                expected=f"one source for '{name}'",
                found=f"{len(self.sources)}, whose frames would take turns in it",
                do="run each source for itself; -o and a folder of pictures (--annotate FOLDER/)"
                " take several",
            )
