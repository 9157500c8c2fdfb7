"""A small RTSP server for tests: a camera that sends JPEG pictures, in a process of its own.

    python rtsp_server.py PORT [FPS]

It speaks as much of RTSP (RFC 2326: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN) as a player needs,
sends RTP inside the RTSP connection (section 10.12) and JPEG by RFC 2435. PORT 0 takes a free one;
the port is printed once it listens. A player that asks for UDP is refused. Frame i of each
connection is grey, ``20 + i * 37 % 200`` bright.
"""

from __future__ import annotations

import socketserver
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

WIDTH: Final = 96
HEIGHT: Final = 64
CLOCK_HZ: Final = 90_000
MOST_BYTES: Final = 1400
JPEG_PAYLOAD: Final = 26
SDP: Final = "\r\n".join(
    (
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=grey",
        "t=0 0",
        f"m=video 0 RTP/AVP {JPEG_PAYLOAD}",
        "c=IN IP4 0.0.0.0",
        "a=control:track0",
        "",
    )
)


def jpeg_packets(index: int, sequence: int, fps: float) -> Iterator[bytes]:
    """The RTP packets of frame ``index``; the first has number ``sequence``."""
    tables, scan = jpeg_parts(index)
    # Type 1: 4:2:0 subsampling; Q 255: the quantisation tables come with the first packet.
    fixed = bytes((1, 255, WIDTH // 8, HEIGHT // 8))
    offset = 0
    while offset < len(scan):
        quantisation = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        part = scan[offset : offset + MOST_BYTES]
        is_last = offset + len(part) == len(scan)
        rtp = struct.pack(
            ">BBHII",
            0x80,
            JPEG_PAYLOAD | (0x80 if is_last else 0),
            sequence & 0xFFFF,
            int(index * CLOCK_HZ / fps) & 0xFFFFFFFF,
            0x5EED,
        )
        yield rtp + b"\0" + offset.to_bytes(3, "big") + fixed + quantisation + part
        offset += len(part)
        sequence += 1


def jpeg_parts(index: int) -> tuple[bytes, bytes]:
    """The quantisation tables of frame ``index`` as a JPEG, and its entropy-coded data."""
    picture = np.full((HEIGHT, WIDTH, 3), 20 + index * 37 % 200, np.uint8)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    tables, position = b"", 2
    while data[position + 1] != 0xDA:  # start of scan
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xDB:
            tables += data[position + 5 : position + 2 + length]
        position += 2 + length
    position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return tables, data[position:-2]


class Camera(socketserver.StreamRequestHandler):
    fps: float = 25.0

    def handle(self) -> None:
        while line := self.rfile.readline().decode().strip():
            method, address, _ = line.split()
            headers: dict[str, str] = {}
            while header := self.rfile.readline().decode().strip():
                key, _, value = header.partition(":")
                headers[key.lower()] = value.strip()
            number, transport = headers["cseq"], headers.get("transport", "")
            if method == "OPTIONS":
                self.answer(number, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                base = f"Content-Base: {address}/"
                kind = "Content-Type: application/sdp"
                self.answer(number, base, kind, f"Content-Length: {len(SDP)}", body=SDP)
            elif method == "SETUP" and "interleaved" not in transport:
                self.answer(number, status="461 Unsupported Transport")
            elif method == "SETUP":
                self.answer(number, f"Transport: {transport}", "Session: 1")
            elif method == "PLAY":
                self.answer(number, "Session: 1", "Range: npt=0-")
                self.play()
                return
            else:
                self.answer(number, "Session: 1")

    def answer(self, number: str, *headers: str, body: str = "", status: str = "200 OK") -> None:
        lines = (f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, "", body)
        self.wfile.write("\r\n".join(lines).encode())

    def play(self) -> None:
        sequence, index, start = 0, 0, time.monotonic()
        while True:
            for packet in jpeg_packets(index, sequence, self.fps):
                try:
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                except OSError:  # the player has gone
                    return
                sequence += 1
            index += 1
            time.sleep(max(start + index / self.fps - time.monotonic(), 0))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main(port: str, fps: str = "25") -> None:
    Camera.fps = float(fps)
    with Server(("127.0.0.1", int(port)), Camera) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
