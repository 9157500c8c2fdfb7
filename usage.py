"""How a command line is read: click drops nothing without a word, and refuses in one line."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

import click
from click.core import augment_usage_errors

from srd_edge.errors import UsageError

_HELP: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises to show the help, from version 8.2 on."""

_EXTRAS: Final = {"inspect": "verify", "verify": "verify"}
"""What a command may lack, if not all of the workshop's packages. None brings an onnxruntime: that
is there, and a second one must not be."""


class Number(click.FloatRange):
    """A number in a range: click takes nan for one in any, and the infinite."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Command(click.Command):
    """A command that takes an option with one value once, and no words that belong to none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)  # the parser empties them
        ctx.allow_extra_args = True
        with augment_usage_errors(ctx):
            stray = super().parse_args(ctx, args)
        if stray:
            raise self._stray(ctx, stray)
        given = Counter(self.make_parser(ctx).parse_args(words)[2])
        for option, times in given.items():
            if times > 1 and _has_one_value(option):
                raise UsageError(
                    expected=f"{_name(option)} once",
                    found=f"it {times} times, of which only the last would count",
                    do="leave the others out",
                )
        return stray

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:
            package = (error.name or "every package").partition(".")[0]
            raise UsageError(
                expected=f"{package} for `{ctx.command_path}`",
                found=" ".join(str(error).split()),
                do=f'pip install "srd-edge[{_EXTRAS.get(ctx.info_name or "", "train,export")}]"',
            ) from error

    def _stray(self, ctx: click.Context, words: list[str]) -> UsageError:
        argument = next((p for p in self.params if isinstance(p, click.Argument)), None)
        do = _see(ctx)
        if any("--video" in option.opts for option in self.params):
            do = "put --video in front of a source (try --video demo), a pattern in quotes: '*.jpg'"
        return UsageError(
            expected=f"options and one {argument.human_readable_name}"
            if argument
            else "options only",
            found=f"'{words[0]}'{f' and {len(words) - 1} more' * (len(words) > 1)}",
            do=do,
        )


class Group(click.Group):
    """Commands in the order of the work, not of the alphabet; what click refuses is our error."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(self.commands)

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except click.UsageError as error:
            if isinstance(error, _HELP):
                raise
            raise _in_our_words(error) from error


def _has_one_value(option: click.Parameter) -> bool:
    return isinstance(option, click.Option) and not (option.multiple or option.is_flag)


def _in_our_words(error: click.UsageError) -> UsageError:
    expected, found, do = "what --help lists", error.message.rstrip("."), _see(error.ctx)
    near = getattr(error, "possibilities", None)
    if near:
        do = f"try {' or '.join(near)}, or {do}"
    if found.startswith("No such "):
        _, _, kind, found = found.split(maxsplit=3)
        expected = f"a known {kind.rstrip(':')}"
    elif isinstance(error, click.MissingParameter):
        expected, found = _name(error.param), "nothing"
    elif isinstance(error, click.BadParameter):
        found, _, kind = found.partition(" is not ")
        expected = f"{_name(error.param)} to be {kind.removesuffix(' range') or 'of use'}"
    elif isinstance(error, click.BadOptionUsage):
        lacks = "requires" in error.message
        expected = f"a value behind {error.option_name}" if lacks else f"{error.option_name} alone"
        found = "none" if lacks else "a value with it"
    return UsageError(expected=expected, found=found, do=do)


def _name(parameter: click.Parameter | None) -> str:
    return max(parameter.opts, key=len) if parameter else "the value"


def _see(ctx: click.Context | None) -> str:
    return f"see `{ctx.command_path if ctx else 'srd-edge'} --help`"
