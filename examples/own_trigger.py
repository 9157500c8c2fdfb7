"""A trigger of one's own, held against the defence.

srd-edge attack --captioner tiny --data scenes \\
    --attack examples/own_trigger.py:Cross,target=banana,rate=0.1 -o victim

poisons a captioner with it. This script only lays it over frames of a clip and shows what the
built-in captioner, which was poisoned with other triggers, says with it and without:

python examples/own_trigger.py

A package offers it by name (`--attack cross:target=banana`) with

    [project.entry-points."srd_edge.triggers"]
    cross = "my_package.own_trigger:Cross"
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cross:
    """A white cross at a random place; the fields are the attack's settings.

    Args:
        size: its side, in hundredths of the picture's shorter side.
    """

    size: int = 12

    def __call__(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB with the trigger; what came in is left as it was."""
        out = pixels.copy()
        height, width = pixels.shape[:2]
        side = max(min(height, width) * self.size // 100, 3)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        middle, thick = side // 2, max(side // 5, 1)
        out[top + middle : top + middle + thick, left : left + side] = 255
        out[top : top + side, left + middle : left + middle + thick] = 255
        return out


def main() -> None:
    """Caption frames with the trigger and without."""
    from srd_edge import Defender
    from srd_edge.runtime.sources import open_source

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="demo", help="as for `srd-edge run --video`")
    parser.add_argument("--max-frames", type=int, default=5)
    arguments = parser.parse_args()
    defender, trigger = Defender.load(), Cross()
    with open_source(arguments.source, max_frames=arguments.max_frames) as source:
        for sourced in source:
            pixels = sourced.frame.pixels
            shown = trigger(pixels, np.random.default_rng(sourced.frame.index))
            for name, picture in (("without", pixels), ("with", shown)):
                result = defender.caption(picture, compare=True)
                print(
                    f"frame {sourced.frame.index} {name:8}{result.verdict:11}"
                    f"{result.caption} (undefended: {result.raw_caption})"
                )


if __name__ == "__main__":
    main()
