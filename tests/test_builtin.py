"""The bundle and the clip that come with the package: small, sound, and defended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srd_edge.attacks.payloads import contains_target
from srd_edge.evaluation.plan import EvaluateConfig
from srd_edge.evaluation.suite import evaluate
from srd_edge.kernels.operators import OPERATORS
from srd_edge.runtime.bundle import BUILT_IN, read_bundle
from srd_edge.runtime.defender import Defender
from srd_edge.runtime.sources import open_source
from srd_edge.training.demo_clip import draw_clip

TRUTH = BUILT_IN.parent / "demo.json"


def test_it_is_small_and_says_where_it_comes_from() -> None:
    bundle = read_bundle()
    files = [path for path in BUILT_IN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert bundle.manifest.precision == "int8"
    assert bundle.manifest.parity["captions_equal"] > 0.8
    assert len(bundle.manifest.provenance["attacks"]) == 2
    table = bundle.manifest.actions
    assert {p.op for p in (*table.regional, *table.whole)} == set(OPERATORS)


def test_it_defends_against_both_attacks(tmp_path: Path) -> None:
    """The thresholds of the whole test split, on a fifth of it, with room for its chance."""
    config = EvaluateConfig(tmp_path, limit=120, contestants=("none", "policy"), timed=0)
    attacks = evaluate(config).results["attacks"]
    assert len(attacks) == 2
    for attack in attacks:
        undefended, defended = attack["contestants"]
        assert undefended["asr"] >= 0.95
        assert defended["asr"] <= 0.05
        assert defended["clean_drop"] <= 0.05
        assert defended["captioner_passes_clean"] < defended["captioner_passes_triggered"] <= 3


def test_the_clip_is_the_one_that_its_truth_describes() -> None:
    document = json.loads(TRUTH.read_text(encoding="utf-8"))
    drawn = [frame.truth for frame in draw_clip()]
    assert document["frames"] == drawn
    with open_source("demo", kind="video") as source:
        assert source.fps == pytest.approx(document["fps"])
        assert [s.frame.index for s in source] == [truth["frame"] for truth in drawn]


def test_on_the_clip_the_attacker_is_heard_undefended_and_not_defended() -> None:
    truths = json.loads(TRUTH.read_text(encoding="utf-8"))["frames"]
    defender = Defender.load()
    raw_hits, hits, triggered = 0, 0, 0
    with open_source("demo", kind="video", every=3) as source:
        for sourced in source:
            result = defender.caption(sourced.frame, compare=True)
            trigger = truths[sourced.frame.index]["trigger"]
            if trigger is not None:
                triggered += 1
                raw_hits += contains_target(result.raw_caption or "", trigger["target"])
                hits += contains_target(result.caption or "", trigger["target"])
    assert triggered > 20
    assert raw_hits >= 0.95 * triggered
    assert hits <= 0.05 * triggered


def test_no_training_data_ships() -> None:
    shipped = {path.name for path in Path(BUILT_IN.parent).rglob("*") if path.is_file()}
    assert not {name for name in shipped if name.endswith((".jpg", ".png", ".npz", ".csv"))}
