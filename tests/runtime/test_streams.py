"""Cameras, addresses and pipelines: told apart by their spelling, shown without passwords."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from srd_edge.errors import SourceError, UsageError
from srd_edge.runtime.found_files import Kind
from srd_edge.runtime.sources import open_source, open_sources
from srd_edge.runtime.streams import is_pipeline, is_stream, pipeline_of, shown


def test_streams_are_told_by_their_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for spec in ("0", "RTSP://host/x", "https://host/x", "gst:videotestsrc", "a ! b"):
        assert is_stream(spec)
    for spec in ("film.mp4", "a!b.mp4", "ftp://host/x", "\u0663", "-"):
        assert not is_stream(spec)
    (tmp_path / "stop ! look.mp4").touch()
    assert not is_pipeline("stop ! look.mp4")


def test_a_pipeline_gets_what_it_lacks() -> None:
    assert pipeline_of("gst: v4l2src ! appsink drop=1") == "v4l2src ! appsink drop=1"
    assert pipeline_of("gst:videotestsrc") == "videotestsrc ! videoconvert ! appsink"


@pytest.mark.skipif(
    cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer"
)
@pytest.mark.parametrize("spec", ["gst:videotestsrc", "videotestsrc ! videoconvert ! appsink"])
def test_without_gstreamer_a_pipeline_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(
        SourceError, match=r"without it.*fdsink \| srd-edge run --video -"
    ) as caught:
        open_source(spec, kind="video")
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="--video"):
        open_source(spec, kind="image")


@pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has no GStreamer"
)
def test_a_pipeline_plays() -> None:
    with open_source("gst:videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48") as source:
        assert next(source).frame.pixels.shape == (48, 64, 3)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_recording_that_is_served_whole_is_no_live_source(
    write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    write_clip(tmp_path / "clip.webm", frames=30)
    handler = functools.partial(Silent, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/clip.webm"
            with open_source(address, every=2) as source:
                assert (source.live, source.frames, source.fps) == (False, 15, 5.0)
                items = list(source)
            path = tmp_path / "clip.webm"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            with open_source(address) as source, pytest.raises(SourceError, match="30 frames in"):
                list(source)
        finally:
            server.shutdown()
    assert [item.frame.index for item in items] == list(range(0, 30, 2))
    assert [item.frame.time_s for item in items] == pytest.approx([i / 5 for i in range(15)])


def test_cameras_that_differ_in_their_query_alone_are_told_apart(
    write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    write_clip(tmp_path / "clip.webm", frames=3)
    handler = functools.partial(Silent, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            shown = f"http://127.0.0.1:{server.server_port}/clip.webm"
            address = f"{shown}?pwd=s3cret&channel="
            with open_sources([f"{address}1", f"{address}2"]) as source:
                assert {item.file for item in source} == {shown, f"{shown} (2)"}
            with pytest.raises(UsageError, match=r"'[^?]*' twice"):
                open_sources([f"{address}1", f"{address}1"])
        finally:
            server.shutdown()


def test_passwords_are_not_shown() -> None:
    assert shown("rtsp://admin:s3cret@10.0.0.7:554/a@b") == "rtsp://10.0.0.7:554/a@b"
    assert shown("http://host/x") == "http://host/x"
    assert shown("gst:rtspsrc location=rtsp://a:b@host/x ! x") == (
        "gst:rtspsrc location=rtsp://host/x ! x"
    )
    assert shown("0") == "camera 0"


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize(
    "spec",
    [
        "rtsp://admin:s3cret@127.0.0.1:9/x",
        "rtsp://admin:p@s3cret@127.0.0.1:9/x",
        "http://127.0.0.1:9/x?user=admin&pwd=s3cret",
        "gst:rtspsrc location=rtsp://u:s3cret@127.0.0.1:9/x ! fakesink",
        "rtmp://u:s3cret@127.0.0.1:9/x",
        "rtmp://u:s3cret@127.0.0.1:9/x?key=s3cret",
    ],
)
def test_what_cannot_be_opened_is_named_without_passwords(spec: str, kind: Kind) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec, kind=kind)
    assert "s3cret" not in str(caught.value)
