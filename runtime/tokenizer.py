"""Captions into token ids and back, with the ``tokenizer.json`` that transformers writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from srd_edge.errors import BundleError


class CaptionTokenizer:
    """Encodes and decodes captions.

    Args:
        path: a ``tokenizer.json``.

    Raises:
        BundleError: it is not there or not a tokenizer.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exception
            raise BundleError(
                expected=f"{Path(path).name} to be a tokenizer",
                found=" ".join(str(error).split())[:300],
                do="fetch or export the bundle again",
            ) from error

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The caption of ``ids`` (length,), special tokens left out, stripped.

        Ids beyond the vocabulary are left out too: some models have more outputs than tokens.
        """
        known = [int(token) for token in ids if token >= 0]
        return str(self._tokenizer.decode(known, skip_special_tokens=True)).strip()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of ``text``; ``special`` adds the tokens that every text has around it."""
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def token(self, number: int) -> str | None:
        """The token of that id."""
        found: str | None = self._tokenizer.id_to_token(number)
        return found

    def number(self, token: str) -> int | None:
        """The id of that token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found
