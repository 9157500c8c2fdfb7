"""The first frames that were perturbed, with their boxes, drawn by supervision or by OpenCV.

python examples/draw.py demo out

writes a PNG for each into the folder `out`, by supervision where that is installed (`pip install
supervision`), else by OpenCV; `--with` chooses.
"""

import argparse
import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge import Defender, Frame, Result, watch


def by_supervision(frame: Frame, result: Result) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, as supervision and OpenCV have it."""
    import supervision

    found = result.to_supervision()
    picture = np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR), np.uint8)
    picture = supervision.BoxAnnotator().annotate(picture, found)
    return supervision.LabelAnnotator().annotate(picture, found)


def by_opencv(frame: Frame, result: Result) -> NDArray[np.uint8]:
    """The same by hand."""
    picture = np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR), np.uint8)
    for action in result.actions:
        box = action.box
        cv2.rectangle(
            picture, (box.left, box.top), (box.right - 1, box.bottom - 1), (0, 200, 255), 2
        )
        place = box.left + 4, box.top + 18
        cv2.putText(picture, action.op, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 200, 255))
    return picture


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", nargs="?", default="demo", help="as for `srd-edge run --video`")
parser.add_argument("folder", nargs="?", default="drawn", type=Path)
best = "supervision" if importlib.util.find_spec("supervision") else "opencv"
parser.add_argument("--with", dest="by", choices=["supervision", "opencv"], default=best)
parser.add_argument("--pictures", type=int, default=3)
arguments = parser.parse_args()

arguments.folder.mkdir(parents=True, exist_ok=True)
draw = by_supervision if arguments.by == "supervision" else by_opencv
drawn = 0
with watch(arguments.source, Defender.load()) as results:
    for frame, result in results:
        if result.actions:
            path = arguments.folder / f"{result.frame}.png"
            cv2.imwrite(str(path), draw(frame, result))
            print(f"{path}: {result.caption}")
            drawn += 1
        if drawn == arguments.pictures:
            break
