"""The command that measures: bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from srd_edge.usage import Command
from srd_edge.workshop_parts import quiet_transformers


@click.command(cls=Command)
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
@click.option("--video", "source", metavar="SRC", default="demo", help="As for `srd-edge run`.")
@click.option("--frames", type=click.IntRange(2), default=300, help="Of each contestant.")
@click.option("--warm-up", type=click.IntRange(0), default=20, help="Frames that do not count.")
@click.option("--budget-ms", type=float, help="Most milliseconds from a frame to its caption.")
@click.option(
    "--gate",
    type=float,
    is_flag=False,
    flag_value=8.0,
    metavar="[LEVEL]",
    help="Also measure `srd-edge run --gate` before a scene that stands still: the first frame of"
    " SRC again and again, each pixel up to 2 grey levels off.",
)
@click.option("--provider", type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]), default="auto")
@click.option("--strict", is_flag=True, help="A missing provider is an error.")
@click.option("--captioner", help="What the bundle was made of, for PyTorch eager beside it.")
@click.option(
    "--start/--no-start", default=True, help="Start fresh processes too; not for standard input."
)
@click.option("-o", "output", type=click.Path(path_type=Path), help="The JSON document, too.")
def bench(captioner: str | None, output: Path | None, **flags: Any) -> None:
    """Measure what a bundle costs: defended beside undefended, and beside PyTorch.

    The last line of output is one JSON document.
    """
    from rich.console import Console

    from srd_edge.runtime.bench import BenchConfig, table
    from srd_edge.runtime.bench import bench as measure
    from srd_edge.runtime.native_output import quiet_opencv
    from srd_edge.runtime.terminal import progress_bar

    quiet_opencv()
    peers = {}
    config = BenchConfig(**flags)
    if captioner is not None:
        from srd_edge.evaluation.eager import EagerCaptioner

        quiet_transformers()
        peers["pytorch eager"] = EagerCaptioner(captioner, config.bundle).caption
    with progress_bar(config.frames + config.warm_up, "rounds") as progress:
        report = measure(config, peers, progress)
    Console(stderr=True).print(table(report))
    text = json.dumps(report)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    click.echo(text)
