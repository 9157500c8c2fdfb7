"""The built-in clip at the size of a real camera's picture, for what depends on the size.

python benchmarks/enlarged.py CLIP.mp4 [WIDTHxHEIGHT]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.runtime.found_files import DEMO_CLIP

FPS = 30


def enlarged_frames(width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of the clip as (height, width, 3) uint8 BGR, in order."""
    capture = cv2.VideoCapture(str(DEMO_CLIP), cv2.CAP_FFMPEG)
    try:
        while capture.grab():
            image = np.asarray(capture.retrieve()[1], np.uint8)
            yield np.asarray(cv2.resize(image, (width, height)), np.uint8)
    finally:
        capture.release()


def enlarged_clip(path: Path, width: int, height: int) -> Path:
    """Write the clip to ``path``, as MPEG-4."""
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, FPS, (width, height))
    for image in enlarged_frames(width, height):
        writer.write(image)
    writer.release()
    return path


if __name__ == "__main__":
    width, height = map(int, (sys.argv[2] if len(sys.argv) > 2 else "1280x720").split("x"))
    enlarged_clip(Path(sys.argv[1]), width, height)
