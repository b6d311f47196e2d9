"""aiomqtt in the words of the matrix: a loop on a thread of its own, and every call waits for a coroutine in it."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes

from tests.waiting import WITHIN_S
from tests.wire.clients import paho_properties
from tests.wire.clients.adapter import Connected, Door, Message, Opening
from tests.wire.clients.paho_adapter import TRANSPORTS
from tests.wire.clients.tls import context_of
from tests.wire.paho_client import cut

ResultT = TypeVar("ResultT")


class AiomqttAdapter:
    """Owns the loop and its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def open(self, door: Door, version: int, opening: Opening) -> Connected:
        return _Connection(self, door, version, opening)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """What the coroutine returns, with a bound."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, WITHIN_S), self._loop).result()


class _Connection:
    # aiomqtt does not tell it.
    session_present: bool | None = None

    def __init__(self, adapter: AiomqttAdapter, door: Door, version: int, opening: Opening) -> None:
        self._run = adapter.run
        self._is_new = version == 5
        self._client = self._run(self._entered(door, version, opening))

    async def _entered(self, door: Door, version: int, opening: Opening) -> aiomqtt.Client:
        client = aiomqtt.Client(
            door.place or door.host,
            door.port or 1,
            identifier=opening.client_id,
            protocol=aiomqtt.ProtocolVersion(version),
            transport=TRANSPORTS.get(door.transport, "tcp"),
            clean_session=None if self._is_new else opening.clean,
            clean_start=opening.clean if self._is_new else MQTT_CLEAN_START_FIRST_ONLY,
            properties=paho_properties.of_connect(opening) if self._is_new else None,
            tls_context=context_of(door),
            will=None if opening.will is None else self._will(opening.will),
        )
        return await client.__aenter__()

    def _will(self, will: Message) -> aiomqtt.Will:
        properties = paho_properties.of_message(will.properties, PacketTypes.WILLMESSAGE) if self._is_new else None
        return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)

    def subscribe(self, topic_filter: str, qos: int, *, identifier: int = 0) -> int:
        properties = paho_properties.of_subscribe(identifier) if self._is_new else None
        (code,) = self._run(self._client.subscribe(topic_filter, qos, properties=properties))
        return code if isinstance(code, int) else code.value

    def publish(self, message: Message) -> None:
        properties = paho_properties.of_message(message.properties) if self._is_new else None
        more = {"qos": message.qos, "retain": message.retain, "properties": properties}
        self._run(self._client.publish(message.topic, message.payload, **more))  # type: ignore[arg-type]

    def repeat(self, message: Message, times: int) -> None:
        for number in range(times):
            topic = "" if number else message.topic
            self.publish(Message(topic, message.payload, message.qos, message.retain, message.properties))

    def receive(self) -> Message:
        got = self._run(anext(self._client.messages))
        assert isinstance(got.payload, bytes)
        return Message(str(got.topic), got.payload, got.qos, got.retain, paho_properties.received(got.properties))

    def close(self) -> None:
        self._run(self._client.__aexit__(None, None, None))

    def drop(self) -> None:
        cut(self._client._client)
        with contextlib.suppress(aiomqtt.MqttError):
            self.close()
