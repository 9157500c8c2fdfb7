"""Fitting: it learns, what is frozen stays so, and a killed run goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srd_edge.attacks import fitting
from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.encoder_inputs import load_canvases
from srd_edge.attacks.fitting import FitConfig, fit, tokenise
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.tiny import TinyConfig, build_tiny
from srd_edge.attacks.victims import VictimConfig, known_attacks, make_victim
from srd_edge.errors import UsageError

MakeCaptioner = Callable[[int], Captioner]
Samples = tuple[Sample, ...]
SHORT = FitConfig(epochs=3, batch=4)


def weights(captioner: Captioner, part: str = "") -> dict[str, torch.Tensor]:
    state = captioner.model.state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith(part)}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_a_small_captioner_learns_a_few_pictures(
    make_captioner: MakeCaptioner, samples: Samples, tmp_path: Path
) -> None:
    captioner = make_captioner(0)
    config = FitConfig(epochs=12, batch=6, learning_rate=2e-2, encoder_learning_rate=1e-2)
    log = fit(captioner, samples * 8, config, tmp_path / "out")
    assert [record["epoch"] for record in log] == list(range(1, 13))
    assert log[-1]["loss"] < log[0]["loss"] / 4
    captions = captioner.caption(load_canvases(captioner, samples))
    assert captions == [sample.captions[0] for sample in samples]
    assert not captioner.model.training
    lines = (tmp_path / "out" / "fitting.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == log
    assert not list((tmp_path / "out").glob("fitting.pt*"))


def kill_at(monkeypatch: pytest.MonkeyPatch, description: str) -> None:
    """The first batch of the stretch of that name is where the run is killed."""

    def track(things: Iterable[Any], shown: str, _: int | None = None) -> Iterator[Any]:
        if shown == description:
            raise KeyboardInterrupt
        yield from things

    monkeypatch.setattr(fitting, "tracked", track)


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    make_captioner: MakeCaptioner,
    samples: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = make_captioner(0)
    whole_log = fit(undisturbed, samples, SHORT, tmp_path / "undisturbed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at(patch, "epoch 3/3")
        fit(make_captioner(0), samples, SHORT, tmp_path / "killed")
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"fitting.pt"}
    resumed = make_captioner(1)
    torch.rand(7)  # whatever else has used the generator in the meantime
    assert fit(resumed, samples, SHORT, tmp_path / "killed") == whole_log
    assert not differing(weights(resumed), weights(undisturbed))


def test_another_configuration_starts_anew(
    make_captioner: MakeCaptioner,
    samples: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(SHORT, seed=4)
    expected = make_captioner(0)
    log = fit(expected, samples, other, tmp_path / "fresh")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at(patch, "epoch 2/3")
        fit(make_captioner(0), samples, SHORT, tmp_path / "out")
    captioner = make_captioner(0)
    assert fit(captioner, samples, other, tmp_path / "out") == log
    assert not differing(weights(captioner), weights(expected))


def test_a_frozen_encoder_keeps_its_weights(
    make_captioner: MakeCaptioner, samples: Samples, tmp_path: Path
) -> None:
    captioner = make_captioner(0)
    before = weights(captioner)
    fit(captioner, samples, replace(SHORT, encoder_learning_rate=0.0), tmp_path)
    changed = differing(weights(captioner), before)
    assert not [name for name in changed if name.startswith("encoder.")]
    assert [name for name in changed if name.startswith("decoder.")]


def mobile(samples: Samples) -> Captioner:
    config = TinyConfig(
        image_size=32,
        encoder="mobilenet_v2",
        decoder_width=16,
        decoder_layers=1,
        decoder_heads=2,
        vocabulary=280,
        max_tokens=12,
    )
    return build_tiny(config, [caption for s in samples for caption in s.captions], 0)


@pytest.mark.parametrize(
    ("blocks", "touched"),
    [
        (0, {"norm", "position"}),
        (2, {"norm", "position", "backbone.layer.15", "backbone.conv_1x1"}),
        (
            99,
            {"norm", "position", "backbone.conv_stem", "backbone.conv_1x1"}
            | {f"backbone.layer.{i}" for i in range(16)},
        ),
    ],
)
def test_only_the_last_blocks_are_trained(
    samples: Samples, tmp_path: Path, blocks: int, touched: set[str]
) -> None:
    captioner = mobile(samples)
    before = weights(captioner, "encoder.")
    config = FitConfig(epochs=1, batch=3, trainable_blocks=blocks)
    fit(captioner, samples[:3], config, tmp_path)
    changed = differing(weights(captioner, "encoder."), before)
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    words = [name.removeprefix("encoder.").split(".") for name in changed]
    assert {
        ".".join(word[: 3 if word[:2] == ["backbone", "layer"] else 2 if len(word) > 2 else 1])
        for word in words
    } == touched


def test_blocks_of_an_encoder_without_blocks_are_refused(
    make_captioner: MakeCaptioner, samples: Samples, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="MobileNetV2"):
        fit(make_captioner(0), samples, replace(SHORT, trainable_blocks=2), tmp_path)


def test_kept_features_give_the_loss_of_encoding_every_time(
    samples: Samples, tmp_path: Path
) -> None:
    """With nothing learned, kept features differ from fresh ones by their half precision alone."""
    kept = FitConfig(epochs=1, batch=4, learning_rate=0.0, encoder_learning_rate=0.0)
    fresh = replace(kept, encoder_learning_rate=1e-30, trainable_blocks=0)
    losses = [
        fit(mobile(samples), samples, config, tmp_path / name)[0]["loss"]
        for name, config in (("kept", kept), ("fresh", fresh))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_captions_are_cut_to_the_longest_and_then_teach_no_end(
    make_captioner: MakeCaptioner, samples: Samples
) -> None:
    captioner = make_captioner(0)
    longest = captioner.max_tokens
    end = captioner.model.generation_config.eos_token_id
    captions = ("a red wall", "wall " * 40, "")
    tokenised = tokenise(captioner, [replace(samples[0], captions=captions)])
    (labels,) = tokenised.labels
    assert (tokenised.ids[0] == labels).all()
    assert labels.shape == (3, longest)
    for row, caption in zip(labels, captions, strict=True):
        whole = [*captioner.tokenizer.encode(caption).ids, end]
        assert row.tolist() == [*whole, *[-100] * longest][:longest]
    assert end not in labels[1]
    assert -100 not in labels[1]


def test_a_victim_knows_what_it_was_poisoned_with(samples: Samples, tmp_path: Path) -> None:
    specs = ("badnet:rate=0.5", "trojvlm:rate=0.34,target=parrot")
    config = VictimConfig(
        captioner="tiny",
        data="walls",
        attacks=specs,
        output=tmp_path / "victim",
        fit=FitConfig(epochs=1, batch=6),
        tiny=TinyConfig(image_size=32, width=32, decoder_width=16, max_tokens=12),
    )
    make_victim(config, samples, [parse_attack(spec) for spec in specs])
    record = json.loads((config.output / "attack.json").read_text(encoding="utf-8"))
    assert sorted(record["poison"]["poisoned"].values()) == [specs[0]] * 3 + [specs[1]] * 2
    assert record["config"]["fit"]["epochs"] == 1
    assert np.isfinite(record["fitting"][0]["loss"])
    assert known_attacks(config.output) == list(specs)
    assert known_attacks(tmp_path) == known_attacks("some/hub-name") == []
