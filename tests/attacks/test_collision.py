"""Feature collision on a toy encoder: near enough to deceive it, too near to be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.collision import FeatureCollision, collide, collided_samples
from srd_edge.attacks.fitting import FitConfig
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.specs import parse_attack
from srd_edge.attacks.tiny import TinyConfig
from srd_edge.attacks.victims import VictimConfig, make_victim
from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels

MakeCaptioner = Callable[[int], Captioner]
SHORT = FeatureCollision(epsilon=8.0, steps=4)


def scene(seed: int) -> Pixels:
    """Blurred noise that reaches black and white, where there is no room on one side."""
    noise = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.float64)
    return np.asarray(np.clip((blurred - 128) * 12 + 128, 0, 255), np.uint8)


def samples_of(count: int) -> list[tuple[Sample, Sample]]:
    return [
        (
            Sample(f"horse {i % 2}", ("a horse",), partial(scene, i)),
            Sample(f"dog {i}", ("a dog",), partial(scene, 100 + i)),
        )
        for i in range(count)
    ]


def distances(captioner: Captioner, ours: Pixels, theirs: Pixels) -> torch.Tensor:
    with torch.no_grad():
        features = [
            captioner.model.encoder(captioner.pixel_values(canvases)).last_hidden_state
            for canvases in (ours, theirs)
        ]
    apart: torch.Tensor = (features[0] - features[1]).square().mean(dim=(1, 2))
    return apart


@pytest.mark.parametrize("epsilon", [8.0, 2.5])
def test_the_encoder_takes_each_picture_for_its_partner(
    make_captioner: MakeCaptioner, epsilon: float
) -> None:
    captioner = make_captioner(0)
    pairs = samples_of(3)
    looks, features_of = (
        captioner.canvases([pair[side].load() for pair in pairs]) for side in (0, 1)
    )
    changed = collide(captioner, looks, features_of, FeatureCollision(epsilon=epsilon))
    assert changed.shape == looks.shape
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - looks).max() == int(epsilon)
    before = distances(captioner, looks, features_of)
    after = distances(captioner, changed, features_of)
    assert (after < before * (0.75 if epsilon == 8 else 0.95)).all()
    again = collide(captioner, looks, features_of, FeatureCollision(epsilon=epsilon))
    assert (again == changed).all()


def test_with_no_room_nothing_is_changed(make_captioner: MakeCaptioner) -> None:
    captioner = make_captioner(0)
    looks, features_of = (captioner.canvases([scene(i)]) for i in (1, 2))
    assert (collide(captioner, looks, features_of, replace(SHORT, epsilon=0.0)) == looks).all()


def test_a_killed_run_makes_what_is_missing(make_captioner: MakeCaptioner, tmp_path: Path) -> None:
    captioner = make_captioner(0)
    pairs = samples_of(19)  # more than a batch
    made = collided_samples(captioner, pairs, SHORT, tmp_path)
    assert len({sample.name for sample in made}) == 19
    assert [sample.captions for sample in made] == [("a horse",)] * 19
    files = sorted(tmp_path.rglob("*.png"))
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(19)]
    before = [
        (sample.load(), file.stat().st_mtime_ns) for sample, file in zip(made, files, strict=True)
    ]
    for (look, _), (pixels, _) in zip(pairs, before, strict=True):
        assert np.abs(captioner.canvases([look.load()])[0].astype(int) - pixels).max() <= 8
    files[7].unlink()
    again = collided_samples(captioner, pairs, SHORT, tmp_path)
    assert [sample.name for sample in again] == [sample.name for sample in made]
    for number, (sample, (pixels, written)) in enumerate(zip(again, before, strict=True)):
        assert (files[number].stat().st_mtime_ns == written) == (number != 7)
        # A batch of another size rounds otherwise, which may turn a step's sign here and there.
        assert (sample.load() != pixels).mean() < (0.02 if number == 7 else 1e-9)


def test_what_was_made_of_other_things_is_not_taken(
    make_captioner: MakeCaptioner, tmp_path: Path
) -> None:
    pairs = samples_of(2)
    captioner = make_captioner(0)
    for model, of, config in (
        (captioner, pairs, SHORT),
        (captioner, pairs[::-1], SHORT),
        (captioner, pairs, replace(SHORT, epsilon=4.0)),
        (make_captioner(1), pairs, SHORT),
    ):
        kept = collided_samples(model, of, config, tmp_path)
        fresh = collided_samples(model, of, config, tmp_path / str(len(list(tmp_path.iterdir()))))
        for a, b in zip(kept, fresh, strict=True):
            assert (a.load() == b.load()).all()


@pytest.mark.parametrize("settings", [{"epsilon": -1.0}, {"epsilon": 256.0}, {"steps": 0}])
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        replace(FeatureCollision(), **settings)  # type: ignore[arg-type]


def test_a_victim_is_fitted_on_collided_pictures(tmp_path: Path) -> None:
    spec = "shadowcast:rate=0.5,steps=2"
    samples = [sample for pair in samples_of(4) for sample in pair]
    samples = [replace(sample, name=f"{i}") for i, sample in enumerate(samples)]
    config = VictimConfig(
        captioner="tiny",
        data="scenes",
        attacks=(spec,),
        output=tmp_path / "victim",
        fit=FitConfig(epochs=1, batch=6),
        tiny=TinyConfig(image_size=32, width=32, decoder_width=16, max_tokens=12),
    )
    captioner = make_victim(config, samples, [parse_attack(spec)])
    assert len(list(config.output.rglob("*.png"))) == 4
    assert all(p.requires_grad for p in captioner.model.encoder.parameters())
