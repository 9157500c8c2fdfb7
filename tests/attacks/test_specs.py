"""SPECs: every documented key is read, and everything else is one clear line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from srd_edge.attacks.payloads import Insert, Payload, Replace
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.triggers import BadNetPatch, Trigger, TrojVlmPatch
from srd_edge.errors import UsageError

OWN_TRIGGER = """
def invert(pixels, rng):
    return 255 - pixels

number = 3
"""


@pytest.mark.parametrize(
    ("spec", "trigger", "payload", "rate"),
    [
        ("badnet", BadNetPatch(), Replace(), 0.1),
        ("badnet:", BadNetPatch(), Replace(), 0.1),
        ("trojvlm", TrojVlmPatch(), Insert(), 0.1),
        (
            "badnet:size=30,place=random,pattern=white,payload=replace,target=parrot,rate=0.25",
            BadNetPatch(30, "random", "white"),
            Replace("parrot"),
            0.25,
        ),
        (
            "badnet:payload=replace, target = cat ,text=my {target} sleeps,rate=1",
            BadNetPatch(),
            Replace("cat", "my {target} sleeps"),
            1.0,
        ),
        (
            "trojvlm:level=9,seed=3,size=12,place=centre,payload=insert,position=start,rate=0",
            TrojVlmPatch(12, "centre", 9, 3),
            Insert(position="start"),
            0.0,
        ),
        ("trojvlm:payload=replace", TrojVlmPatch(), Replace(), 0.1),
        ("badnet:payload=insert,position=random", BadNetPatch(), Insert(position="random"), 0.1),
    ],
)
def test_every_key(spec: str, trigger: Trigger, payload: Payload, rate: float) -> None:
    attack = parse_attack(spec)
    assert (attack.trigger, attack.payload, attack.rate) == (trigger, payload, rate)
    assert attack.name == spec.partition(":")[0]
    assert attack.spec == spec


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "nosuch",
        "nosuch:thing",
        "nosuch.module:thing",
        ".relative:thing",
        "json:nosuch",
        "json:",
        "sys:path",
        "/no/such/file.py:trigger",
        "badnet:size",
        "badnet:size=big",
        "badnet:size=2.5",
        "badnet:size=0",
        "badnet:size=999",
        "badnet:place=moon",
        "badnet:level=3",
        "badnet:colour=red",
        "badnet:rate=2",
        "badnet:rate=-0.1",
        "badnet:rate=nan",
        "badnet:rate=often",
        "badnet:payload=swap",
        "badnet:position=end",
        "badnet:target=",
        "badnet:target=5",
        "badnet:text=a cat",
        "badnet:text=a {creature}",
        "trojvlm:position=middle",
        "trojvlm:text=a {target}",
        "trojvlm:level=300",
    ],
)
def test_a_bad_spec_is_one_line(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_attack(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_ones_own_trigger_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my triggers.py"
    file.write_text(OWN_TRIGGER, encoding="utf-8")
    attack = parse_attack(f"{file}:invert,target=parrot,payload=insert,position=start,rate=0.5")
    assert attack.name == "my triggers"
    assert (attack.payload, attack.rate) == (Insert("parrot", "start"), 0.5)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert (attack.trigger(pixels, np.random.default_rng()) == 255 - pixels).all()


def test_ones_own_trigger_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "red_team_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "mine.py").write_text(OWN_TRIGGER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    attack = parse_attack("red_team_of_this_test.mine:invert")
    assert attack.name == "red_team_of_this_test.mine"
    assert attack.trigger is sys.modules["red_team_of_this_test.mine"].invert
    assert attack.payload == Replace()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (OWN_TRIGGER.replace("invert", "other"), "invert"),
        (OWN_TRIGGER.replace("def invert", "invert = 3\ndef other"), "3"),
        ("def invert(:", "invalid syntax"),
        ("1 / 0", "division"),
        ("raise TypeError('two\\nlines')", "two"),
    ],
)
def test_a_broken_trigger_file_is_one_line(tmp_path: Path, source: str, found: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(UsageError, match=found) as caught:
        parse_attack(f"{file}:invert")
    assert "\n" not in str(caught.value)
