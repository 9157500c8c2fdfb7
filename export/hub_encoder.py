"""An encoder that somebody else exported: what it takes, and the grid of what it gives.

Needs onnxruntime, and neither PyTorch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from srd_edge.errors import UsageError
from srd_edge.kernels.preprocess import Preprocessing
from srd_edge.kernels.tiling import Multiples
from srd_edge.runtime.bundle_specs import FEATURES, PREFIX_KINDS, Decoding, ObservationSpec
from srd_edge.runtime.picture_inputs import GRIDS, PIXEL_MASK, PIXELS
from srd_edge.runtime.sessions import open_session

_MOST_EXTRA: Final = 8
"""Tokens of an encoder that are no patch of the picture: a class, a few registers."""
_EMBEDDINGS: Final = "image_features"
_FLOATS: Final = {False: ("tensor(float)",), True: ("tensor(float)", "tensor(float16)")}
"""Types of pixels, by whether the decoder is of a prefix kind."""


def read_observation(
    encoder: Path, preprocessing: Preprocessing, decoding: Decoding
) -> ObservationSpec | None:
    """The grid of the encoder's features, of one picture that it is shown.

    Args:
        encoder: its graph.
        preprocessing: what is done to a picture.
        decoding: the kind of decoder that is to read what the encoder gives.

    Returns:
        None where the canvas follows the picture.

    Raises:
        UsageError: inputs or outputs that the runtime does not know, pictures of another size, or
            features that lie on no grid.
    """
    graph = open_session(encoder, "cpu").session
    takes = {value.name: value for value in graph.get_inputs()}
    gives = [value.name for value in graph.get_outputs()]
    wanted = _wanted(preprocessing, decoding)
    needed = _EMBEDDINGS if decoding in PREFIX_KINDS else FEATURES
    known = {name: len(value.shape) for name, value in takes.items()} in wanted
    if not known or takes[PIXELS].type not in _FLOATS[decoding in PREFIX_KINDS]:
        found = ", ".join(f"{n} of {v.type} {v.shape}" for n, v in takes.items())
        _refuse(encoder, needed, f"{found} to {', '.join(gives)}")
    if needed not in gives:
        _refuse(encoder, needed, f"{', '.join(takes)} to {', '.join(gives)}")
    if preprocessing.tiling is not None:
        return None
    tensor = FEATURES if FEATURES in gives else _EMBEDDINGS
    height, width = preprocessing.height, preprocessing.width
    kind = np.float16 if takes[PIXELS].type == "tensor(float16)" else np.float32
    try:
        (features,) = graph.run([tensor], {PIXELS: np.zeros((1, 3, height, width), kind)})
    except Exception as error:  # onnxruntime's own errors have no base but Exception
        raise UsageError(
            expected=f"{encoder.name} to take pictures of {width} x {height}",
            found=" ".join(str(error).split())[:200],
            do="correct the size in preprocessor_config.json",
        ) from error
    _, count, channels = features.shape
    columns = int((count * width / height) ** 0.5 + 1e-6)
    rows = int((count * height / width) ** 0.5 + 1e-6)
    if not rows * columns <= count <= rows * columns + _MOST_EXTRA:
        raise UsageError(
            expected=f"features in a grid as wide as pictures of {width} x {height}",
            found=f"{count} of them",
            do="export the captioner from its PyTorch weights",
        )
    return ObservationSpec(rows=rows, columns=columns, channels=channels, tensor=tensor)


def _wanted(preprocessing: Preprocessing, decoding: Decoding) -> Sequence[dict[str, int]]:
    """Inputs, each with its number of axes, that `runtime/picture_inputs.py` knows how to fill."""
    if preprocessing.tiling is None or decoding not in PREFIX_KINDS:
        return [{PIXELS: 4}]
    if isinstance(preprocessing.tiling, Multiples):
        return [{PIXELS: 2, name: 2} for name in GRIDS]
    return [{PIXELS: 5, PIXEL_MASK: 4}, {PIXELS: 4}]


def _refuse(encoder: Path, needed: str, found: str) -> NoReturn:
    raise UsageError(
        expected=f"{encoder.name} from {PIXELS} in float32 to {needed}",
        found=found[:200],
        do="choose another --precision, or export the captioner from its PyTorch weights",
    )
