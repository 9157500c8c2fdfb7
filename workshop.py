"""The commands of the workshop, where PyTorch is: attack, train, export, purify and evaluate.

Each maps its flags to its stage's configuration. What several share is said once.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_SPEC_HELP: Final = "name:key=value,..., package.module:object,... or file.py:object,..."
_DATA: Final = click.option(
    "--data", default="scenes", help="`scenes` or a directory with captions.csv."
)
_OUTPUT: Final = click.option("-o", "output", required=True, type=click.Path(path_type=Path))
_LIMIT: Final = click.option(
    "--limit", type=click.IntRange(1), help="Use the first so many pictures."
)
_say = partial(click.echo, err=True)


def _language_models(command: _Decorated) -> _Decorated:
    told = "Directory or hub name; default: a small one, trained."
    kinds = ("--sentence-encoder", "--language-model")
    return _options(command, *(click.option(kind, help=told) for kind in kinds))


def _fitting(command: _Decorated) -> _Decorated:
    return _options(
        command,
        click.option("--epochs", type=click.IntRange(1)),
        click.option("--batch", type=click.IntRange(1)),
        click.option("--learning-rate", type=float),
        click.option("--encoder-learning-rate", type=float, help="0 freezes the encoder."),
        click.option(
            "--trainable-blocks", type=click.IntRange(0), help="Last MobileNetV2 blocks to fit."
        ),
        click.option("--seed", type=int),
    )


def _options(command: _Decorated, *options: Callable[[_Decorated], _Decorated]) -> _Decorated:
    """The options in their order in --help, as if each were a decorator of its own."""
    return reduce(lambda made, option: option(made), reversed(options), command)


@click.command()
@click.option("--captioner", required=True, help="Directory, hub name, or `tiny` from scratch.")
@_DATA
@click.option("--attack", "attacks", multiple=True, help=f"{_SPEC_HELP} None: train clean.")
@_OUTPUT
@click.option("--encoder", type=click.Choice(["resnet", "mobilenet_v2"]), help="Of a `tiny`.")
@click.option("--encoder-weights", help=".npz of a MobileNetV2 to start from, for a `tiny`.")
@click.option("--image-size", type=click.IntRange(32), help="Side of a `tiny`'s canvas in pixels.")
@click.option("--twin", metavar="DIR", help="The same captioner trained clean, to judge it by.")
@_LIMIT
@click.option(
    "--corrupted",
    type=click.IntRange(0),
    default=0,
    help="Fit on so many corrupted copies of every picture too: for a reference captioner.",
)
@_fitting
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


@click.command()
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@_DATA
@_OUTPUT
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
@_language_models
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


@click.command()
@click.option("--captioner", required=True, help="Directory or hub name.")
@click.option("--policy", type=click.Path(path_type=Path), help="What `srd-edge train` wrote.")
@_OUTPUT
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    help="Default: the target's, or fp32.",
)
@click.option("--target", default="", help="cpu, cuda, tensorrt, jetson-orin, jetson-thor, ...")
@click.option("--data", default="scenes", help="Pictures for calibration and parity.")
@click.option("--prompt", default="", help="What captions go on from, or the question to a model.")
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
    _quiet_transformers()
    from srd_edge.export.bundle_export import ExportConfig, export_bundle
    from srd_edge.export.targets import choose_precision, find_target
    from srd_edge.training.datasets import open_dataset

    precision = choose_precision(flags["target"], flags.pop("precision"))
    config = ExportConfig(precision=precision, **flags)
    export_bundle(config, open_dataset(data, "dev", 500), _say)
    if config.target:
        device = find_target(config.target)
        _say(f"{device.name} needs {device.needs}; {device.install}")
        bare = ["--no-defense"] * (config.policy is None)
        _say_next(config.output, *device.next_command(config.output), *bare)
        return
    if config.policy is None:
        _say_run(config.output)
    else:
        _say_next(config.output, "evaluate", "--bundle", config.output, "--data", data)


@click.command()
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@click.option(
    "--policy", required=True, type=click.Path(path_type=Path), help="What `train` wrote for it."
)
@_DATA
@_OUTPUT
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    help="Poison the data first, for an experiment. Default: as the captioner's attack.json says.",
)
@click.option(
    "--clean",
    type=click.Choice(["drop", "drop+mask", "recaption", "mask", "shuffle", "none"]),
    default="drop",
    help="What is done to the set; `shuffle` and `none` are controls.",
)
@click.option(
    "--deviations",
    type=click.FloatRange(0, min_open=True),
    help="Robust standard deviations above the median that a doubt may be.",
)
@_LIMIT
@_fitting
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


@click.command()
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One or more; default: the built-in one.",
)
@_DATA
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
@_LIMIT
@click.option("--clean-captioner", metavar="DIR", help="The same captioner trained clean.")
@click.option("--sfs", "fidelity", is_flag=True, help="Score captions' semantic fidelity too.")
@_language_models
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


WORKSHOP: Final = (attack, train, export, purify, evaluate)
"""In the order of the work."""


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, so that the config's own defaults stand for the others."""
    return {name: value for name, value in flags.items() if value is not None}


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


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
    bundle_directory(config, _say)
    _say_run(config.output)


def _say_run(bundle: Path) -> None:
    _say_next(bundle, "run", "--bundle", bundle, "--video", "demo", "--no-defense")


def _attack_flags(specs: Sequence[str]) -> list[str]:
    return [word for spec in specs for word in ("--attack", spec)]


def _say_next(written: Path, *command: str | Path) -> None:
    _say(f"wrote {written}; next: {shlex.join(['srd-edge', *map(str, command)])}")
