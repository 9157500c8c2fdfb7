"""The report's documents against their schemas, and as tables that can be read back."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from srd_edge.errors import RunError
from srd_edge.evaluation.report import (
    COLUMNS,
    CSV_COLUMNS,
    NOTHING,
    VICTIM_COLUMNS,
    markdown,
    number,
    percent,
    print_table,
    victims_markdown,
    write_csv,
)
from srd_edge.evaluation.results_schema import check_results, check_timing
from srd_edge.evaluation.standing import better_figures, count_standings, standing

SAMPLE = Path(__file__).parent / "report_sample"
Damage: TypeAlias = Callable[[Any], object]
FIRST = "$.attacks[0].contestants[1]"


@pytest.fixture
def document() -> Any:
    return json.loads((SAMPLE / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def timing() -> Any:
    return json.loads((SAMPLE / "timing.json").read_text(encoding="utf-8"))


def row(document: Any, attack: int = 0, contestant: int = 1) -> Any:
    return document["attacks"][attack]["contestants"][contestant]


def test_the_sample_is_what_the_schemas_say(document: Any, timing: Any) -> None:
    check_results(document)
    check_timing(timing)


@pytest.mark.parametrize(
    ("damage", "path", "found"),
    [
        (lambda d: d.update(schema=1), "$.schema", "1"),
        (lambda d: d.pop("seeds"), "$.seeds", "no such field"),
        (lambda d: d.update(took_s=3.5), "$.'took_s'", "a field of no schema"),
        (lambda d: d.update(split="train"), "$.split", "'train'"),
        (lambda d: d.update(pictures=0), "$.pictures", "0"),
        (lambda d: d.update(pictures=500.5), "$.pictures", "500.5"),
        (lambda d: d.update(commit=7), "$.commit", "7"),
        (lambda d: d.update(data=""), "$.data", "''"),
        (lambda d: d.update(seeds=[0, 0]), "$.seeds", "[0, 0]"),
        (lambda d: d.update(attacks=[]), "$.attacks", "0"),
        (lambda d: d["versions"].update(numpy=2), "$.versions.numpy", "2"),
        (lambda d: d["machine"].update(cores=True), "$.machine.cores", "True"),
        (lambda d: d["attacks"][1].update(payload="shout"), "$.attacks[1].payload", "'shout'"),
        (lambda d: d["attacks"][1].pop("skipped"), "$.attacks[1].skipped", "no such field"),
        (lambda d: d["attacks"][1].update(contestants=None), "$.attacks[1].contestants", "None"),
        (lambda d: d["attacks"][1].update(counted=501), "$.attacks[1].counted", "501"),
        (lambda d: d["attacks"][2].update(key="badnet"), "$.attacks[2].key", "'badnet'"),
        (
            lambda d: d["attacks"][0]["victim"].update(verdict="works"),
            "$.attacks[0].victim.verdict",
            "'works'",
        ),
        (
            lambda d: d["attacks"][0]["victim"].update(asr_interval=[0.1, 0.2]),
            "$.attacks[0].victim.asr_interval",
            "[0.1, 0.2]",
        ),
        (lambda d: row(d).update(asr=1.5), f"{FIRST}.asr", "1.5"),
        (lambda d: row(d).update(asr="0.5"), f"{FIRST}.asr", "'0.5'"),
        (lambda d: row(d).update(asr=None), f"{FIRST}.asr", "None"),
        (lambda d: row(d).update(asr=math.nan), f"{FIRST}.asr", "nan"),
        (lambda d: row(d).update(rp=math.inf), f"{FIRST}.rp", "inf"),
        (lambda d: row(d).update(rp=True), f"{FIRST}.rp", "True"),
        (lambda d: row(d).update(asr_interval=[0.0]), f"{FIRST}.asr_interval", "1"),
        (lambda d: row(d).update(asr_interval=[0.0, 0.5, 1.0]), f"{FIRST}.asr_interval", "3"),
        (lambda d: row(d).update(asr_interval=[0.9, 0.1]), f"{FIRST}.asr_interval", "[0.9, 0.1]"),
        (lambda d: row(d).update(asr_by_seed=[]), f"{FIRST}.asr_by_seed", "0"),
        (lambda d: row(d).update(asr_by_seed=[0.1] * 3), f"{FIRST}.asr_by_seed", "3"),
        (lambda d: row(d).update(clean_drop=1.2), f"{FIRST}.clean_drop", "1.2"),
        (lambda d: row(d).update(policy_passes=-1), f"{FIRST}.policy_passes", "-1"),
        (lambda d: row(d).update(kind="friend"), f"{FIRST}.kind", "'friend'"),
        (lambda d: row(d).update(name="none"), f"{FIRST}.name", "'none'"),
        (lambda d: row(d)["clean"].pop("sfs"), f"{FIRST}.clean.sfs", "no such field"),
        (lambda d: row(d)["clean"].update(bleu_4=21.0), f"{FIRST}.clean.bleu_4", "21.0"),
    ],
)
def test_every_damage_is_refused_in_one_line(
    document: Any, damage: Damage, path: str, found: str
) -> None:
    damage(document)
    with pytest.raises(RunError) as error:
        check_results(document)
    line = str(error.value)
    assert line.startswith(f"expected {path} of results.json to be ")
    assert f", found {found}: " in line
    assert line.endswith("write it again with `srd-edge evaluate`")
    assert "\n" not in line


@pytest.mark.parametrize("document", [None, [], "results", 2])
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(RunError, match=r"expected \$ of results.json to be an object, found"):
        check_results(document)


@pytest.mark.parametrize(
    ("damage", "path"),
    [
        (lambda t: t.update(schema=2), "$.schema"),
        (lambda t: t.pop("pictures"), "$.pictures"),
        (lambda t: t["attacks"].update(badnet=[]), "$.attacks.badnet"),
        (lambda t: t["attacks"]["badnet"]["none"].update(p50_ms=0), "$.attacks.badnet.none.p50_ms"),
        (lambda t: t["attacks"]["badnet"]["none"].pop("ms_clean"), ".badnet.none.ms_clean"),
        (lambda t: t["attacks"]["badnet"]["none"].update(ms_clean=None), ".none.ms_clean"),
    ],
)
def test_damaged_times_are_refused(timing: Any, damage: Damage, path: str) -> None:
    damage(timing)
    with pytest.raises(RunError) as error:
        check_timing(timing)
    assert f"{path} of timing.json to be " in str(error.value)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_holds_every_figure_as_it_is(document: Any, timing: Any, tmp_path: Path) -> None:
    document["attacks"][0]["spec"] = 'badnet:text=a "photo", of\nwhat'
    write_csv(document, timing, tmp_path / "results.csv")
    lines = iter(read_csv(tmp_path / "results.csv"))
    for attack in document["attacks"]:
        for contestant in attack["contestants"]:
            line = next(lines)
            assert tuple(line) == CSV_COLUMNS
            figures = dict(contestant)
            del figures["about"]
            expected = {name: attack[name] for name in ("bundle", "spec", "target", "counted")}
            expected |= {"attack": attack["key"], "verdict": attack["victim"]["verdict"]}
            expected |= {"trigger": attack["trigger"], "payload": attack["payload"]}
            expected["contestant"] = figures.pop("name")
            expected["asr_low"], expected["asr_high"] = figures.pop("asr_interval")
            for pictures in ("clean", "triggered"):
                scores = figures.pop(pictures)
                expected |= {f"{pictures}_{metric}": value for metric, value in scores.items()}
            for name in ("asr_by_seed", "clean_drop_by_seed"):
                assert json.loads(line.pop(name)) == figures.pop(name)
            missing = dict.fromkeys(timing["attacks"]["badnet"]["none"])
            measured = timing["attacks"].get(attack["key"], {}).get(contestant["name"], missing)
            for name, value in (expected | figures | measured).items():
                text = line.pop(name)
                if isinstance(value, float):
                    assert float(text) == value
                else:
                    assert text == ("" if value is None else str(value))
            assert line == {}
    assert list(lines) == []


def test_the_csv_has_the_same_columns_without_times(document: Any, tmp_path: Path) -> None:
    write_csv(document, None, tmp_path / "results.csv")
    lines = read_csv(tmp_path / "results.csv")
    assert tuple(lines[0]) == CSV_COLUMNS
    assert {line["ratio_clean"] + line["p95_ms"] for line in lines} == {""}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "\0").split("|")[1:-1]]


def test_the_markdown_tables_have_a_row_each(document: Any, timing: Any) -> None:
    document["attacks"][0]["spec"] = "badnet:text=one|two"
    lines = markdown(document, timing).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert cells(table[0]) == list(COLUMNS)
    assert {len(cells(line)) for line in table} == {len(COLUMNS)}
    assert len(table) == 2 + sum(len(attack["contestants"]) for attack in document["attacks"])
    policy = row(document)
    assert cells(table[3])[:3] == ["badnet", "policy", percent(policy["asr"])]
    assert cells(table[3])[-1] == number(timing["attacks"]["badnet"]["policy"]["ratio_clean"], 2)
    assert any(line.startswith("| wanet (failed attack) |") for line in table)

    victims = [line for line in victims_markdown(document).splitlines() if line.startswith("|")]
    assert cells(victims[0]) == list(VICTIM_COLUMNS)
    assert {len(cells(line)) for line in victims} == {len(VICTIM_COLUMNS)}
    assert cells(victims[2])[1] == "badnet:text=one\0two"
    verdicts = [attack["victim"]["verdict"] for attack in document["attacks"]]
    assert [cells(line)[-1] for line in victims[2:]] == verdicts


def test_only_seeds_that_differ_have_a_spread(document: Any) -> None:
    row(document).update(asr_by_seed=[0.1, 0.2, 0.3], clean_drop_by_seed=[0.05, 0.05, 0.05])
    row(document, contestant=2).update(asr_by_seed=[0.5], clean_drop_by_seed=[None])
    text = markdown(document)
    lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert [lines[3][2], lines[3][5]] == ["20.0 ± 10.0", "5.0"]
    assert [lines[4][2], lines[4][5]] == ["50.0", NOTHING]
    assert text.endswith("±: standard deviation over seeds, where they differ.")
    document["seeds"] = [0]
    assert "±" not in markdown(document).splitlines()[-1]


def test_a_loss_of_nothing_has_no_sign() -> None:
    assert (percent(-0.0004), number(-0.001, 2), percent(-0.004)) == ("0.0", "0.00", "-0.4")


def test_the_terminal_table_is_for_people(
    document: Any,
    timing: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    document["attacks"][0]["spec"] = "badnet:text=[bold]x"
    print_table(document, timing)
    printed = capsys.readouterr()
    assert printed.out == "", "standard output is for the document"
    lines = printed.err.splitlines()
    assert max(map(len, lines)) <= 80
    assert "badnet: badnet:text=[bold]x" in lines, "no mark-up is read from a SPEC"
    for attack in document["attacks"]:
        for contestant in attack["contestants"]:
            start = [contestant["name"], percent(contestant["asr"])]
            assert any(line.split()[:2] == start for line in lines)


@pytest.mark.parametrize(
    ("ours", "theirs", "seen"),
    [
        ((0.1, 0.1), (0.1, 0.1), "equal"),
        ((0.1, 0.1), (0.2, 0.1), "better"),
        ((0.1, 0.1), (0.1, 0.2), "better"),
        ((0.1, 0.1), (0.2, 0.2), "better"),
        ((0.2, 0.1), (0.1, 0.1), "worse"),
        ((0.1, 0.2), (0.2, 0.1), "lower ASR, larger drop"),
        ((0.2, 0.1), (0.1, 0.2), "higher ASR, smaller drop"),
        ((0.1, None), (0.2, 0.1), "better"),
        ((0.2, 0.1), (0.1, None), "worse"),
        ((0.1, None), (0.1, None), "equal"),
    ],
)
def test_standing(
    ours: tuple[float, float | None], theirs: tuple[float, float | None], seen: str
) -> None:
    def of(figures: tuple[float, float | None]) -> dict[str, Any]:
        return {"asr": figures[0], "clean_drop": figures[1]}

    other_way = {"better": "worse", "worse": "better"}
    other_way |= {"lower ASR, larger drop": "higher ASR, smaller drop"}
    other_way |= {right: left for left, right in other_way.items()}
    assert standing(of(ours), of(theirs)) == seen
    assert standing(of(theirs), of(ours)) == other_way.get(seen, "equal")


def test_better_figures_know_which_way_is_up(document: Any) -> None:
    policy = row(document)
    other = copy.deepcopy(policy)
    assert better_figures(other, policy) == frozenset()
    other.update(asr=0.0, auroc=1.0, rp=policy["rp"] / 2, captioner_passes_clean=9.0)
    other.update(false_alarms=None, ratio_clean=0.5)
    assert better_figures(other, policy) == {"asr", "auroc"}, "policy has no time to compare with"


def test_a_failed_attack_wins_nobody_anything(document: Any) -> None:
    victims = [a for a in document["attacks"] if a["victim"]["verdict"] != "failed attack"]
    assert len(victims) < len(document["attacks"])
    counts = count_standings(document["attacks"])
    assert counts == count_standings(victims)
    assert set(counts) == {"oracle", "strip", "onion"}
    assert counts["strip"].total() == len(victims)
