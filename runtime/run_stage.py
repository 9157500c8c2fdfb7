"""``srd-edge run``: from a config to an opened source, a loaded defender and written results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from srd_edge.errors import RunError
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.live_source import Patience
from srd_edge.runtime.outputs import check_sources_are_safe, open_page, open_sinks
from srd_edge.runtime.run_config import RunConfig
from srd_edge.runtime.runner import run
from srd_edge.runtime.sinks import STANDARD_OUTPUT, NoReaderError, Sink
from srd_edge.runtime.source import Source
from srd_edge.runtime.sources import open_sources
from srd_edge.runtime.tally import Summary, Tally
from srd_edge.runtime.terminal import is_watched, progress_bar


def run_stage(config: RunConfig, say: Callable[[str], object]) -> Summary:
    """Caption a source, under the defence or without; progress and summary go to standard error.

    Args:
        config: of the run.
        say: told in a line where the live page is, if the provider is not the one asked for, and
            when a live source is lost and when it is back.

    Raises:
        SrdEdgeError: as ``Defender.load``, ``open_source``, the sinks and ``runner.run``; and
            UsageError before any output is opened if one of them is among the source's files, or if
            several frames were to be annotated in one picture.
        NoReaderError: when nobody reads the lines any more.
    """
    patience = Patience(stall_s=config.stall_s, attempts=config.reconnect)
    defender = Defender.load(
        config.bundle,
        budget_ms=config.budget_ms,
        gate_level=config.gate,
        provider=config.provider,
        strict=config.strict,
        defend=config.defend,
    )
    if defender.fallback is not None:
        say(defender.fallback)
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
        check_sources_are_safe(source, config)
        sinks: list[Sink] = []
        for sink in open_sinks(config, source, say):
            stack.callback(sink.close)  # a later one may not open
            sinks.append(sink)
        page = open_page(config, source, sinks, defender.provider)
        if page is not None:
            stack.callback(page.stop)
            say(f"srd-edge: live page at {page.url}")
            sinks.append(page)
        summary = _captioned(config, source, defender, sinks)
        if page is not None:
            with suppress(KeyboardInterrupt):  # which may come as soon as it is asked for
                say("srd-edge: the run has ended; its page stays until Ctrl-C")
                threading.Event().wait()
        return summary


def _captioned(
    config: RunConfig, source: Source, defender: Defender, sinks: Sequence[Sink]
) -> Summary:
    """The run between its progress bar and its summary, which comes whatever ends it."""
    tally = Tally()
    with ExitStack() as stack:
        progress = None
        if not config.quiet:
            stack.callback(_print_summary, tally)
            if config.output != STANDARD_OUTPUT or not is_watched():  # which JSON lines fill
                progress = stack.enter_context(progress_bar(source.frames))
        try:
            return run(
                source,
                defender,
                sinks,
                compare=config.compare,
                strict=config.strict,
                budget_ms=config.budget_ms,
                side_by_side=len(config.sources),
                progress=progress,
                tally=tally,
            )
        except NoReaderError:
            raise
        except BrokenPipeError as error:  # which would pass for it
            raise RunError(
                expected="every --sink to take the results",
                found="a broken pipe in one",
                do="--debug shows in which",
            ) from error


def _print_summary(tally: Tally) -> None:
    from rich.console import Console

    if tally.frames:
        Console(stderr=True).print(tally.summary().table())
