"""The caller's end of the process that captions: it is started, asked, waited for and ended.

A caller may be interrupted anywhere, mostly by Ctrl-C, and go on afterwards. So every question has
a number and its answer has the same; an answer to any but the last question is dropped, whatever
became of the frames that it is about. A caller that was interrupted amid a message cannot tell
where the next one begins: the link is broken then, and another has to take its place.

Nothing heavy is imported here, so that a process can be started before its caller has done so.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any, Final, NoReturn

from srd_edge.errors import RunError

if TYPE_CHECKING:
    from srd_edge.runtime.captioning_process import Answer, Asked, Opening

_NEVER_S: Final = float("inf")
_FAREWELL_S: Final = 5.0
_FIRST_FREE: Final = 3
_MOST_PRINTED: Final = 1 << 20
_LAST_PRINTED: Final = 4096
_LINE: Final = 300


class Link:
    """A process that captions, and the questions that it is asked.

    It finds what this process would: it has the same ``sys.path``. What it prints to standard
    error is kept, at most the last megabyte or so, to say why it ended.

    Args:
        memory: file descriptor of the common memory, above those of the standard streams.
    """

    def __init__(self, memory: int) -> None:
        self.broken = False
        self._number = 0
        self._answer: Answer | None = None
        ours, theirs = Pipe()
        with ours, theirs:
            self.connection: Connection[Any, Any] = Connection(above_standard(ours.fileno()))
            their_end = above_standard(theirs.fileno())
        self._printed = file_in_memory("srd-edge-stderr")
        fcntl.fcntl(self._printed, fcntl.F_SETFL, os.O_APPEND)
        ends = their_end, memory
        code = (
            "import sys; sys.path[:] = sys.argv[1:]; "
            f"from srd_edge.runtime.captioning_process import serve; serve{ends}"
        )
        environment = {"OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"} | os.environ
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # results go to ours
                stderr=self._printed,
                pass_fds=ends,
                env=environment,
                start_new_session=True,  # Ctrl-C ends us, and that ends it
            )
        finally:
            os.close(their_end)
        self._end = weakref.finalize(self, _end, self.connection, self.process, self._printed)

    def ask(self, message: Opening | Asked) -> None:
        """Ask another question; the answer to the one before is not wanted any more.

        Raises:
            RunError: if the process has ended.
        """
        self._answer, self._number = None, self._number + 1
        if os.fstat(self._printed).st_size > _MOST_PRINTED:
            os.ftruncate(self._printed, 0)
        self.broken = True  # unless the message gets through whole
        try:
            self.connection.send((self._number, message))
        except OSError as error:
            self._gone(error)
        self.broken = False

    def answer(self, until_s: float = _NEVER_S) -> Any:
        """The answer to the last question, however often; None where it has not come in time.

        Args:
            until_s: on ``time.perf_counter``.

        Raises:
            BaseException: what went wrong there.
            RunError: if the process has ended.
        """
        while self._answer is None:
            patience_s = max(until_s - time.perf_counter(), 0.0)
            if not self.connection.poll(None if patience_s == _NEVER_S else patience_s):
                return None
            self._receive()
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def abandon(self) -> None:
        """End the process at once, whatever it is at."""
        self.process.kill()
        self._end()

    def _receive(self) -> None:
        self.broken = True  # unless the message is received whole, and kept
        try:
            number, answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self._gone(error)
        if number == self._number:
            self._answer = answer
        self.broken = False

    def _gone(self, error: Exception) -> NoReturn:
        self.connection.close()
        _see_off(self.process)
        line = _last_line(self._printed)
        raise RunError(
            expected="an answer from the process that captions",
            found=f"that it ended with status {self.process.returncode}{line and ': '}{line}",
            do="caption without a budget to see more; -9 is mostly too little memory",
        ) from error


_early: list[tuple[int, Link]] = []


@contextmanager
def started_early() -> Iterator[None]:
    """Have a process import what it needs already, while this one does; ``first_link`` gives it.

    In the end nothing is left of one that nobody took.
    """
    _early.append(_started())
    try:
        yield
    finally:
        while _early:
            memory, link = _early.pop()
            link.abandon()
            os.close(memory)


def first_link() -> tuple[int, Link]:
    """A common memory, as ``Link`` takes it, and a process that has been asked nothing yet."""
    return _early.pop() if _early else _started()


def _started() -> tuple[int, Link]:
    memory = file_in_memory("srd-edge")
    try:
        return memory, Link(memory)
    except BaseException:
        os.close(memory)
        raise


def above_standard(handle: int) -> int:
    """A second descriptor, none of the three that a process redirects when it starts.

    Where those were closed, the next files that are opened get their numbers.
    """
    return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)


def file_in_memory(name: str) -> int:
    """Descriptor of an empty file without a place, above those of the standard streams."""
    handle = os.memfd_create(name)
    try:
        return above_standard(handle)
    finally:
        os.close(handle)


def _last_line(file: int) -> str:
    """The end of the last line that says something; empty where there is none."""
    start = max(os.fstat(file).st_size - _LAST_PRINTED, 0)
    text = os.pread(file, _LAST_PRINTED, start).decode(errors="replace").rstrip()
    return " ".join(text.rpartition("\n")[2].split())[-_LINE:]


def _end(connection: Connection[Any, Any], process: subprocess.Popen[bytes], printed: int) -> None:
    """It ends by itself when nobody is there to ask; a call of a model is waited for."""
    connection.close()
    _see_off(process)
    os.close(printed)


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, and no longer than somebody at the keyboard wants to."""
    try:
        process.wait(_FAREWELL_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
