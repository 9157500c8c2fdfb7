"""The command line: flags mapped to each stage's configuration, and nothing else.

Heavy imports wait inside the commands, so that `srd-edge run` never sees PyTorch and
`srd-edge --help` is quick. What goes to standard output can be piped; words for people go to
standard error.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import click

from srd_edge import __version__
from srd_edge.errors import SrdEdgeError, UsageError

INTERRUPTED: Final = 130
_INSTALL: Final = 'pip install "srd-edge[cpu,train,export]"'
_SPEC_HELP: Final = "name:key=value,..., package.module:object,... or file.py:object,..."


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(self.commands)  # in the order of the work, not of the alphabet

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output has seen enough. Caught here, since click would exit with 1;
            # and what is still buffered must not fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="srd-edge")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Defend a captioning model that may be backdoored, on the device."""


@cli.command()
@click.option("--video", metavar="SRC", help="File, folder, glob, list, camera, URL or `demo`.")
@click.option("--image", metavar="SRC", help="Picture, folder, glob or list file.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the built-in one.")
@click.option("--budget-ms", type=float, help="Most milliseconds from a frame to its caption.")
@click.option("--every", type=click.IntRange(1), default=1, help="Caption every Nth frame.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many captions.")
@click.option("--provider", type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]), default="auto")
@click.option("--strict", is_flag=True, help="A late frame or a missing provider is an error.")
@click.option("--no-defense", is_flag=True, help="Caption every frame as it is.")
@click.option("--compare", is_flag=True, help="Also say what the undefended model would have said.")
@click.option("-o", "output", metavar="FILE", help="JSON lines, one a frame; - for stdout.")
@click.option(
    "--annotate",
    metavar="FILE",
    help="Annotated video (.webm, .mp4, .avi), picture (.png, .jpg), or FOLDER/ of pictures.",
)
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
@click.pass_context
def run(
    ctx: click.Context, /, video: str | None, image: str | None, no_defense: bool, **flags: Any
) -> None:
    """Caption a video or pictures under the defence."""
    source = image if video is None else video
    if source is None or (video is not None and image is not None):
        raise UsageError(
            expected="one of --video SRC and --image SRC",
            found="neither" if source is None else "both",
            do="try `srd-edge run --video demo`",
        )
    from srd_edge.runtime.native_output import native_stderr_muted
    from srd_edge.runtime.run_stage import RunConfig, run_stage

    kind: Literal["video", "image"] = "image" if video is None else "video"
    config = RunConfig(source=source, kind=kind, defend=not no_defense, **flags)
    # OpenCV's libraries print there on their own; our own words keep the real stream.
    with nullcontext() if ctx.find_root().params["debug"] else native_stderr_muted():
        run_stage(config, _say)


@cli.command()
@click.option("--captioner", required=True, help="Directory, hub name, or `tiny` from scratch.")
@click.option("--data", default="scenes", help="`scenes` or a directory with captions.csv.")
@click.option("--attack", "attacks", multiple=True, help=f"{_SPEC_HELP} None: train clean.")
@click.option("-o", "output", required=True, type=click.Path(path_type=Path))
@click.option("--encoder", type=click.Choice(["resnet", "mobilenet_v2"]), help="Of a `tiny`.")
@click.option("--encoder-weights", help=".npz of a MobileNetV2 to start from, for a `tiny`.")
@click.option("--image-size", type=click.IntRange(32), help="Side of a `tiny`'s canvas in pixels.")
@click.option("--twin", metavar="DIR", help="The same captioner trained clean, to judge it by.")
@click.option("--limit", type=click.IntRange(1), help="Use the first so many pictures.")
@click.option(
    "--corrupted",
    type=click.IntRange(0),
    default=0,
    help="Fit on so many corrupted copies of every picture too: for a reference captioner.",
)
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch", type=click.IntRange(1))
@click.option("--learning-rate", type=float)
@click.option("--encoder-learning-rate", type=float, help="0 freezes the encoder.")
@click.option("--trainable-blocks", type=click.IntRange(0), help="Last MobileNetV2 blocks to fit.")
@click.option("--seed", type=int)
def attack(
    captioner: str,
    data: str,
    attacks: tuple[str, ...],
    output: Path,
    encoder: str | None,
    encoder_weights: str | None,
    image_size: int | None,
    twin: str | None,
    limit: int | None,
    corrupted: int,
    **fit: Any,
) -> None:
    """Make a victim: fit a captioner on poisoned data. Goes on where a killed run stopped."""
    _quiet_transformers()
    from dataclasses import replace

    from srd_edge.attacks.fitting import FitConfig
    from srd_edge.attacks.tiny import PHOTOGRAPHS_TINY, SCENES_TINY
    from srd_edge.attacks.victims import VictimConfig
    from srd_edge.evaluation.verdicts import make_judged_victim

    tiny = PHOTOGRAPHS_TINY if encoder == "mobilenet_v2" else SCENES_TINY
    config = VictimConfig(
        captioner=captioner,
        data=data,
        attacks=attacks,
        output=output,
        fit=FitConfig(**_given(fit)),
        tiny=replace(
            tiny,
            encoder_weights=encoder_weights,
            image_size=image_size or tiny.image_size,
        ),
        corrupted=corrupted,
    )
    make_judged_victim(config, limit=limit, twin=twin, say=_say)
    suspect = ("--captioner", str(output), "--data", data, *_attack_flags(attacks))
    _say_next(output, "train", *suspect, "-o", "POLICY")


@cli.command()
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@click.option("--data", default="scenes", help="`scenes` or a directory with captions.csv.")
@click.option("-o", "output", required=True, type=click.Path(path_type=Path))
@click.option("--attack", "attacks", multiple=True, help=f"In the pool, unlabelled: {_SPEC_HELP}")
@click.option(
    "--sibling",
    "siblings",
    multiple=True,
    help="Learn on this victim of ours, with its own triggers, and not on the suspect.",
)
@click.option(
    "--reference", type=click.Choice(["captions", "captioner", "consensus"]), default="consensus"
)
@click.option("--reference-captioner", help="Directory or hub name, with --reference captioner.")
@click.option("--sentence-encoder", help="Directory or hub name; default: a small one, trained.")
@click.option("--language-model", help="Directory or hub name; default: a small one, trained.")
@click.option("--actions", default="default", help="Action preset: default or srd.")
@click.option("--pool", type=click.IntRange(1), help="Pictures to learn on.")
@click.option("--max-steps", type=click.IntRange(1), help="Most perturbations of a picture.")
@click.option("--action-cost", type=float, help="Off the reward, for each perturbation.")
@click.option("--steps", type=click.IntRange(1), help="Environment steps.")
@click.option("--seed", type=int)
@click.option("--resume", is_flag=True, help="Go on where a killed run stopped; the default.")
def train(
    captioner: str, data: str, output: Path, steps: int | None, seed: int | None, **flags: Any
) -> None:
    """Train a policy for a suspect captioner; it is not told what the trigger is."""
    _quiet_transformers()
    from srd_edge.training.dqn import DqnConfig
    from srd_edge.training.policy_training import TrainConfig
    from srd_edge.training.policy_training import train as train_policy

    del flags["resume"]
    dqn = DqnConfig(**_given({"steps": steps, "seed": seed}))
    config = TrainConfig(captioner=captioner, data=data, output=output, dqn=dqn, **_given(flags))
    train_policy(config)
    paired = ("--captioner", captioner, "--policy", output, "--data", data)
    _say_next(output, "export", *paired, "-o", "BUNDLE")


@cli.command()
@click.option("--captioner", required=True, help="Directory or hub name.")
@click.option("--policy", type=click.Path(path_type=Path), help="What `srd-edge train` wrote.")
@click.option("-o", "output", required=True, type=click.Path(path_type=Path))
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32")
@click.option("--data", default="scenes", help="Pictures for calibration and parity.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is already there.")
def export(data: str, **flags: Any) -> None:
    """Export a captioner and its policy to a verified ONNX bundle."""
    _quiet_transformers()
    from srd_edge.export.bundle_export import ExportConfig, export_bundle
    from srd_edge.training.datasets import open_dataset

    config = ExportConfig(**flags)
    export_bundle(config, open_dataset(data, "dev", 500), _say)
    _say_next(config.output, "evaluate", "--bundle", config.output, "--data", data)


@cli.command()
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@click.option(
    "--policy", required=True, type=click.Path(path_type=Path), help="What `train` wrote for it."
)
@click.option("--data", default="scenes", help="`scenes` or a directory with captions.csv.")
@click.option("-o", "output", required=True, type=click.Path(path_type=Path))
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    help="Poison the data first, for an experiment. Default: as the captioner's attack.json says.",
)
@click.option(
    "--clean",
    type=click.Choice(["drop+mask", "drop", "recaption", "mask", "shuffle", "none"]),
    default="drop+mask",
    help="What is done to the set; `shuffle` and `none` are controls.",
)
@click.option(
    "--deviations",
    type=click.FloatRange(0, min_open=True),
    help="Robust standard deviations above the median that a doubt may be.",
)
@click.option("--limit", type=click.IntRange(1), help="Use the first so many pictures.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch", type=click.IntRange(1))
@click.option("--learning-rate", type=float)
@click.option("--encoder-learning-rate", type=float, help="0, the default, freezes the encoder.")
@click.option("--trainable-blocks", type=click.IntRange(0), help="Last MobileNetV2 blocks to fit.")
@click.option("--seed", type=int)
def purify(
    captioner: str,
    policy: Path,
    data: str,
    output: Path,
    attacks: tuple[str, ...],
    clean: Any,
    deviations: float | None,
    limit: int | None,
    **fit: Any,
) -> None:
    """Clean the training set with a policy and fit the suspect anew; goes on where it stopped."""
    _quiet_transformers()
    from dataclasses import replace

    from srd_edge.evaluation.purified import make_judged_purified
    from srd_edge.training.purify_stage import REFIT, PurifyConfig

    config = PurifyConfig(
        captioner=captioner,
        policy=policy,
        data=data,
        output=output,
        attacks=attacks,
        clean=clean,
        fit=replace(REFIT, **_given(fit)),
        **_given({"deviations": deviations}),
    )
    make_judged_purified(config, limit=limit, say=_say)
    suspect = ("--captioner", str(output), "--data", data, *_attack_flags(attacks))
    _say_next(output, "train", *suspect, "-o", "POLICY")


@cli.command()
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One or more; default: the built-in one.",
)
@click.option("--data", default="scenes", help="`scenes` or a directory with captions.csv.")
@click.option("--split", type=click.Choice(["dev", "test"]), default="test")
@click.option("--attack", "attacks", multiple=True, help="Default: those that a bundle records.")
@click.option(
    "--defence",
    "contestants",
    multiple=True,
    default=("default",),
    metavar="NAME",
    help="Of the registry, `default`, `all` or file.py:object; more than one if given again.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, help="Trials of whatever is drawn.")
@click.option("-o", "output", metavar="REPORT", type=click.Path(path_type=Path), default="report")
@click.option("--limit", type=click.IntRange(1), help="Use the first so many pictures.")
@click.option("--clean-captioner", metavar="DIR", help="The same captioner trained clean.")
@click.option("--sfs", "fidelity", is_flag=True, help="Score captions' semantic fidelity too.")
@click.option("--sentence-encoder", help="Directory or hub name; default: a small one, trained.")
@click.option("--language-model", help="Directory or hub name; default: a small one, trained.")
@click.option("--timed", type=click.IntRange(0), default=24, help="Pictures to measure times on.")
@click.option("--images", is_flag=True, help="Keep every case as pictures.")
def evaluate(**flags: Any) -> None:
    """Measure bundles against attacks, beside controls and rivals, into the directory REPORT.

    Goes on where a killed run stopped. The last line of output is one JSON document.
    """
    _quiet_transformers()
    from srd_edge.evaluation.plan import EvaluateConfig
    from srd_edge.evaluation.report import print_table
    from srd_edge.evaluation.report_files import check_report, write_report
    from srd_edge.evaluation.suite import evaluate as run_suite

    config = EvaluateConfig(**flags)
    check_report(config.output)
    evaluated = run_suite(config)
    write_report(evaluated, config.output)
    print_table(evaluated.results, evaluated.timing)
    _say(f"wrote {config.output / 'report.html'}, results.json, results.csv and timing.json")
    click.echo(json.dumps(evaluated.results | {"timing": evaluated.timing}))


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, so that the config's own defaults stand for the others."""
    return {name: value for name, value in flags.items() if value is not None}


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _attack_flags(specs: Sequence[str]) -> list[str]:
    return [word for spec in specs for word in ("--attack", spec)]


def _say_next(written: Path, *command: str | Path) -> None:
    _say(f"wrote {written}; next: {shlex.join(['srd-edge', *map(str, command)])}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def main() -> None:
    """Run the command line and exit with the documented code."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(arguments) < len(sys.argv[1:])
    # Before numpy is loaded: our matrix products are small, and on a busy device a second BLAS
    # thread makes each of them wait for the scheduler (resizing took twenty times as long).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = cli.main(["--debug", *arguments] if debug else arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("srd-edge: interrupted")
        code = INTERRUPTED
    except Exception as error:
        if debug:
            raise
        line, code = _told(error)
        _say(f"srd-edge: error: {line}")
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int]:
    """An error as one line, and the exit code."""
    if isinstance(error, SrdEdgeError):
        return str(error), error.exit_code
    found = " ".join(str(error).split())
    if isinstance(error, ImportError):
        package = (error.name or "every package").partition(".")[0]
        return f"expected {package} for this command, found {found}: {_INSTALL}", 2
    return f"unexpected {type(error).__name__}: {found}; --debug shows where", 1
