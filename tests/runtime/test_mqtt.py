"""MQTT against a real broker: one that closes, comes back, never was, and wants a password."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srd_edge.errors import UsageError
from srd_edge.kernels.frames import Frame
from srd_edge.runtime.mqtt import Mqtt, MqttTarget, parse_mqtt
from srd_edge.runtime.outbox import Outbox
from srd_edge.runtime.records import Result
from tests.broker import Broker, Listener, until

FRAME = Frame(np.zeros((1, 1, 3), np.uint8))


@pytest.fixture
def said() -> list[str]:
    return []


def result(frame: int, **fields: Any) -> Result:
    values = {"verdict": "clean", "suspicion": 0.1, **fields}
    return Result(frame, 0.0, "ein Hund läuft", **values)


def test_results_alerts_and_the_status_are_published(broker: Broker, said: list[str]) -> None:
    broker.start()
    listener = Listener(broker.port)
    outbox = Outbox(Mqtt(broker.url), said.append)
    results = [result(i, verdict="suspicious" if i % 20 == 5 else "clean") for i in range(60)]
    for one in results:
        outbox.write(FRAME, one)
    outbox.close()
    until(lambda: listener.states() == ["online", "offline"])
    plain = [json.loads(text) for name, text in listener.messages if name == "cameras/door"]
    assert plain == [one.to_json() for one in results]
    assert listener.frames("cameras/door/alert") == [5, 25, 45]
    assert (outbox.lost, said) == (0, [])
    listener.close()


def test_a_broker_that_closes_and_comes_back(broker: Broker, said: list[str]) -> None:
    broker.start()
    listener = Listener(broker.port)
    mqtt = Mqtt(broker.url)
    outbox = Outbox(mqtt, said.append, pause=lambda event, _: event.wait(0.05), closing_s=60)
    outbox.write(FRAME, result(0))
    until(lambda: listener.frames() == [0])
    broker.stop()
    until(lambda: not mqtt._is_connected)
    for frame in range(1, 40):
        outbox.write(FRAME, result(frame))
    listener.close()
    broker.start()
    listener = Listener(broker.port)
    outbox.write(FRAME, result(40))
    outbox.close()
    until(lambda: listener.states()[-1:] == ["offline"])
    # What came back before this listener subscribed was not for it; receipts were there for all.
    frames = listener.frames()
    assert frames == sorted(frames)
    assert frames[-1] == 40
    assert outbox.lost == 0
    listener.close()


def test_a_broker_that_never_was(broker: Broker, said: list[str]) -> None:
    mqtt = Mqtt(broker.url.replace("//", "//me:secret@"))
    outbox = Outbox(mqtt, said.append, room=4, closing_s=0.05)
    for frame in range(10):
        outbox.write(FRAME, result(frame))
    until(lambda: any("Connection refused" in line for line in said))
    outbox.close()
    assert outbox.lost == 10
    assert said[-1] == f"srd-edge: 10 results were not delivered to {broker.url}"
    assert not [line for line in said if "secret" in line]


def test_a_run_that_was_killed_is_offline(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    code = (
        "import sys, time\n"
        "from srd_edge.runtime.mqtt import Mqtt\n"
        "Mqtt(sys.argv[1])\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, broker.url])
    until(lambda: listener.states() == ["online"])
    process.kill()
    process.wait(timeout=60)
    until(lambda: len(listener.states()) > 1)
    assert listener.states() == ["online", "offline"]
    listener.close()


def test_a_password(broker: Broker, said: list[str], tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("no mosquitto_passwd on this machine")
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run([tool, "-b", str(passwords), "me", "p@ss/word"], check=True)
    # Or it would give up root for a user who cannot reach the file.
    broker.start("user root", "allow_anonymous false", f"password_file {passwords}")
    wrong = Outbox(Mqtt(broker.url.replace("//", "//me:wrong@")), said.append, closing_s=0.05)
    wrong.write(FRAME, result(0))
    until(lambda: said)
    wrong.close()
    assert wrong.lost == 1
    assert "Not authorized" in said[0]
    listener = Listener(broker.port, ("me", "p@ss/word"))
    right = Outbox(Mqtt(broker.url.replace("//", "//me:p%40ss%2Fword@")), said.append)
    right.write(FRAME, result(1))
    right.close()
    until(lambda: listener.frames() == [1])
    assert right.lost == 0
    listener.close()


def test_the_certificate_of_the_broker_is_checked(
    broker: Broker, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext"
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = [openssl, *make.split(), "subjectAltName=IP:127.0.0.1", *files]
    subprocess.run(command, check=True, capture_output=True)
    broker.start("user root", "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    url = broker.url.replace("mqtt:", "mqtts:")
    stranger = Outbox(Mqtt(url), said.append, closing_s=0.05)
    stranger.write(FRAME, result(0))
    until(lambda: said)
    stranger.close()
    assert "certificate verify failed" in said[0]
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    known = Outbox(Mqtt(url), said.append)
    known.write(FRAME, result(1))
    known.close()
    assert (stranger.lost, known.lost) == (1, 0)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("mqtt://host/a/b", MqttTarget("host", 1883, "a/b")),
        ("mqtts://host/a%20b", MqttTarget("host", 8883, "a b", tls=True)),
        (f"mqtt://{'a' * 63}.münchen/t", MqttTarget(f"{'a' * 63}.münchen", 1883, "t")),
        ("mqtt://me:p%40ss@[::1]:99/t", MqttTarget("::1", 99, "t", False, "me", "p@ss")),
    ],
)
def test_addresses(url: str, target: MqttTarget) -> None:
    assert parse_mqtt(url) == target
    assert "ss" not in repr(parse_mqtt(url)).replace("pass", "")


@pytest.mark.parametrize(
    "url",
    [
        *("", "host/t", "http://host/t", "mqtt://host", "mqtt://host/", "mqtt:///t"),
        *("mqtt://h:x/t", "mqtt://host/a/+", "mqtt://host/a%23", "mqtt://host/$SYS/x"),
        *("mqtt://u:se/cret@h/t", f"mqtt://{'a' * 64}.local/t", "mqtt://a..b/t", "mqtt://a\0b/t"),
    ],
)
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="a broker and a topic") as caught:
        parse_mqtt(url)
    assert "se/cret" not in str(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(UsageError, match=r'pip install "srd-edge\[mqtt\]"'):
        Mqtt("mqtt://127.0.0.1:1/t")
