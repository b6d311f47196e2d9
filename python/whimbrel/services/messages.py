"""Publishing from inside the broker. Runs on the engine's loop."""

from collections.abc import Iterable

from whimbrel.engine.engine import Engine


class Messages:
    """Messages that programs publish without a client of their own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Route one message; text is sent as UTF-8. Returns how many sessions and taps of this node took it.

        Raises ValueError for an invalid topic or QoS, EngineError where the broker has stopped.
        """
        octets = payload.encode() if isinstance(payload, str) else payload
        return await self._engine.publish(topic, octets, qos=qos, retain=retain, user_properties=user_properties)
