"""Several pictures in one call of a graph: what is known of them, put together and taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.graphs import host_value


def apart(encoded: Encoded) -> list[Encoded]:
    """Each picture by itself.

    Args:
        encoded: of several pictures without tiles, a row of features and of memory each.
    """
    memory = [value.numpy() for value in encoded.memory]
    return [
        Encoded(
            encoded.features[row : row + 1],
            # Copied: what numpy() gives may live no longer than the value.
            tuple(host_value(np.array(part[row : row + 1])) for part in memory),
            encoded.layout,
        )
        for row in range(encoded.rows)
    ]


def together(pictures: Sequence[Encoded]) -> Encoded:
    """What ``apart`` undoes: pictures of one layout, to be captioned side by side."""
    memory = zip(*(picture.memory for picture in pictures), strict=True)
    return Encoded(
        np.concatenate([picture.features for picture in pictures]),
        tuple(host_value(np.concatenate([part.numpy() for part in parts])) for parts in memory),
        pictures[0].layout,
    )
