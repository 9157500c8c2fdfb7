"""Keeping the C libraries under OpenCV from talking to the user.

FFmpeg, libpng and libjpeg write to file descriptor 2 behind Python's back, before we can say in
one line what is wrong. Nothing here happens at import: an application that embeds srd-edge may
want the chatter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import cv2

_FFMPEG_QUIET: Final = "-8"  # AV_LOG_QUIET
_SILENT: Final = 0  # LOG_LEVEL_SILENT


def quiet_opencv() -> None:
    """Turn off OpenCV's and FFmpeg's logging, unless the user's environment asks for it.

    FFmpeg's level is read once a process, at the first capture or writer: call this before it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # OpenCV 5 moved the function; its stubs and those of 4 each know one of the two only.
        home: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
        home.setLogLevel(_SILENT)


@contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Send what C code prints to standard error nowhere; ``sys.stderr`` goes on as it was.

    For the command line, around a whole run: libpng and OpenCV's writer print past every log
    level. It changes the process's descriptor 2, so a library must not do it for its caller.
    Without a real standard error (under a test runner, as a service) nothing is changed.
    """
    try:
        is_native = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        is_native = False
    if not is_native:
        yield
        return
    python_stderr = sys.stderr
    python_stderr.flush()
    saved = os.dup(2)
    void = os.open(os.devnull, os.O_WRONLY)
    encoding, errors = python_stderr.encoding, python_stderr.errors
    with os.fdopen(
        os.dup(saved), "w", encoding=encoding, errors=errors, buffering=1
    ) as replacement:
        os.dup2(void, 2)
        sys.stderr = replacement
        try:
            yield
        finally:
            os.dup2(saved, 2)
            sys.stderr = python_stderr
            os.close(saved)
            os.close(void)
