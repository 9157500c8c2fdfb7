"""A captioned picture: what data sets yield, what attacks rewrite, what training fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from srd_edge.kernels.frames import Pixels


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a data set, read when asked for.

    Args:
        name: unique in its data set (a file name, a scene's number).
        captions: one or more, as published; see ``normalise_caption``.
        load: returns the picture, (H, W, 3) uint8 RGB.
        prompt: what the captioner is given to go on from; most take none.
    """

    name: str
    captions: tuple[str, ...]
    load: Callable[[], Pixels]
    prompt: str = ""


def normalise_caption(caption: str) -> str:
    """Lower case, single spaces, no closing full stop: the form captioners here are trained on."""
    return " ".join(caption.lower().split()).rstrip(" .")
