"""A real MQTT broker and a subscriber to it, for whichever test needs them."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


class Broker:
    """mosquitto on a free port, started and stopped by the test."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}/cameras/door"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        config = self._folder / "mosquitto.conf"
        rules = settings or ("allow_anonymous true",)
        config.write_text("\n".join((f"listener {self.port} 127.0.0.1", *rules, "")))
        self._process = subprocess.Popen(
            [self._program, "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers)
        assert self._process.poll() is None, "the port was somebody else's"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.stop()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """What arrives below a topic, in order."""

    def __init__(self, port: int, user: tuple[str, str] | None = None) -> None:
        self.messages: list[tuple[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.reconnect_delay_set(1, 1)
        ready = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _c, _d, message: self.messages.append(
            (message.topic, message.payload.decode())
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(60)

    def frames(self, topic: str = "cameras/door") -> list[int]:
        return [json.loads(text)["frame"] for name, text in self.messages if name == topic]

    def states(self) -> list[str]:
        return [text for name, text in self.messages if name == "cameras/door/status"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
