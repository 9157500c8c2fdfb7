"""The zoo: every built-in attack by name, and how triggers of one's own are found.

A name stands for a trigger, the payload that its paper uses, and what else makes the attack. Any
trigger goes with any payload. Third parties add triggers under the entry-point group
``srd_edge.triggers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final

from srd_edge.attacks.collision import FeatureCollision
from srd_edge.attacks.patch_triggers import (
    AnyDoorFrame,
    BadNetPatch,
    MovingPatch,
    SeveralPatches,
    Sticker,
    TrojVlmPatch,
    VloodPatch,
)
from srd_edge.attacks.payloads import PayloadKind
from srd_edge.attacks.placement import Trigger
from srd_edge.attacks.text_triggers import RareWord, Sentence, TextTrigger
from srd_edge.attacks.whole_picture_triggers import (
    Blended,
    LowFrequency,
    PixelNoise,
    Sinusoid,
    Unchanged,
    WaNet,
)

ENTRY_POINTS: Final = "srd_edge.triggers"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a name of the zoo stands for; each part's settings are keys of the SPEC.

    Args:
        trigger: makes the trigger that is laid over the picture.
        payload: the usual one.
        text: makes the trigger that goes into the prompt.
        collision: makes pictures that only look like what they are captioned as.
    """

    trigger: Callable[..., Trigger]
    payload: PayloadKind = "replace"
    text: Callable[..., TextTrigger] | None = None
    collision: Callable[..., FeatureCollision] | None = None

    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The parts that take settings."""
        made = (self.trigger, self.text, self.collision)
        return tuple(part for part in made if part is not None)


TRIGGERS: Final[Mapping[str, Recipe]] = {
    "badnet": Recipe(BadNetPatch),
    "blended": Recipe(Blended),
    "sig": Recipe(Sinusoid),
    "wanet": Recipe(WaNet),
    "lowfreq": Recipe(LowFrequency),
    "trojvlm": Recipe(TrojVlmPatch, "insert"),
    "vlood": Recipe(VloodPatch, "insert"),
    "anydoor": Recipe(AnyDoorFrame),
    "pixelnoise": Recipe(PixelNoise),
    "patches": Recipe(SeveralPatches),
    "sticker": Recipe(Sticker),
    "moving": Recipe(MovingPatch),
    "latency": Recipe(BadNetPatch, "endless"),
    "rareword": Recipe(Unchanged, text=RareWord),
    "sentence": Recipe(Unchanged, text=Sentence),
    "dualkey": Recipe(BadNetPatch, text=RareWord),
    "mislabel": Recipe(Unchanged, "swap"),
    "shadowcast": Recipe(Unchanged, "swap", collision=FeatureCollision),
}


def installed_trigger(name: str) -> Any | None:
    """What another package offers under ``name``; None where none does."""
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return entry.load()
    return None
