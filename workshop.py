"""The commands of the workshop, where PyTorch is: attack, train, purify and evaluate; and export,
which `packing.py` has.

Each maps its flags to its stage's configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from srd_edge.packing import export
from srd_edge.usage import Command, Number
from srd_edge.workshop_parts import (
    DATA,
    LIMIT,
    OUTPUT,
    SPEC_HELP,
    attack_flags,
    fitting,
    language_models,
    quiet_transformers,
    say,
    say_next,
)


@click.command(cls=Command)
@click.option("--captioner", required=True, help="Directory, hub name, or `tiny` from scratch.")
@DATA
@click.option("--attack", "attacks", multiple=True, help=f"{SPEC_HELP} None: train clean.")
@OUTPUT
@click.option(
    "--encoder", type=click.Choice(["resnet", "mobilenet_v2"]), help="Of a `tiny`. Default: resnet."
)
@click.option("--encoder-weights", help=".npz of a MobileNetV2 to start from, for a `tiny`.")
@click.option(
    "--image-size",
    type=click.IntRange(32),
    help="Side of a `tiny`'s canvas in pixels. Default: 96, or 224 for mobilenet_v2.",
)
@click.option("--twin", metavar="DIR", help="The same captioner trained clean, to judge it by.")
@LIMIT
@click.option(
    "--corrupted",
    type=click.IntRange(0),
    default=0,
    help="Fit on so many corrupted copies of every picture too: for a reference captioner.",
)
@fitting(epochs=12, learning_rate=1e-3, encoder_learning_rate=1e-3, seed=0)
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
    quiet_transformers()
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
        fit=FitConfig(**fit),
        tiny=replace(
            tiny,
            encoder_weights=encoder_weights,
            image_size=image_size or tiny.image_size,
        ),
        corrupted=corrupted,
    )
    make_judged_victim(config, limit=limit, twin=twin, say=say)
    suspect = ("--captioner", str(output), "--data", data, *attack_flags(attacks))
    say_next(output, "train", *suspect, "-o", "POLICY")


@click.command(cls=Command)
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@DATA
@OUTPUT
@click.option("--attack", "attacks", multiple=True, help=f"In the pool, unlabelled: {SPEC_HELP}")
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
@language_models
@click.option("--actions", default="default", help="Action preset: default or srd.")
@click.option("--pool", type=click.IntRange(1), default=2000, help="Pictures to learn on.")
@click.option(
    "--max-steps",
    type=click.IntRange(1),
    default=2,
    help="Most perturbations of a picture.",
)
@click.option(
    "--action-cost",
    type=Number(0),
    default=0.1,
    help="Off the reward, for each perturbation.",
)
@click.option("--steps", type=click.IntRange(1), default=16_000, help="Environment steps.")
@click.option("--seed", type=int, default=0)
@click.option("--resume", is_flag=True, help="Go on where a killed run stopped; the default.")
def train(captioner: str, data: str, output: Path, steps: int, seed: int, **flags: Any) -> None:
    """Train a policy for a suspect captioner; it is not told what the trigger is."""
    quiet_transformers()
    from srd_edge.training.dqn import DqnConfig
    from srd_edge.training.policy_training import TrainConfig
    from srd_edge.training.policy_training import train as train_policy

    del flags["resume"]
    dqn = DqnConfig(steps=steps, seed=seed)
    config = TrainConfig(captioner=captioner, data=data, output=output, dqn=dqn, **flags)
    train_policy(config)
    paired = ("--captioner", captioner, "--policy", output, "--data", data)
    say_next(output, "export", *paired, "-o", "BUNDLE")


@click.command(cls=Command)
@click.option("--captioner", required=True, help="The suspect: directory or hub name.")
@click.option(
    "--policy", required=True, type=click.Path(path_type=Path), help="What `train` wrote for it."
)
@DATA
@OUTPUT
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
    type=Number(0, min_open=True),
    default=1.5,
    help="Robust standard deviations above the median that a doubt may be.",
)
@LIMIT
@fitting(epochs=3, learning_rate=5e-4, encoder_learning_rate=0.0, seed=1)
def purify(
    captioner: str,
    policy: Path,
    data: str,
    output: Path,
    attacks: tuple[str, ...],
    clean: Any,
    deviations: float,
    limit: int | None,
    **fit: Any,
) -> None:
    """Clean the training set with a policy and fit the suspect anew; goes on where it stopped."""
    quiet_transformers()
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
        fit=replace(REFIT, **fit),
        deviations=deviations,
    )
    make_judged_purified(config, limit=limit, say=say)
    suspect = ("--captioner", str(output), "--data", data, *attack_flags(attacks))
    say_next(output, "train", *suspect, "-o", "POLICY")


@click.command(cls=Command)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One or more; default: the built-in one.",
)
@DATA
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
@LIMIT
@click.option("--clean-captioner", metavar="DIR", help="The same captioner trained clean.")
@click.option("--sfs", "fidelity", is_flag=True, help="Score captions' semantic fidelity too.")
@language_models
@click.option("--timed", type=click.IntRange(0), default=24, help="Pictures to measure times on.")
@click.option("--images", is_flag=True, help="Keep every case as pictures.")
def evaluate(**flags: Any) -> None:
    """Measure bundles against attacks, beside controls and rivals, into the directory REPORT.

    Goes on where a killed run stopped. The last line of output is one JSON document.
    """
    quiet_transformers()
    from srd_edge.evaluation.plan import EvaluateConfig
    from srd_edge.evaluation.report import print_table
    from srd_edge.evaluation.report_files import check_report, write_report
    from srd_edge.evaluation.suite import evaluate as run_suite

    config = EvaluateConfig(**flags)
    check_report(config.output)
    evaluated = run_suite(config)
    write_report(evaluated, config.output)
    print_table(evaluated.results, evaluated.timing)
    say(f"wrote {config.output / 'report.html'}, results.json, results.csv and timing.json")
    click.echo(json.dumps(evaluated.results | {"timing": evaluated.timing}))


WORKSHOP: Final = (attack, train, export, purify, evaluate)
"""In the order of the work."""
