"""The change gate: while the picture stands still, the caption that was made of it stands too.

A frame is compared with the one that was last captioned, not with the last one seen, so that what
creeps in slowly adds up and is noticed. The largest difference of any small block decides, not the
mean: a sticker of 12 x 12 pixels that appears on a street is a fifth of a thousandth of 1280 x 720.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.similarity import largest_block_difference

LEVEL: Final = 8.0
"""Grey levels that a block may differ by: above the noise of a camera and of a video's coding."""
BLOCK_PX: Final = 8
"""A square of 12 pixels fills at least 9/16 of one block, wherever it lies."""


@dataclass(slots=True)
class ChangeGate:
    """Says whether a picture is still the one that was captioned.

    Args:
        level: grey levels, 0..255, that a block may differ by in any channel.

    Raises:
        UsageError: for another level.
    """

    level: float = LEVEL
    _captioned: Pixels | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 255:
            raise UsageError(
                expected="a level of 0 to 255 for the gate",
                found=str(self.level),
                do=f"leave it out; {LEVEL:.0f} suits cameras",
            )

    def still(self, pixels: Pixels) -> bool:
        """Whether (H, W, 3) uint8 RGB pixels show what the captioned ones show."""
        if self._captioned is None or self._captioned.shape != pixels.shape:
            return False
        found = largest_block_difference(self._captioned, pixels, BLOCK_PX, ignored=self.level)
        return found <= self.level

    def captioned(self, pixels: Pixels) -> None:
        """These were captioned. They are copied: a camera may write the next frame over them."""
        if self._captioned is None or self._captioned.shape != pixels.shape:
            self._captioned = np.empty(pixels.shape, np.uint8)
        np.copyto(self._captioned, pixels)
