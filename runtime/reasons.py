"""Why a result is what it is, in words: for the annotated picture and the live page alike."""

from __future__ import annotations

from srd_edge.kernels.frames import Box, Pixels
from srd_edge.runtime.records import Result


def readable(name: str) -> str:
    """An identifier as words."""
    return name.replace("_", " ")


def one_line(text: str) -> str:
    """``text`` as one line of what can be printed: an attacker may have chosen it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def standing(result: Result) -> str:
    """Whose the caption is, and why."""
    if result.verdict == "undefended":
        return "no defence: nobody has looked"
    opinion = result.opinion
    if result.speaker == "reference":
        return "answered by the reference captioner, whom the first caption contradicts"
    if opinion is None:
        return "caption not checked"
    if opinion.refused:
        was_asked = opinion.contradiction is not None
        why = "contradiction" if was_asked else "confidence or information"
        if result.verdict == "held":
            return f"refused for its {why}, and there was no other caption"
        return f"first caption refused for its {why}, this one passed"
    if opinion.contradiction is None:
        return "caption checked: nothing odd about it"
    return "caption checked: odd, but the reference captioner agrees"


def done_to(pixels: Pixels, result: Result) -> str:
    """What was done to the frame, how old the caption is and what was given up.

    Args:
        pixels: (H, W, 3) uint8 RGB, the frame as it came.
        result: of this frame.
    """
    everything = Box(0, 0, pixels.shape[1], pixels.shape[0])
    whole = [readable(action.op) for action in result.actions if action.box == everything]
    regions = len({action.box for action in result.actions if action.box != everything})
    parts = []
    if whole:
        parts.append(f"whole frame: {', '.join(whole)}")
    if regions:
        parts.append(plural(regions, "region") + " covered")
    if result.held_for is not None:
        parts.append(f"caption from {plural(result.held_for, 'frame')} ago")
    if result.degraded:
        parts.append(f"given up: {', '.join(readable(what) for what in result.degraded)}")
    return "  |  ".join(parts) or "nothing laid over the frame"


def plural(number: int, what: str) -> str:
    """So many of ``what``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
