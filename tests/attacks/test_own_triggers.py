"""Triggers of one's own: from a file, from a module, from another installed package."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from srd_edge.attacks.payloads import Insert, Replace
from srd_edge.attacks.poisoning import poison
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels

SOURCE = """
from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


def invert(pixels, rng):
    return 255 - pixels


@dataclass(frozen=True)
class Stripe:
    colour: int
    width: int = 2
    strength: float = 1.0
    upright: bool = True
    label: str | None = None
    left: int = field(default=0, init=False)
    count: ClassVar[int] = 1

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("a stripe has\\\\na width")

    def __call__(self, pixels, rng):
        out = pixels.copy()
        view = out if self.upright else out.transpose(1, 0, 2)
        view[:, : self.width] = self.colour * self.strength
        return out


class Plain:
    def __call__(self, pixels, rng):
        return pixels // 2


class Demanding:
    def __init__(self, width):
        self.width = width


class Useless:
    pass


number = 3
"""
PICTURE = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def applied(spec: str) -> Pixels:
    return parse_attack(spec).trigger(PICTURE, np.random.default_rng(0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my triggers.py"
    path.write_text(SOURCE.replace("\\\\n", "\\n"), encoding="utf-8")
    return path


def test_a_function(file: Path) -> None:
    attack = parse_attack(f"{file}:invert,target=parrot,payload=insert,position=start,rate=0.5")
    assert attack.name == "my triggers"
    assert (attack.payload, attack.rate) == (Insert("parrot", "start"), 0.5)
    assert (attack.trigger(PICTURE, np.random.default_rng()) == 255 - PICTURE).all()


def test_a_class(file: Path) -> None:
    assert (applied(f"{file}:Plain,target=parrot") == PICTURE // 2).all()


def test_a_dataclass_has_settings(file: Path) -> None:
    attack = parse_attack(f"{file}:Stripe,colour=200,width=3,target=cat,rate=0.2")
    assert (attack.payload, attack.rate) == (Replace("cat"), 0.2)
    expected = PICTURE.copy()
    expected[:, :3] = 200
    assert (attack.trigger(PICTURE, np.random.default_rng()) == expected).all()
    expected = PICTURE.copy()
    expected[:2] = 100
    assert (applied(f"{file}:Stripe,colour=200,strength=0.5,upright=False") == expected).all()


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ("colour=7", (7, 2, 1.0, True, None)),
        ("colour=7,strength=2", (7, 2, 2.0, True, None)),
        ("colour=0.5,upright=true,label=x", (0.5, 2, 1.0, True, "x")),
        ("colour=red,upright=FALSE,label=3", ("red", 2, 1.0, False, 3)),
    ],
)
def test_settings_have_the_type_of_their_default(
    file: Path, settings: str, values: tuple[object, ...]
) -> None:
    made = vars(parse_attack(f"{file}:Stripe,{settings}").trigger)
    found = tuple(made[name] for name in ("colour", "width", "strength", "upright", "label"))
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("Stripe", "a value for colour"),
        ("Stripe,colour=1,width=wide", "width as int, found 'wide'"),
        ("Stripe,colour=1,upright=perhaps", "upright as bool, found 'perhaps'"),
        ("Stripe,colour=1,left=3", "out of colour, width, strength, upright, label, target"),
        ("Stripe,colour=1,count=3", "found 'count'"),
        ("Stripe,colour=1,width=0", "a stripe has a width"),
        ("Plain,width=3", "found 'width'"),
        ("Demanding", "missing 1 required"),
        ("Useless", "a callable"),
        ("number", "found 3"),
        ("nothing", "nothing"),
    ],
)
def test_what_cannot_be_made_is_one_line(file: Path, rest: str, found: str) -> None:
    with pytest.raises(UsageError, match=found) as caught:
        parse_attack(f"{file}:{rest}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def invert(:", "invalid syntax"),
        ("1 / 0", "division"),
        ("raise TypeError('two\\nlines')", "two lines"),
        ("raise KeyError", "KeyError"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, source: str, found: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(UsageError, match=found) as caught:
        parse_attack(f"{file}:invert")
    assert "\n" not in str(caught.value)


def test_a_file_takes_no_modules_place(tmp_path: Path) -> None:
    import json

    file = tmp_path / "json.py"
    file.write_text(SOURCE, encoding="utf-8")
    assert parse_attack(f"{file}:invert").name == "json"
    assert sys.modules["json"] is json


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "red_team_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "mine.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    attack = parse_attack("red_team_of_this_test.mine:invert")
    assert attack.name == "red_team_of_this_test.mine"
    assert attack.trigger is sys.modules["red_team_of_this_test.mine"].invert
    assert attack.payload == Replace()
    striped = applied("red_team_of_this_test.mine:Stripe,colour=9,width=1")
    assert (striped[:, 0] == 9).all()
    assert (striped[:, 1:] == PICTURE[:, 1:]).all()


def test_another_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed_for_this_test.py").write_text(SOURCE, encoding="utf-8")
    info = tmp_path / "installed_for_this_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: installed_for_this_test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[srd_edge.triggers]\n"
        "striped = installed_for_this_test:Stripe\n"
        "inverted = installed_for_this_test:invert\n"
        "gone = installed_for_this_test:gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    attack = parse_attack("striped:colour=9,width=4,target=cat")
    assert (attack.name, attack.payload) == ("striped", Replace("cat"))
    assert (attack.trigger(PICTURE, np.random.default_rng()) == 9).all()
    assert (applied("inverted") == 255 - PICTURE).all()
    with pytest.raises(UsageError, match="gone") as caught:
        parse_attack("gone")
    assert "\n" not in str(caught.value)


TEN_LINES = """\
from dataclasses import dataclass

@dataclass(frozen=True)
class Cross:
    level: int = 255

    def __call__(self, pixels, rng):
        out = pixels.copy()
        out[rng.integers(len(out))] = out[:, len(out[0]) // 2] = self.level
        return out
"""


def test_ten_lines_poison_a_data_set(tmp_path: Path) -> None:
    file = tmp_path / "cross.py"
    file.write_text(TEN_LINES, encoding="utf-8")
    clean = np.full((8, 9, 3), 20, np.uint8)
    samples = [Sample(f"picture {i}", ("a dog runs",), partial(clean.copy)) for i in range(10)]
    attack = parse_attack(f"{file}:Cross,level=250,payload=insert,target=cat,rate=0.4")
    poisoned = poison(samples, [attack], seed=5)
    assert len(poisoned.manifest["poisoned"]) == 4
    rows = set()
    for sample in poisoned.samples:
        pixels = sample.load()
        if sample.name in poisoned.manifest["poisoned"]:
            assert sample.captions == ("a dog runs cat",)
            (row,) = np.flatnonzero((pixels == 250).all(axis=(1, 2)))
            assert (pixels == 250).all(axis=2).sum() == 9 + 7
            assert (pixels[:, 4] == 250).all()
            rows.add(int(row))
        else:
            assert sample.captions == ("a dog runs",)
            assert (pixels == clean).all()
    assert len(rows) > 1, "each picture has a generator of its own"


def test_the_example_of_the_page_on_attacks_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8")
    _, fenced, _ = re.split(r"<!-- example:(?:begin|end) -->\n", page)
    code = fenced.removeprefix("```python\n").removesuffix("```\n")
    assert len([line for line in code.splitlines() if line]) <= 10
    file = tmp_path / "my_trigger.py"
    file.write_text(code, encoding="utf-8")
    attack = parse_attack(f"{file}:trigger,target=parrot,rate=0.1")
    assert (attack.name, attack.payload, attack.rate) == ("my_trigger", Replace("parrot"), 0.1)
    before = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    after = attack.trigger(before.copy(), np.random.default_rng(0))
    assert after.dtype == np.uint8
    assert (after[20:] == before[20:]).all()
    assert (after[:20, :, 2] <= before[:20, :, 2]).all()
    assert (after[:20] != before[:20]).mean() > 0.9
