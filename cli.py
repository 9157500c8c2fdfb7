"""The command line: flags mapped to each stage's configuration, and nothing else.

Heavy imports wait inside the commands, so that `srd-edge run` never sees PyTorch and
`srd-edge --help` is quick. What goes to standard output can be piped; words for people go to
standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import click
from click.core import ParameterSource

from srd_edge import __version__
from srd_edge.checkup import CHECKUP
from srd_edge.errors import SrdEdgeError, UsageError
from srd_edge.stopwatch import bench
from srd_edge.usage import Command, Group
from srd_edge.workshop import WORKSHOP

INTERRUPTED: Final = 130
TERMINATED: Final = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


class _Group(Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output has seen enough. Caught here, since click would exit with 1;
            # and what is still buffered must not fail once more when the interpreter ends.
            if sys.stdout is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, package_name="srd-edge")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Defend a captioning model that may be backdoored, on the device."""


@cli.command(cls=Command)
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="SRC",
    help="File, folder, glob, list, `demo`, camera's number, rtsp:// or http:// address, GStreamer"
    " pipeline (gst:...), - (MJPEG or a container on standard input), or raw frames there:"
    " raw:WIDTHxHEIGHT[:rgb24|bgr24|gray|yuv420p|nv12][@FPS]. Several --video are read side by"
    " side.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="SRC",
    help="Picture, folder, glob or list file; more if given again.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
@click.option("--budget-ms", type=float, help="Most milliseconds from a frame to its caption.")
@click.option(
    "--gate",
    type=float,
    is_flag=False,
    flag_value=8.0,
    metavar="[LEVEL]",
    help="Let the caption stand while no part of the picture changes by more grey levels than 8.",
)
@click.option("--every", type=click.IntRange(1), default=1, help="Caption every Nth frame.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many captions.")
@click.option(
    "--stall-s",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    help="Seconds until a live SRC is lost.",
)
@click.option("--reconnect", type=click.IntRange(0), default=20, help="Attempts to get it back.")
@click.option("--provider", type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]), default="auto")
@click.option("--strict", is_flag=True, help="A late frame or a missing provider is an error.")
@click.option("--no-defense", is_flag=True, help="Caption every frame as it is.")
@click.option("--compare", is_flag=True, help="Also say what the undefended model would have said.")
@click.option(
    "-o",
    "output",
    metavar="FILE",
    help="JSON lines, one a frame; - for stdout. Without -o a terminal gets lines to read.",
)
@click.option(
    "--annotate",
    metavar="FILE",
    help="Annotated video (.webm; browsers play no .mp4 or .avi of ours), picture (.png, .jpg), or"
    " FOLDER/ of pictures.",
)
@click.option("--srt", metavar="FILE", help="Captions of one SRC as subtitles (.srt).")
@click.option(
    "--mqtt",
    envvar="SRD_EDGE_MQTT",
    metavar="URL",
    help="Publish each result: mqtt://[user:password@]host[:port]/topic, or mqtts://.",
)
@click.option(
    "--webhook", envvar="SRD_EDGE_WEBHOOK", metavar="URL", help="Post each result, as JSON."
)
@click.option(
    "--sink",
    "sinks",
    metavar="SPEC",
    multiple=True,
    help="A sink of your own: NAME[:key=value,...], package.module:object or file.py:object.",
)
@click.option("--serve", metavar="[HOST:]PORT", help="A live page for a browser, until Ctrl-C.")
@click.option("--metrics", metavar="[HOST:]PORT", help="Figures for Prometheus.")
@click.option("--token", envvar="SRD_EDGE_TOKEN", help="What viewers of the live page need.")
@click.option("--quiet", is_flag=True, help="No progress bar, no summary and no advice.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    videos: tuple[str, ...],
    images: tuple[str, ...],
    no_defense: bool,
    **flags: Any,
) -> None:
    """Caption a video or pictures under the defence."""
    if bool(videos) == bool(images):
        raise UsageError(
            expected="either --video SRC or --image SRC",
            found="both" if videos else "neither",
            do="try `srd-edge run --video demo`",
        )
    if flags["serve"] is None and ctx.get_parameter_source("token") is ParameterSource.COMMANDLINE:
        raise UsageError(
            expected="--serve with --token",
            found="no live page that needs one",
            do="add --serve 8000, or leave --token out",
        )
    with nullcontext() if flags["budget_ms"] is None else _captioner_on_its_way():
        from srd_edge.runtime.native_output import native_stderr_muted
        from srd_edge.runtime.run_config import RunConfig
        from srd_edge.runtime.run_stage import run_stage

        kind: Literal["video", "image"] = "image" if images else "video"
        config = RunConfig(sources=videos or images, kind=kind, defend=not no_defense, **flags)
        if config.bundle is None and config.sources != ("demo",) and not config.quiet:
            _say(
                "srd-edge: the built-in captioner knows the drawn scenes of `demo` and nothing"
                " else; name one of your own by --bundle"
            )
        # OpenCV's libraries print there on their own; our own words keep the real stream.
        with nullcontext() if ctx.find_root().params["debug"] else native_stderr_muted():
            run_stage(config, _say)


def _captioner_on_its_way() -> AbstractContextManager[None]:
    """The process that captions within a budget, started before anything heavy is imported."""
    from srd_edge.runtime.captioning_link import started_early

    return started_early()


for command in (*WORKSHOP, bench, *CHECKUP):
    cli.add_command(command)


def _say(line: str) -> None:
    if sys.stderr is not None:
        with suppress(BrokenPipeError):  # nobody reads what is said; that is no reason to end
            print(line, file=sys.stderr, flush=True)  # click's echo would write into the bar


def main() -> None:
    """Run the command line and exit with the documented code."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(arguments) < len(sys.argv[1:])
    # Before numpy and OpenCV are loaded: our products and pictures are small, and on a busy device
    # a second thread makes each wait for the scheduler (resizing took twenty times as long).
    for threads in ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(threads, "1")
    with _terminated_by_signal():
        code = _run(["--debug", *arguments] if debug else arguments, debug=debug)
    _leave(code)


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    """Run a command; its exit code, after a line about what went wrong."""
    try:
        return int(cli.main(arguments, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__ or error, Terminated):  # click makes an Abort of it
            _say("srd-edge: terminated")
            return TERMINATED
        _say("srd-edge: interrupted")
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        line, code = _told(error)
        _say(f"srd-edge: error: {line}")
        return code


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """Raise Terminated at SIGTERM, once: the clean-up is not interrupted by another.

    The signal alone does nothing to the first process of a container, and ends any other at once,
    with its files as they are then.
    """

    def terminate(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(code: int) -> NoReturn:
    """Exit; at once where a thread of ours is stuck in a read that never came back.

    An interpreter that ends in the ordinary way destroys what such a thread stands on, inside
    OpenCV, and the process now and then aborts or hangs.
    """
    if any(thread.name.startswith("srd-edge ") for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError):  # it may have been closed before we began
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int]:
    """An error as one line, and the exit code."""
    if isinstance(error, SrdEdgeError):
        return str(error), error.exit_code
    found = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {found}; --debug shows where", 1
