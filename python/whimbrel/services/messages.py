"""Publishing from inside the broker. Runs on the engine's loop."""

from collections.abc import Iterable
from typing import Final

from whimbrel.engine.engine import Engine

# The largest remaining length (MQTT 5.0, section 1.5.5), less room for a topic and properties of 64 KiB each.
PAYLOAD_BYTES_MAX: Final = 268_435_455 - 2 * 65_536


class Messages:
    """Messages that programs publish without a client of their own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def publish(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str,
        *,
        qos: int = 0,
        retain: bool = False,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Route one message; text is sent as UTF-8. Returns how many sessions and taps of this node took it.

        Raises ValueError for an invalid topic or QoS and for more than a packet can carry, EngineError where the broker
        has stopped, or must store the message and cannot.
        """
        if qos not in (0, 1, 2):
            raise ValueError(f"qos is {qos!r}; it is 0, 1 or 2")
        octets = payload.encode() if isinstance(payload, str) else bytes(payload)
        if len(octets) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"the payload has {len(octets):,} bytes; at most {PAYLOAD_BYTES_MAX:,} fit into a packet")
        return await self._engine.publish(topic, octets, qos=qos, retain=retain, user_properties=user_properties)
