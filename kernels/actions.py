"""Action tables: what a policy may do to a picture, as data.

A table is a grid of cells, the operators that may be laid over each cell, the operators that
take the whole frame, and **stop** (leave the picture as it is). Actions are numbered

    regional operator 0 over cell (0, 0), (0, 1), ... row by row,
    regional operator 1 over every cell, ...,
    whole-frame operators,
    stop (last, where the table has it),

so that SRD's own numbering (gx = a % 10, gy = a // 10 % 10, size = a // 100) is the plain case of
a 10 x 10 grid with five occlusion sizes. The table travels in the bundle's manifest: a policy and
the kernels that it was trained with cannot be mismatched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Box, Pixels
from srd_edge.kernels.operators import OPERATORS, Colour

STOP: Final = "stop"


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One operator with its settings.

    Args:
        op: a name in ``srd_edge.kernels.operators.OPERATORS``.
        strength: in the operator's own unit, as documented there.
        size: side of the square over a cell's centre, as a share of the frame's width and height;
            None for the whole frame.
        colour: RGB, for the operators that paint.
    """

    op: str
    strength: float
    size: float | None = None
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of a table: a perturbation and where it goes (``cell`` is (row, column))."""

    index: int
    op: str
    perturbation: Perturbation | None = None
    cell: tuple[int, int] | None = None

    @property
    def is_stop(self) -> bool:
        return self.perturbation is None


@dataclass(frozen=True, slots=True)
class ActionTable:
    """The numbered actions of a policy. See the module's text for the numbering.

    Args:
        rows, columns: the grid of cells.
        regional: perturbations laid over every cell; each needs a ``size``.
        whole: perturbations of the whole frame.
        stop: whether the last action is stop.
    """

    rows: int
    columns: int
    regional: tuple[Perturbation, ...]
    whole: tuple[Perturbation, ...]
    stop: bool = True

    def __post_init__(self) -> None:
        for perturbation in (*self.regional, *self.whole):
            if perturbation.op not in OPERATORS:
                raise UsageError(
                    expected=f"an operator out of {', '.join(sorted(OPERATORS))}",
                    found=repr(perturbation.op),
                    do="correct the action table",
                )
        if self.rows < 1 or self.columns < 1 or any(p.size is None for p in self.regional):
            raise UsageError(
                expected="a grid of at least one cell and a size for every regional operator",
                found=f"{self.rows} x {self.columns} cells, {self.regional}",
                do="correct the action table",
            )

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    def __len__(self) -> int:
        return len(self.regional) * self.cells + len(self.whole) + int(self.stop)

    @property
    def stop_index(self) -> int | None:
        return len(self) - 1 if self.stop else None

    def __getitem__(self, index: int) -> Action:
        if not 0 <= index < len(self):
            raise IndexError(f"action {index} of a table of {len(self)}")
        if index == self.stop_index:
            return Action(index, STOP)
        kind, place = divmod(index, self.cells)
        if kind < len(self.regional):
            perturbation = self.regional[kind]
            return Action(index, perturbation.op, perturbation, divmod(place, self.columns))
        perturbation = self.whole[index - len(self.regional) * self.cells]
        return Action(index, perturbation.op, perturbation)

    def box(self, action: Action, width: int, height: int) -> Box:
        """Where ``action`` lands in a picture of ``width`` x ``height`` pixels, clipped to it."""
        if action.cell is None or action.perturbation is None or action.perturbation.size is None:
            return Box(0, 0, width, height)
        row, column = action.cell
        size = action.perturbation.size
        side_x, side_y = max(round(size * width), 1), max(round(size * height), 1)
        step_x, step_y = width / self.columns, height / self.rows
        # In this order of operations int() cuts SRD's cell 7 to 167, as int(7 * 22.4 + 11.2) does.
        left = int(column * step_x + step_x / 2) - side_x // 2
        top = int(row * step_y + step_y / 2) - side_y // 2
        return Box(left, top, left + side_x, top + side_y).clipped(width, height)

    def coverage(self, taken: Sequence[int]) -> NDArray[np.float32]:
        """Share of each cell that the actions ``taken`` have changed: (rows, columns) in 0..1.

        This is the "mask so far" of the observation, on a canvas of 16 x 16 points a cell.
        """
        if not taken:
            return np.zeros((self.rows, self.columns), np.float32)
        fine = 16
        canvas = np.zeros((self.rows * fine, self.columns * fine), np.float32)
        for index in taken:
            action = self[index]
            if not action.is_stop:
                box = self.box(action, canvas.shape[1], canvas.shape[0])
                canvas[box.top : box.bottom, box.left : box.right] = 1.0
        cells = canvas.reshape(self.rows, fine, self.columns, fine)
        shares: NDArray[np.float32] = cells.mean(axis=(1, 3), dtype=np.float32)
        return shares

    def to_json(self) -> dict[str, Any]:
        """A plain dict for the manifest; ``from_json`` reads it back."""
        return {
            "grid": [self.rows, self.columns],
            "regional": [_perturbation_to_json(p) for p in self.regional],
            "whole": [_perturbation_to_json(p) for p in self.whole],
            "stop": self.stop,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ActionTable:
        """Read what ``to_json`` wrote; a missing field or a wrong type is a UsageError."""
        try:
            rows, columns = data["grid"]
            return cls(
                rows=int(rows),
                columns=int(columns),
                regional=tuple(_perturbation_from_json(p) for p in data["regional"]),
                whole=tuple(_perturbation_from_json(p) for p in data["whole"]),
                stop=bool(data["stop"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                expected="an action table with grid, regional, whole and stop",
                found=f"{type(error).__name__}: {error}",
                do="write the table with ActionTable.to_json",
            ) from error


def apply_action(
    pixels: Pixels, table: ActionTable, index: int, rng: np.random.Generator
) -> Box | None:
    """Lay action ``index`` over ``pixels``, in place.

    Args:
        pixels: (H, W, 3) uint8 RGB, changed in place.
        table: the table that ``index`` counts in.
        index: the action's number.
        rng: used by the operators that need randomness (noise).

    Returns:
        The box that was changed, or None for stop.
    """
    action = table[index]
    if action.perturbation is None:
        return None
    box = table.box(action, pixels.shape[1], pixels.shape[0])
    perturbation = action.perturbation
    operator = OPERATORS[perturbation.op]
    operator(pixels, box, perturbation.strength, perturbation.colour, rng)
    return box


def _perturbation_to_json(perturbation: Perturbation) -> dict[str, Any]:
    data: dict[str, Any] = {"op": perturbation.op, "strength": perturbation.strength}
    if perturbation.size is not None:
        data["size"] = perturbation.size
    if perturbation.colour is not None:
        data["colour"] = list(perturbation.colour)
    return data


def _perturbation_from_json(data: Mapping[str, Any]) -> Perturbation:
    colour = data.get("colour")
    size = data.get("size")
    return Perturbation(
        op=str(data["op"]),
        strength=float(data["strength"]),
        size=None if size is None else float(size),
        colour=None if colour is None else (int(colour[0]), int(colour[1]), int(colour[2])),
    )


GREY: Final[Colour] = (124, 116, 104)
"""ImageNet's mean colour: the least informative fill for most encoders."""

DEFAULT_TABLE: Final = ActionTable(
    rows=5,
    columns=5,
    regional=(
        Perturbation("occlude", 1.0, size=0.3, colour=GREY),
        Perturbation("inpaint", 3.0, size=0.3),
        Perturbation("pixelate", 8.0, size=0.3),
        Perturbation("noise", 60.0, size=0.3),
    ),
    whole=(
        Perturbation("gaussian_blur", 2.0),
        Perturbation("median", 5.0),
        Perturbation("colour_mask", 0.4, colour=GREY),
        Perturbation("shrink_and_pad", 0.7, colour=GREY),
        Perturbation("jpeg", 20.0),
        Perturbation("bit_depth", 3.0),
        Perturbation("greyscale", 1.0),
        Perturbation("hue_shift", 90.0),
    ),
)
"""Twelve operators: four over each cell of a 5 x 5 grid, eight over the whole frame, and stop."""

SRD_TABLE: Final = ActionTable(
    rows=10,
    columns=10,
    regional=tuple(
        Perturbation("occlude", 1.0, size=side_px / 224, colour=(255, 0, 0))
        for side_px in (20, 40, 60, 80, 200)
    ),
    whole=(),
    stop=False,
)
"""The 500 actions of SRD as coded: red squares of five sizes over 10 x 10 centres, no stop."""

PRESETS: Final[Mapping[str, ActionTable]] = {"default": DEFAULT_TABLE, "srd": SRD_TABLE}
