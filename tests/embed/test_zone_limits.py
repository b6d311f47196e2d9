"""Limits as an operator writes them, seen from a client: each one holds, is told where MQTT has words, is counted."""

import asyncio
import time

import whimbrel
from tests.embed.entering import entered


async def test_a_publisher_above_its_rate_waits_and_loses_nothing() -> None:
    async with (
        whimbrel.Broker({"mqtt.max_publish_rate": 100}) as broker,
        entered(broker, "fast", "slow") as (fast, slow),
    ):
        assert await asyncio.to_thread(slow.subscribe, "t") == 0
        began = time.monotonic()
        for number in range(130):
            fast.publish("t", b"%d" % number)
        arrived = [await asyncio.to_thread(slow.message) for _ in range(130)]
        assert time.monotonic() - began >= 0.29
        assert arrived == [("t", b"%d" % number) for number in range(130)]
        assert broker.counters()["whimbrel.connections.paced"] > 0
