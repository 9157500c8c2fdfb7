"""What the workshop's commands share: options, flags, and what they say at the end."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from srd_edge.usage import Number

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SPEC_HELP: Final = "name:key=value,..., package.module:object,... or file.py:object,..."
DATA: Final = click.option(
    "--data", default="scenes", help="`scenes` or a directory with captions.csv."
)
OUTPUT: Final = click.option("-o", "output", required=True, type=click.Path(path_type=Path))
LIMIT: Final = click.option(
    "--limit", type=click.IntRange(1), help="Use the first so many pictures."
)
say = partial(click.echo, err=True)


def language_models(command: Decorated) -> Decorated:
    """Add the options that name the models which judge captions."""
    told = "Directory or hub name; default: a small one, trained."
    kinds = ("--sentence-encoder", "--language-model")
    return _options(command, *(click.option(kind, help=told) for kind in kinds))


def fitting(
    *, epochs: int, learning_rate: float, encoder_learning_rate: float, seed: int
) -> Callable[[Decorated], Decorated]:
    """Add the options of whatever fits a captioner, with these defaults."""
    return lambda command: _options(
        command,
        click.option("--epochs", type=click.IntRange(1), default=epochs),
        click.option("--batch", type=click.IntRange(1), default=64),
        click.option("--learning-rate", type=Number(0, min_open=True), default=learning_rate),
        click.option(
            "--encoder-learning-rate",
            type=Number(0),
            default=encoder_learning_rate,
            help="0 freezes the encoder.",
        ),
        click.option(
            "--trainable-blocks",
            type=click.IntRange(0),
            help="Last MobileNetV2 blocks to fit. Default: all.",
        ),
        click.option("--seed", type=int, default=seed),
    )


def _options(command: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    """The options in their order in --help, as if each were a decorator of its own."""
    return reduce(lambda made, option: option(made), reversed(options), command)


def quiet_transformers() -> None:
    """Only errors of transformers, and of what it fetches models with, are for the user."""
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def attack_flags(specs: Sequence[str]) -> list[str]:
    """The words that name ``specs`` again."""
    return [word for spec in specs for word in ("--attack", spec)]


def say_next(written: Path, *command: str | Path) -> None:
    """What was written, and the command to type next."""
    say(f"wrote {written}; next: {shlex.join(['srd-edge', *map(str, command)])}")
