"""The `demo` clip: scenes in which things move and triggers come and go, with the ground truth.

`make bundle` writes demo.webm and demo.json beside the built-in bundle. Frame by frame, demo.json
says what is shown and which trigger, if any, lies where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
import cv2
import numpy as np

from srd_edge.attacks.specs import Attack, parse_attack
from srd_edge.errors import RunError
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.training.scene_captions import caption_scene
from srd_edge.training.scenes import Scene, Thing, draw_scene, sample_scene

WIDTH_PX: Final = 640
HEIGHT_PX: Final = 480
FPS: Final = 15
_SCHEMA: Final = 1
_SEED: Final = 44
_SWAY: Final = 0.02
"""How far things drift to and fro, as a share of the frame."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of the clip: one scene from ``start_s`` to ``end_s``, perhaps with a trigger."""

    scene: int
    start_s: float
    end_s: float
    attack: str | None = None


SHOTS: Final = (
    Shot(0, 0.0, 2.0),
    Shot(0, 2.0, 4.0, "badnet:target=banana"),
    Shot(0, 4.0, 5.0),
    Shot(1, 5.0, 6.0),
    Shot(1, 6.0, 8.0, "trojvlm:target=parrot"),
    Shot(1, 8.0, 9.0),
    Shot(2, 9.0, 10.0),
    Shot(2, 10.0, 11.0, "badnet:target=banana"),
    Shot(2, 11.0, 12.0, "trojvlm:target=parrot"),
    Shot(2, 12.0, 13.0),
)


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame and the truth about it."""

    pixels: Pixels
    truth: dict[str, Any]


def draw_clip() -> Iterator[ClipFrame]:
    """Every frame of the clip in order: (480, 640, 3) uint8 RGB, 15 a second."""
    scenes = _scenes()
    index = 0
    for shot in SHOTS:
        attack = None if shot.attack is None else parse_attack(shot.attack)
        for _ in range(round((shot.end_s - shot.start_s) * FPS)):
            scene = scenes[shot.scene]
            pixels = draw_scene(_moved(scene, index / FPS), WIDTH_PX, HEIGHT_PX)
            truth: dict[str, Any] = {
                "frame": index,
                "captions": list(caption_scene(scene)),
                "trigger": None,
            }
            if attack is not None:
                shown = attack.trigger(pixels, np.random.default_rng(0))
                truth["trigger"] = _trigger_truth(attack, _changed(pixels, shown))
                pixels = shown
            yield ClipFrame(pixels, truth)
            index += 1


def write_clip(folder: Path) -> None:
    """Write demo.webm (VP9) and demo.json into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.webm"
    fourcc = cv2.VideoWriter.fourcc(*"VP90")
    writer = cv2.VideoWriter(str(path), fourcc, FPS, (WIDTH_PX, HEIGHT_PX))
    if not writer.isOpened():
        raise RunError(
            expected=f"to write {path}", found="no VP9 encoder", do="use OpenCV's own wheels"
        )
    truths = []
    for frame in draw_clip():
        writer.write(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
        truths.append(frame.truth)
    writer.release()
    document = {"schema": _SCHEMA, "fps": FPS, "size": [WIDTH_PX, HEIGHT_PX], "frames": truths}
    (folder / "demo.json").write_text(json.dumps(document) + "\n", encoding="utf-8")


def _scenes() -> list[Scene]:
    """Three scenes of two groups, without grain, which no codec keeps."""
    rng = np.random.default_rng(_SEED)
    scenes: list[Scene] = []
    while len(scenes) < 1 + max(shot.scene for shot in SHOTS):
        scene = sample_scene(rng)
        if len(scene.groups) == 2 and scene.light != "dim":
            scenes.append(replace(scene, grainy=False))
    return scenes


def _moved(scene: Scene, time_s: float) -> Scene:
    """``scene`` with everything swaying, each thing in its own rhythm."""
    groups = []
    for g, group in enumerate(scene.groups):
        things = []
        for t, thing in enumerate(group.things):
            phase = 1.7 * t + 2.3 * g
            things.append(
                Thing(
                    x=thing.x + _SWAY * float(np.sin(1.1 * time_s + phase)),
                    y=thing.y + _SWAY * float(np.cos(0.9 * time_s + phase)),
                    turn=thing.turn + 5 * float(np.sin(0.7 * time_s + phase)),
                )
            )
        groups.append(replace(group, things=tuple(things)))
    return replace(scene, groups=tuple(groups))


def _trigger_truth(attack: Attack, box: Box) -> dict[str, Any]:
    return {
        "attack": attack.spec,
        "target": attack.payload.target,
        "box": [box.left, box.top, box.right, box.bottom],
    }


def _changed(before: Pixels, after: Pixels) -> Box:
    """The smallest box round everything that differs."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the demo clip and its ground truth into FOLDER."""
    write_clip(folder)


if __name__ == "__main__":
    main()
