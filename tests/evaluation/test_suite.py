"""srd-edge evaluate: what is asked, what is kept, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srd_edge.errors import UsageError
from srd_edge.evaluation.plan import EvaluateConfig
from srd_edge.evaluation.report_files import write_report
from srd_edge.evaluation.suite import evaluate

SPEC = "vlood:target=zebra"
PICTURES = 120
CONTESTANTS = ("none", "policy", "random", "mask_vote")


def arguments(bundle: Path) -> list[str]:
    named = [word for name in CONTESTANTS for word in ("--defence", name)]
    return [
        *("evaluate", "--bundle", str(bundle), "--attack", SPEC, "--limit", str(PICTURES)),
        *("--seeds", "2", "--timed", "0", "-o", "report", *named),
    ]


def start(bundle: Path, folder: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own, in ``folder``, which its report goes into."""
    code = "import sys; from srd_edge.cli import main; sys.argv[0] = 'srd-edge'; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments(bundle)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def answered(folder: Path) -> int:
    """How many answers are on disk; folders may come and go while they are looked for."""
    found = 0
    for place, _, names in os.walk(folder / "report"):
        answers = [Path(place) / name for name in names if name.endswith(".jsonl")]
        found += sum(file.read_bytes().count(b"\n") for file in answers)
    return found


def kill_after(bundle: Path, folder: Path, answers: int) -> None:
    process = start(bundle, folder)
    while answered(folder) < answers and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"


def test_a_kill_at_any_moment_changes_nothing(toy_bundle: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    whole = start(toy_bundle, undisturbed)
    out, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0
    total = answered(undisturbed)
    for share in (0.0, 0.3, 0.8):
        kill_after(toy_bundle, killed, int(share * total))
    again = start(toy_bundle, killed)
    assert again.communicate(timeout=120)[0] == out
    assert answered(killed) == total
    results = (undisturbed / "report" / "results.json").read_bytes()
    assert (killed / "report" / "results.json").read_bytes() == results
    assert json.loads(out.splitlines()[-1])["attacks"] == json.loads(results)["attacks"]


@pytest.fixture(scope="module")
def report(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of every contestant that needs no more than the bundle."""
    folder = tmp_path_factory.mktemp("report")
    config = EvaluateConfig(
        output=folder,
        bundles=(toy_bundle,),
        attacks=("badnet:target=zebra", "badnet:size=40,target=zebra"),
        contestants=("none", "policy", "random", "jpeg", "best_fixed", "srd"),
        seeds=3,
        limit=60,
        timed=2,
        images=True,
    )
    write_report(evaluate(config), folder)
    return folder


def test_every_attack_and_contestant_is_there(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    assert [attack["key"] for attack in results["attacks"]] == ["badnet-1", "badnet-2"]
    for attack in results["attacks"]:
        names = [row["name"] for row in attack["contestants"]]
        assert names == ["none", "policy", "random", "jpeg", "best_fixed"]
        (skipped,) = attack["skipped"]
        assert skipped["name"] == "srd"
        assert attack["counted"] == 60
        undefended = attack["contestants"][0]
        assert undefended["captioner_passes_clean"] == undefended["captioner_passes_triggered"] == 1
        assert undefended["clean_drop"] == 0
        assert attack["victim"]["verdict"] == "failed attack", "nobody was poisoned"
    timing = json.loads((report / "timing.json").read_text())
    assert timing["attacks"]["badnet-1"]["none"]["ratio_clean"] == 1
    assert set(timing["attacks"]["badnet-2"]) == set(names)


def test_what_draws_nothing_is_asked_once(report: Path) -> None:
    """Three seeds, two attacks: only chance is asked three times, and only of the clean pictures
    are answers shared by the attacks, but for the contestant that was told the attack."""
    files = [path.name.rpartition("-")[0] for path in (report / "work").rglob("*.jsonl")]
    clean = {
        name: files.count(f"clean-{name}") for name in ("none", "policy", "random", "best_fixed")
    }
    assert clean == {"none": 1, "policy": 1, "random": 3, "best_fixed": 2}
    triggered = {name: files.count(f"badnet-{name}") for name in ("none", "random", "best_fixed")}
    assert triggered == {"none": 2, "random": 6, "best_fixed": 2}


def test_every_case_is_kept_where_it_is_asked_for(report: Path) -> None:
    folder = report / "images" / "badnet-2"
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    assert len(cases) == 60
    for case in cases:
        assert (folder / case["clean"]).is_file()
        assert (folder / case["triggered"]).is_file()
        assert set(case["answers"]) == {"none", "policy", "random", "jpeg", "best_fixed"}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"attacks": ("badnet:target=a",)}, "none of 60"),
        ({"attacks": ("rareword:target=zebra",)}, "rareword"),
        ({"contestants": ("polciy",)}, "polciy"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    toy_bundle: Path, tmp_path: Path, changes: dict[str, tuple[str, ...]], found: str
) -> None:
    settings = {"attacks": ("badnet:target=zebra",), "contestants": ("default",)} | changes
    config = EvaluateConfig(
        output=tmp_path / "report",
        bundles=(toy_bundle,),
        limit=60,
        attacks=settings["attacks"],
        contestants=settings["contestants"],
    )
    with pytest.raises(UsageError, match=found) as caught:
        evaluate(config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()
