"""paho-mqtt as the wire tests use it: blocking calls with bounds around its network thread."""

import os
import queue
import socket
import threading
from types import TracebackType
from typing import Any, Literal, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.waiting import WITHIN_S

V3, V4, V5 = MQTTProtocolVersion.MQTTv31, MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5


class PahoClient:
    """One connection, made by `connect` and ended with the block."""

    def __init__(
        self,
        client_id: str,
        version: MQTTProtocolVersion,
        *,
        clean: bool = True,
        transport: Literal["tcp", "websockets", "unix"] = "tcp",
    ) -> None:
        self.version = version
        clean_session = clean if version != V5 else None
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=version,
            clean_session=clean_session,
            transport=transport,
            # A test that loses its connection wants to see that, not a second one.
            reconnect_on_failure=False,
        )
        self._clean = clean
        self._messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._acknowledged: queue.Queue[tuple[int, list[ReasonCode]]] = queue.Queue()
        self._connack: queue.Queue[tuple[ReasonCode, bool]] = queue.Queue()
        self.disconnected = threading.Event()
        self.paho.on_connect = lambda _c, _u, flags, reason, _p: self._connack.put((reason, flags.session_present))
        self.paho.on_message = lambda _c, _u, message: self._messages.put(message)
        self.paho.on_subscribe = lambda _c, _u, mid, reasons, _p: self._acknowledged.put((mid, reasons))
        self.paho.on_unsubscribe = lambda _c, _u, mid, reasons, _p: self._acknowledged.put((mid, reasons))
        self.paho.on_disconnect = lambda *_: self.disconnected.set()

    def connect(
        self,
        host: str,
        port: int,
        *,
        keep_alive_s: int = 60,
        session_expiry_s: int = 0,
        properties: Properties | None = None,
    ) -> tuple[int, bool]:
        """Connect; returns CONNACK's reason code and whether a session was present."""
        more: dict[str, Any] = {}
        if self.version == V5:
            if properties is None:
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = session_expiry_s
            more = {"clean_start": self._clean, "properties": properties}
        self.paho.connect(host, port, keepalive=keep_alive_s, **more)
        self.paho.loop_start()
        reason, is_present = self._connack.get(timeout=WITHIN_S)
        return reason.value, is_present

    def subscribe(self, topic_filter: str, qos: int = 0, *, identifier: int = 0) -> int:
        """Subscribe; returns SUBACK's reason code."""
        properties = None
        if identifier:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = identifier
        self.paho.subscribe(topic_filter, qos, properties=properties)
        (reason,) = self._acknowledged.get(timeout=WITHIN_S)[1]
        return reason.value

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe and wait for UNSUBACK."""
        self.paho.unsubscribe(topic_filter)
        self._acknowledged.get(timeout=WITHIN_S)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publish and wait for the end of the exchange."""
        self.paho.publish(topic, payload, qos, retain, properties).wait_for_publish(WITHIN_S)

    def message(self) -> paho.MQTTMessage:
        """The next message."""
        return self._messages.get(timeout=WITHIN_S)

    def has_message(self) -> bool:
        """Whether one has arrived that nobody took."""
        return not self._messages.empty()

    def drop(self) -> None:
        """Let the connection die without DISCONNECT."""
        cut(self.paho)
        self.paho.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


def cut(client: paho.Client) -> None:
    """End a client's connection below everything that would say goodbye: TLS, WebSocket, MQTT."""
    connection = client.socket()
    assert connection is not None
    with socket.socket(fileno=os.dup(connection.fileno())) as bare:
        bare.shutdown(socket.SHUT_RDWR)
