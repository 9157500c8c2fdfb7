"""How long a video file says it is, read from its container: the one sure sign of a cut-off file.

A frame count in a header is no such sign. It counts frames that an edit list hides and is, in WebM
and AVI, a guess from the duration of the longest track, sound included.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

_MP4_BOXES: Final = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"))


def missing_bytes(path: Path) -> int | None:
    """How many bytes a video file lacks of what its container says it has.

    Read from the container's own sizes (MP4 and MOV boxes, RIFF chunks, the Matroska segment).

    Returns:
        0 for a whole file, or for one whose writer never came to fill the sizes in; None for a
        container that does not state its size.
    """
    with path.open("rb") as file:
        claimed = _claimed_bytes(file)
    return None if claimed is None else max(claimed - path.stat().st_size, 0)


def is_finished(path: Path) -> bool:
    """Whether a video file's writer came to its end: it says how long it is, and is that long."""
    with path.open("rb") as file:
        claimed, boxes = _claimed_bytes(file) or 0, mp4_boxes(file)
    has_index = not boxes or b"moov" in boxes
    return has_index and 0 < claimed <= path.stat().st_size


def mp4_boxes(file: BinaryIO) -> dict[bytes, int]:
    """The top-level boxes of an MP4 and where each ends, in bytes; empty for any other file."""
    boxes: dict[bytes, int] = {}
    position = 0
    while True:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) < 8 or (not boxes and kind not in _MP4_BOXES):
            return boxes
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if not 8 <= length < 1 << 60:  # 0: on to the file's end; any other: not a box any more
            boxes.setdefault(kind, position)
            return boxes
        position += length
        boxes[kind] = position


def _claimed_bytes(file: BinaryIO) -> int | None:
    """How long a container says that it is; 0 where it does not, None for what is none."""
    head = file.read(12)
    if head[:4] == b"RIFF":
        claimed = int.from_bytes(head[4:8], "little")
        return claimed + 8 if claimed else 0
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska_end(file)
    return max(mp4_boxes(file).values(), default=None)


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska or WebM file ends, in bytes; 0 if it does not say."""
    file.seek(4)
    header_length = _matroska_number(file)
    if header_length is None:
        return 0
    file.seek(header_length, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _matroska_number(file)
    return 0 if length is None else file.tell() + length


def _matroska_number(file: BinaryIO) -> int | None:
    """A variable-length number (RFC 8794, section 4); None for the reserved "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] ^ (0x80 >> extra)]) + file.read(extra), "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
