"""Cameras, addresses and GStreamer pipelines: how each is opened, shown, and kept from hanging."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from srd_edge.errors import SourceError
from srd_edge.runtime.addresses import without_secrets
from srd_edge.runtime.clips import ClipHeader, header_of

OPEN_TIMEOUT_S: Final = 10.0

_ADDRESS: Final = re.compile(r"(rtsps?|https?)://", re.IGNORECASE)
_PIPELINE: Final = "gst:"
_LINK: Final = " ! "
_FFMPEG_OPTIONS: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class Capture(Protocol):
    """As much of ``cv2.VideoCapture`` as is used to read one."""

    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, NDArray[np.generic]]: ...
    def release(self) -> None: ...


def is_stream(spec: str) -> bool:
    """Whether ``spec`` is a camera's number, an address or a GStreamer pipeline."""
    return is_camera(spec) or is_pipeline(spec) or _ADDRESS.match(spec) is not None


def is_camera(spec: str) -> bool:
    """Whether ``spec`` is a camera's number."""
    return spec.isascii() and spec.isdigit()


def is_pipeline(spec: str) -> bool:
    """Whether ``spec`` is a GStreamer pipeline: by its prefix, or by links in what is no file."""
    return spec.startswith(_PIPELINE) or (_LINK in spec and not Path(spec).exists())


def pipeline_of(spec: str) -> str:
    """The GStreamer pipeline that ``spec`` stands for: one without an appsink gets one."""
    pipeline = spec.removeprefix(_PIPELINE).strip()
    return pipeline if "appsink" in pipeline else f"{pipeline} ! videoconvert ! appsink"


def shown(spec: str) -> str:
    """``spec`` as it may be printed and logged: without the secrets of an address."""
    return f"camera {spec}" if is_camera(spec) else without_secrets(spec)


def open_stream(spec: str, stall_s: float) -> tuple[cv2.VideoCapture, ClipHeader]:
    """Open a camera's number, an address or a pipeline; the caller releases the capture.

    RTSP goes over TCP, unless the user's own OPENCV_FFMPEG_CAPTURE_OPTIONS say otherwise: over UDP
    a lost packet is a torn picture, and many a firewall lets none through.

    Args:
        spec: see ``is_stream``.
        stall_s: FFmpeg ends a read that takes a second longer; whoever watches has noticed by then.

    Returns:
        The capture, and what it says of itself. ``frames`` is known for a recording that is served
        whole, and None for what happens as it is watched; it is never known for cameras and rtsp://.

    Raises:
        SourceError: if nothing answers there within ten seconds, or for a pipeline where OpenCV has
            no GStreamer.
    """
    if is_camera(spec):
        capture = cv2.VideoCapture(int(spec))
        what, do = f"a camera with number {spec}", "list the cameras (ls /dev/video*)"
    elif is_pipeline(spec):
        _check_gstreamer(spec)
        capture = cv2.VideoCapture(pipeline_of(spec), cv2.CAP_GSTREAMER, timeouts(stall_s))
        what = f"a GStreamer pipeline that plays, as '{shown(pipeline_of(spec))}'"
        do = "check it with gst-launch-1.0, with fakesink in place of appsink"
    else:
        os.environ.setdefault(_FFMPEG_OPTIONS, "rtsp_transport;tcp")
        capture = cv2.VideoCapture(spec, cv2.CAP_FFMPEG, timeouts(stall_s))
        what = f"a video stream at {shown(spec)}"
        do = "check the address, and that it can be reached"
    if not capture.isOpened():
        capture.release()
        raise SourceError(expected=what, found="nothing that could be opened", do=do)
    header = header_of(capture)
    is_endless = is_camera(spec) or spec.lower().startswith("rtsp")
    return capture, ClipHeader(None if is_endless else header.frames, header.fps)


def _check_gstreamer(spec: str) -> None:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise SourceError(
            expected=f"an OpenCV with GStreamer for '{shown(spec)}'",
            found=f"OpenCV {cv2.__version__} without it, as pip installs it",
            do="use a build with it (WITH_GSTREAMER=ON, or the system's python3-opencv), or pipe: "
            "gst-launch-1.0 -q ... ! jpegenc ! fdsink | srd-edge run --video -",
        )


def timeouts(stall_s: float) -> list[int]:
    """The parameters of a ``cv2.VideoCapture`` that is to give up by itself."""
    return [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * OPEN_TIMEOUT_S)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * (stall_s + 1))),
    ]
