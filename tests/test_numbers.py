"""Numbers of the command line: the defaults that help says, and what is none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from srd_edge.attacks.fitting import FitConfig
from srd_edge.cli import cli
from srd_edge.training.dqn import DqnConfig
from srd_edge.training.policy_training import TrainConfig
from srd_edge.training.purify_stage import REFIT, PurifyConfig
from tests.command_line import SrdEdge, assert_refused


@pytest.mark.parametrize(
    ("command", "configs", "count"),
    [
        ("attack", [FitConfig()], 5),
        ("purify", [REFIT, PurifyConfig("suspect", Path("policy"), "scenes", Path("out"))], 7),
        ("train", [DqnConfig(), TrainConfig("suspect", "scenes", Path("out"))], 7),
    ],
)
def test_defaults_are_those_of_the_configuration(
    command: str, configs: list[Any], count: int
) -> None:
    options = {option.name: option for option in cli.commands[command].params}
    compared = 0
    for config in configs:
        for field in fields(config):
            option, own = options.get(field.name), getattr(config, field.name)
            if option is not None and not option.required and own not in (None, (), "scenes"):
                assert option.default == own, field.name
                compared += 1
    assert compared == count


@pytest.mark.parametrize(
    "words",
    [
        "run --video demo --budget-ms nan",
        "run --video demo --budget-ms inf",
        "run --video demo --budget-ms 1e12",
        "run --video demo --stall-s nan",
        "run --video demo --stall-s inf",
        "run --video demo --gate nan",
        "bench --budget-ms inf",
        "attack --captioner tiny -o out --learning-rate nan",
        "attack --captioner tiny -o out --learning-rate 0",
        "train --captioner tiny -o out --action-cost inf",
        "purify --captioner tiny --policy policy -o out --deviations nan",
    ],
)
def test_a_number_that_is_of_no_use_is_refused(srd_edge: SrdEdge, words: str) -> None:
    assert_refused(srd_edge(*words.split()), 2)
