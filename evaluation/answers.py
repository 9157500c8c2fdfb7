"""Answers on disk: what has been asked once is not asked again, even after a kill.

One file holds the answers of one contestant to one set of pictures, a JSON object a line, in the
order of the pictures. Answers are added in whole rounds, so that whoever was killed in the middle
of one asks it again in the same company and gets the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from srd_edge.evaluation.contestants import Answer
from srd_edge.kernels.frames import Box

ROUND: Final = 50
"""Pictures that are asked at a time."""


class AnswerFile:
    """The answers of one contestant, read and added to.

    Args:
        path: of the file; its folder is made when the first answer is added.
        pictures: how many there are to answer.
    """

    def __init__(self, path: Path, pictures: int) -> None:
        self._path, self._pictures = path, pictures
        self.answers = self._read()

    def has(self, first: int) -> bool:
        """Whether the round that begins with picture ``first`` has been asked."""
        return len(self.answers) > first

    def add(self, answers: Sequence[Answer]) -> None:
        """Add a round; it is on disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.answers += answers
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(_to_json(answer)) + "\n" for answer in answers))

    def _read(self) -> list[Answer]:
        """What an earlier run left, up to its last whole round; the rest is cut off."""
        if not self._path.is_file():
            return []
        whole = [line for line in self._path.read_bytes().splitlines(True) if line.endswith(b"\n")]
        whole = whole[: self._pictures]
        if len(whole) < self._pictures:
            whole = whole[: len(whole) // ROUND * ROUND]
        self._path.write_bytes(b"".join(whole))
        return [_from_json(json.loads(line)) for line in whole]


def _to_json(answer: Answer) -> dict[str, Any]:
    return {
        "caption": answer.caption,
        "alarm": answer.alarm,
        "suspicion": answer.suspicion,
        "boxes": [[box.left, box.top, box.right, box.bottom] for box in answer.boxes],
        "captioner_passes": answer.captioner_passes,
        "policy_passes": answer.policy_passes,
    }


def _from_json(data: dict[str, Any]) -> Answer:
    return Answer(**data | {"boxes": tuple(Box(*box) for box in data["boxes"])})
