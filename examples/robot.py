"""A control loop: pictures are numpy arrays, every one has 80 ms, and the loop never waits longer.

python examples/robot.py --budget-ms 80

`camera` stands for whatever gives the robot its pictures, (H, W, 3) uint8 RGB. A frame that there
is no time to defend is held: its caption is the last one that was made under the defence, so the
robot knows how old what it hears is.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from srd_edge import Defender, Frame, Result
from srd_edge.runtime.sources import open_source


def camera(frames: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures as a driver gives them."""
    with open_source("demo", every=4, max_frames=frames) as source:
        for sourced in source:
            yield sourced.frame.pixels


def decide(result: Result) -> str:
    """What the robot does about a result."""
    if result.caption is None or (result.held_for or 0) > 5:
        return "stop"
    return "go on" if result.verdict == "clean" else "slow down"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--budget-ms", type=float, default=80.0)
parser.add_argument("--max-frames", type=int, default=40)
arguments = parser.parse_args()

defender = Defender.load(budget_ms=arguments.budget_ms, gate_level=8.0)
for number, pixels in enumerate(camera(arguments.max_frames)):
    # Numbered, so that a caption that is held, or stands, says for how many frames.
    result = defender.caption(Frame(pixels, number, number / 10))
    given_up = f" (given up: {', '.join(result.degraded)})" if result.degraded else ""
    print(f"{number}: {decide(result)}: {result.verdict}, {result.caption}{given_up}")
