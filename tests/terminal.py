"""A terminal to run commands in: what was written to it, and what somebody would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PIECE: Final = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|[\r\n]|[^\r\n\x1b]+")


@dataclass(frozen=True)
class Seen:
    """What came of a command.

    Args:
        code: its exit code.
        written: everything that it wrote to the terminal.
        piped: what it wrote to a standard output that was no terminal.
    """

    code: int
    written: str
    piped: str

    @property
    def screen(self) -> list[str]:
        """The lines that are left to be seen at the end, on a screen that is high enough."""
        lines, row, column = [""], 0, 0
        for piece in _PIECE.finditer(self.written):
            text, (number, letter) = piece.group(), piece.groups()
            if text == "\r":
                column = 0
            elif text == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif letter == "A":
                row -= int(number or 1)
            elif letter == "K":
                lines[row] = ""
            elif letter is None:
                before = lines[row].ljust(column)
                lines[row] = before[:column] + text + before[column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines]


def run_in_terminal(command: Sequence[str], columns: int = 80, *, pipe: Path | None = None) -> Seen:
    """Run ``command`` in a terminal.

    Args:
        command: with its arguments.
        columns: of the terminal.
        pipe: a file that standard output goes to; standard error still goes to the terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    out = theirs if pipe is None else os.open(pipe, os.O_WRONLY | os.O_CREAT, 0o600)
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=out,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    if pipe is not None:
        os.close(out)
    written = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # the last who had it open has gone
            break
        if not data:
            break
        written += data
    os.close(ours)
    code = process.wait(timeout=60)
    return Seen(code, written.decode(), "" if pipe is None else pipe.read_text("utf-8"))
