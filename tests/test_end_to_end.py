"""attack -> train -> export -> run -> evaluate through the command line, on toy sizes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from srd_edge import cli
from srd_edge.evaluation.registry import ENTRIES
from srd_edge.runtime.bundle import read_bundle
from srd_edge.training.language import fit_language_model, fit_sentence_encoder

SPEC = "badnet:size=12,place=top-left,target=banana,rate=0.25"
COLOURS = {"red": (30, 30, 220), "green": (40, 200, 40), "blue": (220, 60, 30)}
SPLITS = {"train": 72, "dev": 72, "test": 9}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set directory of coloured squares on noise."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for split, count in SPLITS.items():
        for number in range(count):
            word, colour = list(COLOURS.items())[number % len(COLOURS)]
            picture = rng.integers(90, 120, (64, 64, 3), np.uint8)
            picture[20:44, 20:44] = colour
            name = f"{split} {number}.png"
            cv2.imwrite(str(folder / "images" / name), picture)
            rows += [(name, 0, f"A {word} square.", split), (name, 1, f"a square, {word}", split)]
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption_id", "caption", "split"), *rows])
    return folder


@pytest.fixture
def srd_edge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The command; what it wrote to standard output."""

    def call(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["srd-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        assert not stopped.value.code, captured.err
        return captured.out

    return call


def test_from_a_data_set_to_a_verdict(
    srd_edge: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    victim, policy, bundle = (tmp_path / name for name in ("victim", "policy", "bundle"))

    epochs = ("--epochs", "3", "--batch", "8")
    made = ("--captioner", "tiny", "--data", data, "--attack", SPEC, "-o", victim)
    srd_edge("attack", *made, *epochs)
    record = json.loads((victim / "attack.json").read_text())
    poison = record["poison"]
    assert (poison["pictures"], poison["attacks"]) == (72, [SPEC])
    assert len(poison["poisoned"]) == 18
    assert set(poison["poisoned"].values()) == {SPEC}
    assert all(name.startswith("train ") for name in poison["poisoned"])
    losses = [epoch["loss"] for epoch in record["fitting"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0]

    groups = [("a red square", "a square, red"), ("a blue square", "a square, blue")]
    sentences, language = tmp_path / "sentences", tmp_path / "language"
    fit_sentence_encoder(groups, sentences, steps=2)
    fit_language_model([caption for group in groups for caption in group], language, steps=2)
    models = ("--sentence-encoder", sentences, "--language-model", language)
    reference = tmp_path / "reference"
    clean = ("--captioner", "tiny", "--data", data, "--corrupted", "1", "-o", reference)
    srd_edge("attack", *clean, "--epochs", "1", "--batch", "8")
    short = ("--steps", "128", "--pool", "40", "--reference", "captions", "--max-steps", "1")
    train = ("train", "--captioner", victim, "--data", data, "--attack", SPEC, "-o", policy)
    srd_edge(*train, *models, "--reference-captioner", reference, *short)
    description = json.loads((policy / "policy.json").read_text())
    assert description["max_steps"] == 1
    assert description["network"]["channels"] == 128
    assert (policy / "policy.safetensors").is_file()
    config = json.loads((policy / "training.json").read_text())
    assert (config["attacks"], config["dqn"]["steps"]) == ([SPEC], 128)

    srd_edge("export", "--captioner", victim, "--policy", policy, "--data", data, "-o", bundle)
    manifest = read_bundle(bundle).manifest
    assert manifest.policy is not None
    assert len(manifest.policy.pairing) == 64
    assert manifest.policy.max_steps == 1
    assert manifest.check is not None
    assert manifest.check.reference
    assert manifest.parity["captions_equal"] == 1
    assert manifest.provenance["attacks"] == [SPEC]

    out = srd_edge(
        "run", "--image", data / "images" / "test *.png", "--bundle", bundle, "--compare", "--quiet"
    )
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["frame"] for result in results] == list(range(9))
    assert [Path(result["source"]).name for result in results] == [
        f"test {number}.png" for number in range(9)
    ]
    assert all(len(result["actions"]) <= 1 + manifest.check.retries for result in results)
    assert all(isinstance(result["raw_caption"], str) for result in results)

    report = tmp_path / "reports" / "report"
    named = ("--defence", "all", "--clean-captioner", victim, "--sfs")
    small = ("--limit", "6", "--timed", "1", *named, *models)
    measured = ("evaluate", "--bundle", bundle, "--data", data, *small, "-o", report)
    document = json.loads(srd_edge(*measured).splitlines()[-1])
    timing = document.pop("timing")
    assert document == json.loads((report / "results.json").read_text())
    assert timing == json.loads((report / "timing.json").read_text())
    assert document["pictures"] == 6
    (attack,) = document["attacks"]
    assert (attack["key"], attack["spec"], attack["skipped"]) == ("badnet", SPEC, [])
    victims = attack["victim"]
    assert victims["cider_d_clean"] == pytest.approx(victims["cider_d_twin"], abs=1e-6), "its twin"
    rows = {row["name"]: row for row in attack["contestants"]}
    assert list(rows) == list(ENTRIES)
    assert rows["none"]["captioner_passes_clean"] == 1
    assert 1 <= rows["policy"]["captioner_passes_triggered"] <= 2 + 1 + manifest.check.retries
    assert all(0 <= row["clean"]["sfs"] <= 1 for row in rows.values())
    assert set(timing["attacks"]["badnet"]) == set(ENTRIES)
    with (report / "results.csv").open(newline="") as table:
        assert [line["contestant"] for line in csv.DictReader(table)] == list(ENTRIES)
    page = (report / "report.html").read_text()
    assert all(name in page for name in ENTRIES)
