"""Two sources at once beside other work on an event loop.

python examples/two_sources.py rtsp://camera/1 rtsp://camera/2

Without sources: the built-in clip, twice. One defender captions for both and remembers the
captions of each apart. The loop is free between frames: another task counts what it could do.
"""

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from srd_edge import Defender, watch
from srd_edge.runtime.found_files import DEMO_CLIP


async def alarm(sources: list[str], max_frames: int | None) -> None:
    """Print every change of a caption, and the frames that are not clean."""
    defender = await asyncio.to_thread(Defender.load)
    last: dict[str | None, str | None] = {}
    async with watch(sources, defender, max_frames=max_frames, say=print) as results:
        async for _, result in results:
            if result.verdict != "clean" or last.get(result.source) != result.caption:
                name = Path(result.source or "").name
                print(f"{name} frame {result.frame}: {result.verdict}, {result.caption}")
            last[result.source] = result.caption


async def main(sources: list[str], max_frames: int | None) -> None:
    """Watch, and do something else meanwhile."""
    watching = asyncio.create_task(alarm(sources, max_frames))
    turns = 0
    while not watching.done():
        await asyncio.sleep(0.005)
        turns += 1
    await watching
    print(f"the event loop had {turns} turns for other work")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("sources", nargs="*", help="as for `srd-edge run --video`")
parser.add_argument("--max-frames", type=int, help="of all sources together")
arguments = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    copies = [
        str(shutil.copy(DEMO_CLIP, Path(folder, name))) for name in ("gate.webm", "yard.webm")
    ]
    asyncio.run(main(arguments.sources or copies, arguments.max_frames))
