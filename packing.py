"""The command that packs a captioner into a bundle: export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from srd_edge.usage import Command
from srd_edge.workshop_parts import OUTPUT, quiet_transformers, say, say_next


@click.command(cls=Command)
@click.option("--captioner", required=True, help="Directory or hub name.")
@click.option("--policy", type=click.Path(path_type=Path), help="What `srd-edge train` wrote.")
@OUTPUT
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    help="Default: the target's, or fp32.",
)
@click.option(
    "--target",
    default="",
    show_default=False,
    help="cpu, cuda, tensorrt, jetson-orin, jetson-thor, ... Default: none in particular.",
)
@click.option("--data", default="scenes", help="Pictures for calibration and parity.")
@click.option(
    "--prompt",
    default="",
    show_default=False,
    help="What captions go on from, or the question to a model. Default: its family's own.",
)
@click.option("--beams", type=click.IntRange(1, 64), help="1 for greedy. Default: the model's own.")
@click.option(
    "--max-tokens",
    "max_new_tokens",
    type=click.IntRange(1, 4096),
    help="Longest caption. Default: the model's own.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    help="Largest canvas, for models that look at pictures of any size. Default: the model's own.",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is already there.")
def export(data: str, **flags: Any) -> None:
    """Export a captioner and its policy to a verified ONNX bundle.

    A directory of graphs in the layout of transformers.js or optimum is taken as it is.
    """
    from srd_edge.export.hub_layout import holds_graphs

    if holds_graphs(flags["captioner"]):
        _bundle_directory(flags)
        return
    quiet_transformers()
    from srd_edge.export.bundle_export import ExportConfig, export_bundle
    from srd_edge.export.targets import choose_precision, find_target
    from srd_edge.training.datasets import open_dataset

    precision = choose_precision(flags["target"], flags.pop("precision"))
    config = ExportConfig(precision=precision, **flags)
    export_bundle(config, open_dataset(data, "dev", 500), say)
    if config.target:
        device = find_target(config.target)
        say(f"{device.name} needs {device.needs}; {device.install}")
        bare = ["--no-defense"] * (config.policy is None)
        say_next(config.output, *device.next_command(config.output), *bare)
        return
    if config.policy is None:
        _say_run(config.output)
    else:
        say_next(config.output, "evaluate", "--bundle", config.output, "--data", data)


def _bundle_directory(flags: dict[str, Any]) -> None:
    """``export`` of graphs that are there already; PyTorch and transformers stay out."""
    from srd_edge.errors import UsageError
    from srd_edge.export.onnx_directory import OnnxDirectoryConfig, bundle_directory

    source = click.get_current_context().get_parameter_source
    pointless = ("policy", "data", "target")
    given = [name for name in pointless if source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise UsageError(
            expected="no --policy, --data or --target for a captioner that is ONNX already",
            found=f"--{given[0]}",
            do="leave it out, or export the captioner from its PyTorch weights",
        )
    precision = flags.pop("precision") or "fp32"
    del flags["policy"], flags["target"]
    captioner = Path(flags.pop("captioner"))
    config = OnnxDirectoryConfig(captioner=captioner, precision=precision, **flags)
    bundle_directory(config, say)
    _say_run(config.output)


def _say_run(bundle: Path) -> None:
    say_next(bundle, "run", "--bundle", bundle, "--video", "demo", "--no-defense")
