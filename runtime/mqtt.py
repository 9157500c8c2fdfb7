"""Results to an MQTT broker, as the JSON objects that they are in the lines, with QoS 1.

    TOPIC          every result
    TOPIC/alert    once more those that are suspicious: who subscribes to it need read nothing else
    TOPIC/status   online or offline, retained; the broker says offline for a run that was killed

paho-mqtt connects, and connects again, on a thread of its own, and sends again what a broker did
not acknowledge before it went away.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from srd_edge.errors import UsageError
from srd_edge.runtime.addresses import redacted, without_secrets
from srd_edge.runtime.records import Result

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_ON_THE_WAY: Final = 20
"""Results without a receipt at a time; for each alone a distant broker would be too slow."""
_WAIT_S: Final = 2.0
_KEEP_ALIVE_S: Final = 30
_RETRY_S: Final = (1, 30)


@dataclass(frozen=True, slots=True)
class MqttTarget:
    """Where results go.

    Args:
        host, port: of the broker.
        topic: without a wildcard.
        tls: whether the connection is encrypted, and the broker's certificate checked.
        user, password: for the broker, or None.
    """

    host: str
    port: int
    topic: str
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class Mqtt:
    """The carrier to a broker.

    Args:
        url: as in ``parse_mqtt``.

    Raises:
        UsageError: here, for another address, or without the library.
    """

    def __init__(self, url: str) -> None:
        target = parse_mqtt(url)
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise UsageError(
                expected="paho-mqtt for --mqtt",
                found=str(error),
                do='pip install "srd-edge[mqtt]"',
            ) from error
        self.name, self._topic = without_secrets(url), target.topic
        self._state = threading.Condition()
        self._is_connected, self._why = False, "no connection to the broker"
        self._unacknowledged: dict[int, bool] = {}
        """By message: whether it is a result's own."""
        self._early: set[int] = set()
        # Before the thread starts, whose first call may come at once.
        self._client: Client = Client(CallbackAPIVersion.VERSION2)
        client = self._client
        if target.user is not None:
            client.username_pw_set(target.user, target.password)
        if target.tls:
            client.tls_set()
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        client.on_connect = self._connected
        client.on_connect_fail = self._not_connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._acknowledged
        client.max_inflight_messages_set(2 * _ON_THE_WAY)
        client.reconnect_delay_set(*_RETRY_S)
        client.connect_async(target.host, target.port, _KEEP_ALIVE_S)
        client.loop_start()

    def deliver(self, result: Result) -> str | None:
        with self._state:
            if not self._state.wait_for(self._has_room, _WAIT_S):
                raise OSError(self._why if not self._is_connected else "no receipts")
        data = json.dumps(result.to_json(), allow_nan=False)
        self._publish(self._topic, data, is_result=True)
        if result.verdict == "suspicious":
            self._publish(f"{self._topic}/alert", data)
        return None

    def settle(self, seconds: float) -> int:
        with self._state:
            self._state.wait_for(lambda: not self._unacknowledged, seconds)
            return sum(self._unacknowledged.values())

    def close(self) -> None:
        """Say goodbye; a broker that is away is not waited for."""
        if self._is_connected:
            self._publish(f"{self._topic}/status", "offline", retain=True)
            self.settle(_WAIT_S)
            self._client.disconnect()
            self._client.loop_stop()
        else:
            self._client.disconnect()

    def _has_room(self) -> bool:
        return self._is_connected and sum(self._unacknowledged.values()) < _ON_THE_WAY

    def _publish(
        self, topic: str, data: str, *, is_result: bool = False, retain: bool = False
    ) -> None:
        number = self._client.publish(topic, data, qos=1, retain=retain).mid
        with self._state:
            if number in self._early:  # the receipt was faster than we
                self._early.remove(number)
            else:
                self._unacknowledged[number] = is_result

    def _acknowledged(self, _client: Any, _data: Any, number: int, *_: Any) -> None:
        with self._state:
            if self._unacknowledged.pop(number, None) is None:
                self._early.add(number)
            self._state.notify_all()

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _: Any) -> None:
        if reason.is_failure:
            self._why = f"that the broker says: {reason}"
            return
        self._publish(f"{self._topic}/status", "online", retain=True)
        with self._state:
            self._is_connected = True
            self._state.notify_all()

    def _not_connected(self, *_: Any) -> None:
        error = sys.exception()  # paho calls from where it has caught it
        if isinstance(error, OSError):
            self._why = error.strerror or str(error)

    def _disconnected(self, *_: Any) -> None:
        with self._state:
            self._is_connected = False


def parse_mqtt(url: str) -> MqttTarget:
    """``mqtt://[user:password@]host[:port]/topic``, or mqtts:// with TLS.

    Raises:
        UsageError: for anything else.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), 0
    topic = urllib.parse.unquote(parts.path.removeprefix("/"))
    is_odd = not topic or any(character in topic for character in "+#\0") or topic[0] == "$"
    host = parts.hostname or ""
    if not port or not _is_host(host) or is_odd or parts.query or parts.fragment:
        raise UsageError(
            expected="a broker and a topic, mqtt://[user:password@]host[:port]/topic",
            found=f"'{redacted(url)}'",
            do="give an address such as mqtt://localhost/cameras/door",
        )
    user, password = (
        None if word is None else urllib.parse.unquote(word)
        for word in (parts.username, parts.password)
    )
    return MqttTarget(host, port, topic, parts.scheme == "mqtts", user, password)


def _is_host(name: str) -> bool:
    """Whether a name can be looked up: what cannot be ends paho's thread, which tells nobody."""
    try:
        return bool(name.encode("idna")) and name.isprintable()
    except UnicodeError:
        return False
