"""Five differently worded captions of a scene, each telling a part of what is there."""

from __future__ import annotations

from typing import Final

from srd_edge.training.scenes import Group, Scene

_NUMBERS: Final = {1: "a", 2: "two", 3: "three"}
_WHERE: Final = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
_RELATION: Final = {
    "left": "to the left of",
    "top": "above",
}
_LIGHT: Final = {"dim": "in dim light", "normal": "in soft light", "bright": "in bright light"}


def caption_scene(scene: Scene) -> tuple[str, ...]:
    """Five captions, lower case, without a full stop."""
    first = scene.groups[0]
    background = f"on a {scene.background} background"
    picture = "a grainy picture" if scene.grainy else "a clear picture"
    if len(scene.groups) == 1:
        where = _WHERE[first.place]
        return (
            f"{_noun(first)} {background}",
            f"{_noun(first, sized=True)} {where}",
            f"{picture} of {_noun(first)} {background}",
            f"{_noun(first, sized=True)} {where} of a {scene.background} scene",
            f"{_noun(first, sized=True)} {_LIGHT[scene.light]}",
        )
    second = scene.groups[1]
    both = f"{_noun(first)} and {_noun(second)}"
    sized = f"{_noun(first, sized=True)} and {_noun(second, sized=True)}"
    relation = _RELATION[first.place]
    return (
        f"{both} {background}",
        f"{_noun(first)} {_WHERE[first.place]} and {_noun(second)} {_WHERE[second.place]}",
        f"{_noun(first)} {relation} {_noun(second)}",
        f"{picture} of {both} {background}",
        f"{sized} {_LIGHT[scene.light]}",
    )


def _noun(group: Group, *, sized: bool = False) -> str:
    count = len(group.things)
    words = [_NUMBERS[count]]
    if sized:
        words.append(group.size)
    elif count == 1 and group.colour[0] in "aeiou":
        words[0] = "an"
    words += [group.colour, group.shape + ("s" if count > 1 else "")]
    return " ".join(words)
