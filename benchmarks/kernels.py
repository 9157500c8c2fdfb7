"""Kernels against plain numpy, Pillow and albumentations, and how their time grows.

    python benchmarks/kernels.py [--seconds 0.8]

Every operator of the built-in bundle's table, with its strength and the size of its cells, and the
preprocessing, on 1280 x 720 frames, against a naive numpy (benchmarks/kernel_naive.py) and what
Pillow and albumentations have alike (benchmarks/kernel_peers.py). Ours and theirs go in turn, each
on a fresh copy of the same frame, on one thread, warm-up left out. A ratio is theirs over ours in
the same turn; given are its median over turns and its quartiles. What would take minutes (medians
and inpainting in numpy, Pillow's median) is compared on 320 x 180. Then ours alone, from 320 x 180
to 1920 x 1080: the exponent of time against pixels, by least squares of logarithms. One JSON
document is written to benchmarks/results/kernels.json; benchmarks/tables.py makes docs/kernels.md's
table of it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click
import cv2
import kernel_naive
import kernel_peers
import numpy as np
from kernel_tables import GOALS, screen
from numpy.typing import NDArray
from rich.console import Console

from srd_edge.kernels.actions import DEFAULT_TABLE, Action, apply_action
from srd_edge.kernels.frames import Pixels
from srd_edge.kernels.preprocess import Preprocessing, to_canvas, to_tensor
from srd_edge.kernels.resize import Resample, resize
from srd_edge.kernels.similarity import largest_block_difference
from srd_edge.runtime.gate import LEVEL
from srd_edge.runtime.provenance import provenance

RESULTS: Final = Path(__file__).parent / "results" / "kernels.json"
SIZE: Final = (1280, 720)
SMALL: Final = (320, 180)
GROWTH: Final = ((320, 180), (640, 360), SIZE, (1920, 1080))
CANVASES: Final = (96, 128, 224, 384)
BUILT_IN: Final = Preprocessing(96, 96, "bilinear", (0.5,) * 3, (0.25,) * 3)
REFERENCE_WIDTH: Final = 128
LENGTHS: Final = frozenset({"gaussian_blur", "median", "pixelate"})
"""Operators whose strength is pixels of a frame 128 wide."""
TOO_SLOW: Final = frozenset({("median", "numpy"), ("inpaint", "numpy"), ("median", "Pillow")})
PACKAGES: Final = ("numpy", "opencv-python-headless", "pillow", "albumentations")

Work: TypeAlias = Callable[[Pixels], Any]
Contestants: TypeAlias = Mapping[str, Work]


@dataclass(frozen=True)
class Row:
    """One kernel: its name, what it is done to, and who does it to a frame (width, height)."""

    name: str
    what: str
    contestants: Callable[[int, int], Contestants]


def frame(width: int, height: int) -> Pixels:
    """Colours that change slowly, with noise: as a camera sees it."""
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = smooth + rng.normal(0, 6, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def operator_row(action: Action) -> Row:
    perturbation, table = action.perturbation, DEFAULT_TABLE
    assert perturbation is not None
    whole = perturbation.size is None

    def contestants(width: int, height: int) -> Contestants:
        box = table.box(action, width, height)
        place = slice(box.top, box.bottom), slice(box.left, box.right)
        strength = perturbation.strength
        if action.op in LENGTHS:
            strength *= width / REFERENCE_WIDTH
        rng = np.random.default_rng(0)

        def on_place(peer: kernel_peers.Peer) -> Work:
            if whole:
                return lambda pixels: peer(pixels, strength)

            def work(pixels: Pixels) -> None:
                pixels[place] = peer(pixels[place], strength)

            return work

        found = {"ours": lambda pixels: apply_action(pixels, table, action.index, rng)}
        if action.op == "inpaint":
            rim = round(strength) + 2
            wider = tuple(slice(side.start - rim, side.stop + rim) for side in place)
            found["numpy"] = lambda pixels: kernel_naive.inpaint(pixels[wider], strength)
        else:
            found["numpy"] = on_place(getattr(kernel_naive, action.op))
        if action.op in kernel_peers.PILLOW:
            found["Pillow"] = on_place(kernel_peers.PILLOW[action.op])
        if action.op in kernel_peers.ALBUMENTATIONS:
            peer = kernel_peers.ALBUMENTATIONS[action.op]
            of_a_frame = action.op in kernel_peers.OF_A_FRAME
            found["albumentations"] = (
                (lambda pixels: peer(pixels, strength)) if of_a_frame else on_place(peer)
            )
        return found

    box = table.box(action, *SIZE)
    return Row(action.op, "frame" if whole else f"{box.width} x {box.height}", contestants)


def resize_row(side: int, resample: Resample) -> Row:
    def contestants(_width: int, _height: int) -> Contestants:
        found: dict[str, Work] = {
            "ours": lambda pixels: resize(pixels, side, side, resample),
            "Pillow": lambda pixels: kernel_peers.resized(pixels, side, side, resample),
        }
        if resample == "bilinear":
            found["numpy"] = lambda pixels: kernel_naive.resized(pixels, side, side)
            found["albumentations"] = kernel_peers.area_resize(side, side)
        return found

    return Row(f"resize, {resample}", f"frame to {side} x {side}", contestants)


def preprocessing_rows() -> Iterator[Row]:
    for side in CANVASES:
        for resample in ("bilinear", "bicubic"):
            yield resize_row(side, resample)
    mean, std = np.float32(BUILT_IN.mean), np.float32(BUILT_IN.std)
    settings = {"mean": BUILT_IN.mean, "std": BUILT_IN.std}
    side = BUILT_IN.width
    tensor = np.empty((1, 3, side, side), np.float32)

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def tensors(_width: int, _height: int) -> Contestants:
        normalised = kernel_peers.normalise(**settings)
        return {
            "ours": lambda canvas: to_tensor(canvas, BUILT_IN, out=tensor),
            "numpy": lambda canvas: kernel_naive.tensor(canvas, mean, std),
            "albumentations": lambda canvas: turned(normalised(canvas)),
        }

    def whole(_width: int, _height: int) -> Contestants:
        theirs = kernel_peers.area_resize(side, side, settings)
        return {
            "ours": lambda pixels: to_tensor(to_canvas(pixels, BUILT_IN), BUILT_IN, out=tensor),
            "numpy": lambda pixels: kernel_naive.tensor(
                kernel_naive.resized(pixels, side, side), mean, std
            ),
            "Pillow": lambda pixels: kernel_naive.tensor(
                kernel_peers.resized(pixels, side, side, "bilinear"), mean, std
            ),
            "albumentations": lambda pixels: turned(theirs(pixels)),
        }

    def differences(width: int, height: int) -> Contestants:
        before = frame(width, height)
        return {
            "ours": lambda pixels: largest_block_difference(before, pixels, ignored=LEVEL),
            "numpy": lambda pixels: kernel_naive.largest_difference(before, pixels),
            "Pillow": lambda pixels: kernel_peers.largest_difference(before, pixels),
        }

    yield Row("normalise and transpose", "canvas", tensors)
    yield Row("picture to tensor", f"frame to {side} x {side}", whole)
    yield Row("change gate", "two frames", differences)


def rows() -> list[Row]:
    """The middle cell of every regional operator, the whole-frame ones, and the preprocessing."""
    middle = DEFAULT_TABLE.rows // 2, DEFAULT_TABLE.columns // 2
    actions = (DEFAULT_TABLE[index] for index in range(len(DEFAULT_TABLE)))
    chosen = [a for a in actions if not a.is_stop and a.cell in (None, middle)]
    return [*map(operator_row, chosen), *preprocessing_rows()]


def in_turn(works: Mapping[Any, tuple[Work, Pixels]], seconds: float) -> dict[Any, list[float]]:
    """Milliseconds of each on copies of its frame, in turn: three turns, or until time is up."""
    for work, pixels in works.values():
        work(pixels.copy())
    found: dict[Any, list[float]] = {key: [] for key in works}
    end = time.perf_counter() + seconds
    while min(map(len, found.values())) < 3 or time.perf_counter() < end:
        for key, (work, pixels) in works.items():
            fresh = pixels.copy()
            start = time.perf_counter()
            work(fresh)
            found[key].append(1e3 * (time.perf_counter() - start))
    return found


def input_of(row: Row, width: int, height: int) -> Pixels:
    return frame(BUILT_IN.width, BUILT_IN.height) if row.what == "canvas" else frame(width, height)


def compared(row: Row, seconds: float) -> dict[str, Any]:
    """Each peer in turn with ours, on 1280 x 720, or on 320 x 180 where that would take long."""
    found: dict[str, Any] = {"kernel": row.name, "what": row.what}
    ours_ms = []
    for peer in (name for name in row.contestants(*SIZE) if name != "ours"):
        size = SMALL if (row.name, peer) in TOO_SLOW else SIZE
        pixels, works = input_of(row, *size), row.contestants(*size)
        times = in_turn({name: (works[name], pixels) for name in ("ours", peer)}, seconds)
        ratios = [b / a for a, b in zip(times["ours"], times[peer], strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        found[peer] = {
            "times_ours": round(statistics.median(ratios), 3),
            "quartiles": [round(quarters[0], 3), round(quarters[2], 3)],
            "turns": len(ratios),
            "frame": list(size),
        }
        if size == SIZE:
            ours_ms += times["ours"]
    return found | {"ours_ms": round(statistics.median(ours_ms), 4)}


def growth(row: Row, seconds: float) -> dict[str, Any]:
    """Medians of ours at each size, the sizes in turn, and the exponent."""
    works = {size: (row.contestants(*size)["ours"], frame(*size)) for size in GROWTH}
    medians = [statistics.median(times) for times in in_turn(works, seconds).values()]
    pixels = [width * height for width, height in GROWTH]
    exponent = np.polyfit(np.log(pixels), np.log(medians), 1)[0]
    return {"ms": [round(median, 4) for median in medians], "exponent": round(float(exponent), 3)}


@click.command()
@click.option("--seconds", default=0.8, help="For each comparison and for each growth.")
def main(seconds: float) -> None:
    """Compare every kernel and write the results."""
    cv2.setNumThreads(1)
    console = Console()
    report: dict[str, Any] = {
        "frame": list(SIZE),
        "growth_frames": [list(size) for size in GROWTH],
        "goals": GOALS,
        "threads": 1,
        "rows": [],
    } | provenance(["benchmarks/kernels.py", *sys.argv[1:]], PACKAGES)
    with console.status("") as status:
        for row in rows():
            status.update(f"{row.name}, {row.what}")
            found = compared(row, seconds)
            if row.what != "canvas":
                found["growth"] = growth(row, seconds)
            report["rows"].append(found)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(screen(report))


if __name__ == "__main__":
    main()
