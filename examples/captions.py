"""A camera, a file or a stream to captions, one line a frame.

python examples/captions.py demo
python examples/captions.py rtsp://camera/1
"""

import argparse

from srd_edge import Defender, watch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", nargs="?", default="demo", help="as for `srd-edge run --video`")
parser.add_argument("--bundle", help="a directory; the built-in bundle by default")
parser.add_argument("--max-frames", type=int)
arguments = parser.parse_args()

defender = Defender.load(arguments.bundle)
with watch(arguments.source, defender, max_frames=arguments.max_frames, say=print) as results:
    for frame, result in results:
        print(f"{frame.time_s:8.2f} s  {result.verdict:10}  {result.caption}")
