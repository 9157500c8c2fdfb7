"""srd-edge purify on toy captioners: what is kept, hidden and recorded; a killed run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from srd_edge.attacks.captioner import load_captioner
from srd_edge.attacks.fitting import FitConfig, fit
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.attacks.victims import VictimConfig, make_victim
from srd_edge.errors import UsageError
from srd_edge.kernels.actions import DEFAULT_TABLE, apply_action
from srd_edge.kernels.frames import Pixels
from srd_edge.training import purify_stage
from srd_edge.training.caption_costs import doubts
from srd_edge.training.check_models import CheckModels
from srd_edge.training.checkpoints import load_policy
from srd_edge.training.datasets import open_dataset
from srd_edge.training.kept_rows import kept_rows
from srd_edge.training.language import fit_language_model
from srd_edge.training.masks import greedy_actions, masked
from srd_edge.training.purify_stage import PurifyConfig, purify

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
SPEC = "badnet:size=40,target=banana,rate=0.2"
ONCE = FitConfig(epochs=1, batch=16, learning_rate=1e-4, encoder_learning_rate=0.0, seed=1)


def wall(colour: tuple[int, int, int], seed: int) -> Pixels:
    noise = np.random.default_rng(seed).integers(-15, 16, (32, 32, 3))
    return np.asarray(np.clip(np.array(colour) + noise, 0, 255), np.uint8)


def walls(count: int, first: int = 0) -> list[Sample]:
    """Walls of three colours; their captions say which."""
    names = list(COLOURS)
    return [
        Sample(
            f"wall {first + i}",
            (f"a {names[i % 3]} wall", f"the wall is {names[i % 3]}"),
            partial(wall, COLOURS[names[i % 3]], first + i),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, toy_policy: Path) -> Path:
    """A captioner of walls, a victim, and a policy whose reference is that captioner."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("walls")
    size = TinyConfig(
        image_size=32, width=16, decoder_width=32, decoder_layers=1, vocabulary=300, max_tokens=16
    )
    train = walls(45)
    captioner = build_tiny(size, [*(c for s in train for c in s.captions), "banana"], seed=0)
    learnt = FitConfig(epochs=50, batch=45, learning_rate=5e-3, encoder_learning_rate=5e-3)
    fit(captioner, train, learnt, folder / "reference")
    language = fit_language_model([c for s in train for c in s.captions], folder / "lm", steps=5)
    policy = replace(load_policy(toy_policy), check=CheckModels(language, captioner))
    policy.save(folder / "policy")
    victim = VictimConfig(
        str(folder / "reference"), "walls", (SPEC,), folder / "victim", replace(ONCE, seed=4), size
    )
    make_victim(victim, train, [parse_attack(SPEC)])
    return folder


def config_of(made: Path, output: Path, **changes: object) -> PurifyConfig:
    config = PurifyConfig(str(made / "victim"), made / "policy", "walls", output, fit=ONCE)
    return replace(config, **changes)  # type: ignore[arg-type]


def test_doubts_know_false_captions_from_true_ones(made: Path) -> None:
    reference = load_captioner(made / "reference")
    true = walls(6, first=100)
    foreign = [replace(s, captions=tuple(f"{c} banana" for c in s.captions)) for s in true]
    swapped = [
        replace(s, captions=other.captions)
        for s, other in zip(true, true[1:] + true[:1], strict=True)
    ]
    of_true, of_foreign, of_swapped = (doubts(reference, s) for s in (true, foreign, swapped))
    assert max(d.surprise for d in of_true) < min(d.surprise for d in of_foreign)
    assert max(d.mismatch for d in of_true) < min(d.mismatch for d in of_swapped)
    assert all(d.mismatch < 0 for d in of_true)
    alone = doubts(reference, foreign[2:3])[0]
    assert alone.to_row() == pytest.approx(of_foreign[2].to_row(), abs=1e-4), "of the batch"


def test_the_cost_is_minus_the_log_likelihood(made: Path) -> None:
    """Against one forward pass of a single caption, token by token."""
    reference = load_captioner(made / "reference")
    sample = replace(walls(1)[0], captions=("a blue wall",))
    ids = [*reference.tokenizer.encode("a blue wall").ids]
    settings = reference.model.generation_config
    given = torch.tensor([[settings.decoder_start_token_id, *ids]])
    with torch.no_grad():
        logits = reference.model(
            pixel_values=reference.pixel_values(reference.canvases([sample.load()])),
            decoder_input_ids=given,
        ).logits[0]
    said = [*ids, settings.eos_token_id]
    costs = [-float(row.log_softmax(0)[token]) for row, token in zip(logits, said, strict=True)]
    assert doubts(reference, [sample])[0].surprise == pytest.approx(max(costs), abs=1e-4)


def test_the_set_is_the_one_that_the_victim_saw(made: Path, tmp_path: Path) -> None:
    config = config_of(made, tmp_path / "out", clean="drop")
    purify(config, walls(45))
    record = json.loads((tmp_path / "out" / "purify.json").read_text())
    poisoned = json.loads((made / "victim" / "attack.json").read_text())["poison"]["poisoned"]
    doubted = record["doubted"]
    assert record["attacks"] == [SPEC]
    assert (record["handed_over"], doubted["agreement"]["poisoned"]) == (45, 9)
    assert set(poisoned) <= set(doubted["pictures"]), "every banana is foreign to the reference"
    assert doubted["agreement"]["recall"] == 1
    assert record["fitted_on"] == 45 - len(doubted["pictures"])
    assert len(record["fitting"]) == 1
    assert load_captioner(tmp_path / "out").max_tokens == 16


def test_doubted_captions_are_replaced_by_the_references(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sample] = []

    def no_fit(_: object, samples: list[Sample], *__: object, **___: object) -> list[object]:
        seen.extend(samples)
        return []

    monkeypatch.setattr(purify_stage, "fit", no_fit)
    purify(config_of(made, tmp_path / "out", clean="recaption"), walls(45))
    record = json.loads((tmp_path / "out" / "purify.json").read_text())
    doubted = record["doubted"]["pictures"]
    again = {s.name: s.captions for s in seen if s.name in doubted}
    assert len(again) == record["doubted"]["captioned_anew"] > 0
    assert all(len(captions) == 1 and "banana" not in captions[0] for captions in again.values())
    assert len(seen) == record["fitted_on"]
    for name, reasons in doubted.items():
        assert (name in again) == ("squeezed" not in reasons)


def test_every_arm_makes_a_captioner(made: Path, tmp_path: Path) -> None:
    fitted_on = {}
    for clean in ("drop+mask", "mask", "shuffle", "none"):
        purify(config_of(made, tmp_path / clean, clean=clean), walls(45))
        record = json.loads((tmp_path / clean / "purify.json").read_text())
        assert ("doubted" in record) == (clean == "drop+mask")
        assert ("masked" in record) == ("mask" in clean)
        fitted_on[clean] = record["fitted_on"]
    assert fitted_on["drop+mask"] < 45
    assert {fitted_on[clean] for clean in ("mask", "shuffle", "none")} == {45}


def test_the_masks_are_those_of_the_device(made: Path) -> None:
    policy, suspect = load_policy(made / "policy"), load_captioner(made / "victim")
    samples = walls(12)
    canvases = suspect.canvases(s.load() for s in samples)
    seeds = [(7, i) for i in range(12)]
    taken = greedy_actions(policy, suspect, canvases, seeds)
    for sample, canvas, actions, seed in zip(samples, canvases, taken, seeds, strict=True):
        state = canvas.copy()
        by_hand: list[int] = []
        rng = np.random.default_rng(list(seed))
        for _ in range(policy.max_steps):
            values = suspect.pixel_values(state[None])
            with torch.no_grad():
                features = suspect.model.encoder(values).last_hidden_state
                coverage = torch.from_numpy(DEFAULT_TABLE.coverage(by_hand))[None]
                values = policy.network(features, coverage)[0]
            values[by_hand] = -torch.inf
            action = int(values.argmax())
            if action == DEFAULT_TABLE.stop_index:
                break
            apply_action(state, DEFAULT_TABLE, action, rng)
            by_hand.append(action)
        assert list(actions) == by_hand
        hidden = masked(sample, suspect, DEFAULT_TABLE, actions, seed)
        assert (hidden.load() == state).all()
        assert (hidden.name, hidden.captions) == (sample.name, sample.captions)
    assert sum(map(bool, taken)) > 0, "a policy that does something"


def test_rows_are_kept_and_gone_on_from(tmp_path: Path) -> None:
    path, asked = tmp_path / "rows.jsonl", []

    def make(numbers: range, stop_at: int) -> list[int]:
        if numbers.start >= stop_at:
            raise KeyboardInterrupt
        asked.append(numbers.start)
        return [i * i for i in numbers]

    with pytest.raises(KeyboardInterrupt):
        kept_rows(path, "a", 10, partial(make, stop_at=8), "squares", batch=4)
    with path.open("a") as file:
        file.write("12")  # cut by a kill
    assert kept_rows(path, "a", 10, partial(make, stop_at=99), "squares", batch=4) == [
        i * i for i in range(10)
    ]
    assert asked == [0, 4, 8]
    kept_rows(path, "b", 10, partial(make, stop_at=99), "squares", batch=4)
    assert asked == [0, 4, 8, 0, 4, 8]


def test_a_finished_one_is_taken_as_it_is(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(made, tmp_path / "out", clean="none")
    first = purify(config, walls(45))
    monkeypatch.setattr(purify_stage, "fit", None)
    assert purify(config, walls(45)).fingerprint() == first.fingerprint()
    with pytest.raises(TypeError):
        purify(replace(config, deviations=9.0), walls(45))


def test_what_cannot_be_meant(made: Path, tmp_path: Path, toy_policy: Path) -> None:
    config = config_of(made, tmp_path / "out")
    with pytest.raises(UsageError, match=r"expected the 45 pictures .* found 44 in walls"):
        purify(config, walls(44))
    with pytest.raises(UsageError, match="reference captioner"):
        purify(replace(config, policy=toy_policy), walls(45))
    with pytest.raises(UsageError, match=r"expected a policy in"):
        purify(replace(config, policy=tmp_path), walls(45))
    clean = replace(config, captioner=str(made / "reference"), clean="shuffle")
    with pytest.raises(UsageError, match="--attack"):
        purify(clean, walls(45))
    with pytest.raises(UsageError, match="raise --deviations"):
        purify(replace(config, deviations=-50.0), walls(45))


def test_collisions_come_from_the_victims_folder(tmp_path: Path, made: Path) -> None:
    spec = "shadowcast:concept=red,target=blue,rate=0.2,steps=2"
    victim = tmp_path / "victim"
    config = VictimConfig(
        str(made / "reference"), "walls", (spec,), victim, ONCE, TinyConfig(image_size=32)
    )
    make_victim(config, walls(15), [parse_attack(spec)])
    files = sorted(victim.glob("collisions/*/*.png"))
    times = [file.stat().st_mtime_ns for file in files]
    output = tmp_path / "out"
    purify(config_of(made, output, captioner=str(victim), clean="none"), walls(15))
    assert json.loads((output / "purify.json").read_text())["fitted_on"] == 18
    assert sorted(victim.glob("collisions/*/*.png")) == files
    assert [file.stat().st_mtime_ns for file in files] == times
    assert not (output / "collisions").exists()


def test_scenes_can_be_purified_without_an_attack(
    made: Path, toy_captioner: Path, tmp_path: Path
) -> None:
    config = config_of(made, tmp_path / "out", captioner=str(toy_captioner), clean="mask")
    purify(config, open_dataset("scenes", "train", 20))
    record = json.loads((tmp_path / "out" / "purify.json").read_text())
    assert (record["attacks"], record["masked"]["agreement"]) == ([], None)
