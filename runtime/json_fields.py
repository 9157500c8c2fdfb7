"""Strict reading of JSON objects: every field taken once, of its type, and none left over.

A wrong field is named by its whole path, and what was found is shown shortened and escaped.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from srd_edge.errors import BundleError

DO: Final = "export the bundle again, with the srd-edge that is to read it"


class JsonFields:
    """The fields of one JSON object, taken one by one; ``where`` is the object's own path."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise wrong_field(where, "an object", data)
        self._left: dict[str, Any] = dict(data)
        self._where = where

    def take(self, name: str) -> Any:
        if name not in self._left:
            raise BundleError(
                expected=f"the field {self._path(name)}", found="no such field", do=DO
            )
        return self._left.pop(name)

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise wrong_field(self._path(name), "a non-empty string", value)
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise wrong_field(self._path(name), f"one of {', '.join(choices)}", value)
        return value

    def integer(self, name: str, *, low: int, high: int = 2**53) -> int:
        return check_integer(self.take(name), self._path(name), low=low, high=high)

    def integers(self, name: str, *, low: int = 0) -> tuple[int, ...]:
        return check_integers(self.take(name), self._path(name), low=low)

    def positive(self, name: str) -> float:
        value = self.take(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value <= 1e9 or not math.isfinite(value):
            raise wrong_field(self._path(name), "a number above 0", value)
        return float(value)

    def number(self, name: str, *, low: float = -1e9, high: float = 1e9) -> float:
        value = self.take(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:  # false for nan too
            raise wrong_field(self._path(name), f"a number in {low:g}..{high:g}", value)
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise wrong_field(self._path(name), "true or false", value)
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.take(name)
        if not isinstance(value, dict):
            raise wrong_field(self._path(name), "an object", value)
        return value

    def sequence(self, name: str) -> list[Any]:
        value = self.take(name)
        if not isinstance(value, list):
            raise wrong_field(self._path(name), "a list", value)
        return value

    def rest(self) -> tuple[str, ...]:
        return tuple(self._left)

    def end(self) -> None:
        for name in self._left:
            raise BundleError(expected="only fields of this schema", found=self._path(name), do=DO)

    def _path(self, name: str) -> str:
        return name if self._where == "manifest" else f"{self._where}.{name}"


def check_integer(value: object, where: str, *, low: int, high: int = 2**53) -> int:
    """``value`` if it is a whole number in low..high, else a BundleError that names ``where``."""
    # JSON's true is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise wrong_field(where, f"a whole number in {low}..{high}", value)
    return value


def check_integers(value: object, where: str, *, low: int = 0) -> tuple[int, ...]:
    """``value`` if it is a list of whole numbers from ``low`` on, else a BundleError."""
    if not isinstance(value, list):
        raise wrong_field(where, "a list", value)
    return tuple(
        check_integer(number, f"{where}[{place}]", low=low) for place, number in enumerate(value)
    )


def wrong_field(where: str, expected: str, found: object) -> BundleError:
    """The error for a field that is not what it should be."""
    shown = str(found) if isinstance(found, Exception) else repr(found)
    # A hostile value must not fill the terminal; repr has already escaped its control characters.
    shown = " ".join(shown.split())
    shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
    return BundleError(expected=f"{where} to be {expected}", found=shown, do=DO)


def parse_json(raw: bytes) -> Any:
    """JSON in UTF-8, and nothing that readers of it understand differently.

    Raises:
        ValueError: it is not JSON, holds NaN or Infinity, or a field twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(raw.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # Which of the two counts differs from reader to reader.
        raise ValueError("the same field twice in an object")
    return fields
