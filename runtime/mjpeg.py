"""Motion JPEG as a stream of bytes: one whole picture after the other is cut out of it.

A JPEG says how long its parts are but for the coded picture itself, which ends at the first marker
(ITU-T T.81, B.1.1). Only what is between two pictures is skipped, such as the headers of a
multipart stream; a picture that is cut off or damaged is an error, since a decoder would fill it up
with grey.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final

from srd_edge.errors import SourceError

START: Final = b"\xff\xd8"
MOST_BYTES: Final = 64 << 20
"""Of one picture, and of what may lie between two."""

_END_CODE: Final = 0xD9
_SCAN_CODE: Final = 0xDA
_LONE_CODES: Final = frozenset((0x01, *range(0xD0, 0xD8)))
"""Of markers without a length: TEM and the restart markers."""

_WITHIN_SCAN: Final = frozenset((0x00, *range(0xD0, 0xD8)))
"""After 0xFF inside a coded picture: a stuffed byte, or a restart marker."""


def split_mjpeg(chunks: Iterable[bytes], name: str) -> Generator[bytes]:
    """The pictures of a Motion JPEG stream, each a whole JPEG file, in order.

    Args:
        chunks: the stream in pieces of any size.
        name: of the stream, for messages.

    Raises:
        SourceError: for a picture that is cut off, damaged or larger than MOST_BYTES, after those
            before it; and for MOST_BYTES without a picture.
    """
    data = _Bytes(iter(chunks), name)
    while data.skip_to(START):
        yield data.take(_end_of_picture(data))
        data.pictures += 1


class _Bytes:
    """The stream from the present picture's first byte on, as far as it was needed."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self.pictures = 0
        self._chunks, self._name = chunks, name
        self._data = bytearray()

    def __getitem__(self, position: int) -> int:
        """The byte at ``position``.

        Raises:
            SourceError: if the stream ends before it, or has gone on for too long.
        """
        while len(self._data) <= position:
            if not self._read():
                raise self.wrong("one that is cut off")
            if len(self._data) > MOST_BYTES:
                raise self.wrong(f"over {MOST_BYTES >> 20} MiB without an end")
        return self._data[position]

    def find_marker(self, position: int) -> int:
        """Where, from ``position`` on, a coded picture ends: at 0xFF and a marker's code."""
        while True:
            found = self._data.find(b"\xff", position)
            if found < 0:
                position = len(self._data)
                _ = self[position]  # read on
            elif (code := self[found + 1]) in _WITHIN_SCAN:
                position = found + 2
            elif code == 0xFF:  # a fill byte
                position = found + 1
            else:
                return found

    def skip_to(self, start: bytes) -> bool:
        """Drop all bytes before ``start``; False if the stream ends without it."""
        skipped = 0
        while (found := self._data.find(start)) < 0:
            skipped += max(len(self._data) - 1, 0)
            del self._data[:-1]
            if skipped > MOST_BYTES:
                raise self.wrong(f"over {MOST_BYTES >> 20} MiB that are no JPEG")
            if not self._read():
                return False
        del self._data[:found]
        return True

    def take(self, end: int) -> bytes:
        taken = bytes(self._data[:end])
        del self._data[:end]
        return taken

    def wrong(self, found: str) -> SourceError:
        return SourceError(
            expected=f"a whole JPEG as picture {self.pictures} of {self._name}",
            found=found,
            do="check what writes it; the pictures before it were processed",
        )

    def _read(self) -> bool:
        chunk = next(self._chunks, b"")
        self._data += chunk
        return bool(chunk)


def _end_of_picture(data: _Bytes) -> int:
    """How long the JPEG is that begins at ``data[0]``, in bytes."""
    position = len(START)
    while True:
        if data[position] != 0xFF:
            raise data.wrong("damaged bytes")
        code = data[position + 1]
        if code == _END_CODE:
            return position + 2
        if code == 0xFF:  # a fill byte
            position += 1
        elif code in _LONE_CODES:
            position += 2
        elif code < 0xC0 or code == START[1]:
            raise data.wrong("damaged bytes" if code < 0xC0 else "one that is cut off")
        else:
            position += 2 + ((data[position + 2] << 8) | data[position + 3])
            if code == _SCAN_CODE:
                position = data.find_marker(position)
