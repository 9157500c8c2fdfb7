"""Scenes: the same for the same seed, the same at every size, and told as they are drawn."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from srd_edge.kernels.frames import Pixels
from srd_edge.training.datasets import SCENE_COUNTS, open_dataset
from srd_edge.training.scene_captions import caption_scene
from srd_edge.training.scenes import COLOURS, GAIN, SHAPES, Scene, draw_scene, sample_scene

NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3}


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(sample_scene(np.random.default_rng([1, i])) for i in range(200))


def test_the_same_seed_is_the_same_picture_byte_for_byte() -> None:
    for seed in range(20):
        first, again = (sample_scene(np.random.default_rng(seed)) for _ in range(2))
        assert first == again
        assert draw_scene(first).tobytes() == draw_scene(again).tobytes()
    pictures = {draw_scene(scene).tobytes() for scene in scenes()}
    assert len(pictures) == len(scenes())


def test_a_scene_looks_alike_at_every_size() -> None:
    """Shrunk, a large drawing is close to the small one, and closer than to any other scene.

    Blurred: enlarging softens grain, and OpenCV draws everything half a pixel too large.
    """

    def soft(picture: Pixels) -> NDArray[np.float32]:
        return cv2.blur(picture.astype(np.float32), (5, 5)).astype(np.float32)

    smalls = [draw_scene(scene) for scene in scenes()[:40]]
    assert {small.shape for small in smalls} == {(120, 160, 3)}
    for i, scene in enumerate(scenes()[:40]):
        large = draw_scene(scene, 640, 480)
        assert large.shape == (480, 640, 3)
        shrunk = cv2.resize(large, (160, 120), interpolation=cv2.INTER_AREA).astype(np.uint8)
        differences = [np.abs(soft(shrunk) - soft(small)).mean() for small in smalls]
        assert differences[i] < 4
        assert np.argmin(differences) == i


def test_every_shape_is_where_the_scene_says_in_its_colour() -> None:
    """The pixel at the centre of every shape that has one, with the light divided out."""
    names = list(COLOURS)
    palette = np.array(list(COLOURS.values()), float)
    seen = 0
    for scene in scenes():
        picture = draw_scene(scene, 640, 480) / GAIN[scene.light]
        for group in scene.groups:
            for thing in group.things:
                if group.shape == "ring":
                    continue
                y, x = round(thing.y * 480), round(thing.x * 640)
                colour = picture[y - 3 : y + 4, x - 3 : x + 4].mean(axis=(0, 1))
                nearest = np.linalg.norm(palette - colour, axis=1).argmin()
                assert names[nearest] == group.colour
                seen += 1
    assert seen > 300


def told(caption: str) -> list[tuple[int, str, str, str | None]]:
    """(count, colour, shape, size or None) of everything that a caption names."""
    words = caption.split()
    things = []
    for i, word in enumerate(words):
        shape = word.removesuffix("s")
        if shape not in SHAPES:
            continue
        size = words[i - 2] if words[i - 2] in ("small", "large") else None
        number = words[i - (2 if size is None else 3)]
        assert (NUMBERS[number] > 1) == word.endswith("s")
        assert (number == "an") == (NUMBERS[number] == 1 and words[i - 1][0] in "aeiou") or size
        things.append((NUMBERS[number], words[i - 1], shape, size))
    return things


def test_captions_tell_what_is_drawn() -> None:
    sized = 0
    for scene in scenes():
        captions = caption_scene(scene)
        assert len(set(captions)) == 5
        truth = [(len(g.things), g.colour, g.shape, g.size) for g in scene.groups]
        for caption in captions:
            assert caption == caption.lower().strip(" .")
            things = told(caption)
            assert [thing[:3] for thing in things] == [group[:3] for group in truth]
            assert all(s in (None, g[3]) for (*_, s), g in zip(things, truth, strict=True))
            sized += any(s is not None for *_, s in things)
        text = " ".join(captions)
        assert scene.background in text
        assert ("grainy" in text) == scene.grainy
        light = {"dim": "dim light", "normal": "soft light", "bright": "bright light"}
        assert [name for name, words in light.items() if words in text] == [scene.light]
    assert sized >= len(scenes())


def test_the_middle_is_not_taken_for_a_side() -> None:
    places = {"left": "on the left", "top": "at the top", "middle": "in the middle"}
    for scene in scenes():
        first = scene.groups[0]
        assert places[first.place] in " ".join(caption_scene(scene))
        xs, ys = zip(*((t.x, t.y) for t in first.things), strict=True)
        assert first.place != "left" or max(xs) < 0.5
        assert first.place != "top" or max(ys) < 0.5


def test_splits_are_disjoint_and_a_limit_takes_the_first() -> None:
    dev, test = open_dataset("scenes", "dev"), open_dataset("scenes", "test")
    assert (len(dev), len(test)) == (SCENE_COUNTS["dev"], SCENE_COUNTS["test"])
    names = [sample.name for sample in (*dev, *test)]
    assert len(set(names)) == len(names)
    train = open_dataset("scenes", "train", limit=3)
    assert [s.name for s in train] == ["scene-000000", "scene-000001", "scene-000002"]
    assert min(names) == f"scene-{SCENE_COUNTS['train']:06d}"
    short = open_dataset("scenes", "test", limit=2)
    assert [(s.name, s.captions) for s in short] == [(s.name, s.captions) for s in test[:2]]
    assert (short[1].load() == test[1].load()).all()


@pytest.mark.parametrize("size", [(1, 1), (16, 9)])
def test_crumbs_of_scenes(size: tuple[int, int]) -> None:
    assert draw_scene(scenes()[0], *size).shape == (size[1], size[0], 3)
