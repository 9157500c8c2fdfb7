"""What a defender remembers of one source: the last trusted caption, and what it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from srd_edge.kernels.frames import Frame
from srd_edge.runtime.gate import ChangeGate
from srd_edge.runtime.records import Result


@dataclass(slots=True)
class Memory:
    """Of earlier frames of a source.

    Args:
        gate: tells whether the picture has changed; None where every frame is captioned anew.
        caption: the last one that was made, under the defence where there is one; None if there is
            none yet.
        frame: whose it is, by its index.
        standing: the result that stands while the picture does.
    """

    gate: ChangeGate | None = None
    caption: str | None = None
    frame: int = 0
    standing: Result | None = None

    def trust(self, result: Result) -> None:
        """A caption that was made as all of them are, for frames that there is no time for."""
        self.caption, self.frame = result.caption, result.frame

    def hold(self, result: Result) -> Result:
        """A result without a caption of its own, with the last trusted one and its age."""
        held_for = None if self.caption is None else result.frame - self.frame
        return replace(result, caption=self.caption, held_for=held_for)

    def unchanged(self, frame: Frame) -> Result | None:
        """The result that stands; None if this frame shows something else than its own."""
        still = self.gate is not None and self.gate.still(frame.pixels)
        return self.standing if still else None

    def stand(self, result: Result, frame: Frame) -> None:
        """Let a frame's result stand, unless it was made under pressure; that is made again."""
        if self.gate is not None and result.verdict != "held" and not result.degraded:
            self.standing = result
            self.gate.captioned(frame.pixels)
