"""paho-mqtt in the words of the matrix."""

from typing import Literal

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from tests.wire.clients import paho_properties
from tests.wire.clients.adapter import Connected, Door, Message, Opening
from tests.wire.clients.tls import context_of
from tests.wire.paho_client import V5, PahoClient

TRANSPORTS: dict[str, Literal["tcp", "websockets", "unix"]] = {"ws": "websockets", "wss": "websockets", "unix": "unix"}


class PahoAdapter:
    """Needs nothing of its own: each connection has its thread."""

    def open(self, door: Door, version: int, opening: Opening) -> Connected:
        return _Connection(door, MQTTProtocolVersion(version), opening)

    def end(self) -> None:
        pass


class _Connection:
    def __init__(self, door: Door, version: MQTTProtocolVersion, opening: Opening) -> None:
        transport = TRANSPORTS.get(door.transport, "tcp")
        self._client = PahoClient(opening.client_id, version, clean=opening.clean, transport=transport)
        self._topics: dict[int, str] = {}
        context = context_of(door)
        if context is not None:
            self._client.paho.tls_set_context(context)
        if opening.will is not None:
            self._will(opening.will)
        # paho wants a port for a Unix socket, too.
        properties = paho_properties.of_connect(opening) if version == V5 else None
        code, present = self._client.connect(door.place or door.host, door.port or 1, properties=properties)
        assert code == 0
        self.session_present: bool | None = present

    def _will(self, will: Message) -> None:
        is_new = self._client.version == V5
        properties = paho_properties.of_message(will.properties, PacketTypes.WILLMESSAGE) if is_new else None
        self._client.paho.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def subscribe(self, topic_filter: str, qos: int, *, identifier: int = 0) -> int:
        return self._client.subscribe(topic_filter, qos, identifier=identifier)

    def publish(self, message: Message) -> None:
        properties = paho_properties.of_message(message.properties) if self._client.version == V5 else None
        more = {"qos": message.qos, "retain": message.retain, "properties": properties}
        self._client.publish(message.topic, message.payload, **more)  # type: ignore[arg-type]

    def repeat(self, message: Message, times: int) -> None:
        for number in range(times):
            topic = "" if number else message.topic
            self.publish(Message(topic, message.payload, message.qos, message.retain, message.properties))

    def receive(self) -> Message:
        got = self._client.message()
        properties = paho_properties.received(got.properties)
        # paho hands over an alias and leaves the table to its user.
        topic = got.topic or self._topics[properties.topic_alias or 0]
        if properties.topic_alias is not None:
            self._topics[properties.topic_alias] = topic
        return Message(topic, bytes(got.payload), got.qos, got.retain, properties)

    def close(self) -> None:
        self._client.__exit__(None, None, None)

    def drop(self) -> None:
        self._client.drop()
