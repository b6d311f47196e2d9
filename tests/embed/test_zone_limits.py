"""Limits as an operator writes them, seen from a client: each one holds, is told where MQTT has words, is counted."""

import asyncio
import time

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import PUBACK, PUBLISH, RawClient
from tests.waiting import until


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


async def absent(broker: whimbrel.Broker, client_id: str, topic_filter: str) -> None:
    """Make a session for a client that is away."""

    def come_and_go() -> None:
        with RawClient((broker.host, broker.port)) as client:
            client.connect(client_id, clean=False)
            assert client.subscribe(topic_filter, qos=1) == 1

    await asyncio.to_thread(come_and_go)
    await until(lambda: broker.counters()["connections.count"] == 0)


def taken(broker: whimbrel.Broker, client_id: str, count: int) -> list[bytes]:
    """Come back and take so many messages, each as its QoS wants it."""
    with RawClient((broker.host, broker.port)) as client:
        assert client.connect(client_id, clean=False) == (0, True)
        payloads = []
        for _ in range(count):
            packet = client.expect(PUBLISH)
            start = 2 + int.from_bytes(packet.body[:2])
            if packet.flags & 0x06:
                client.send(PUBACK << 4, packet.body[start : start + 2])
                start += 2
            payloads.append(packet.body[start:])
        return payloads


async def test_a_queue_keeps_what_the_operator_wants_kept_and_sends_the_urgent_first() -> None:
    settings = {
        "mqtt.max_mqueue_len": 3,
        "mqtt.mqueue_drop_policy": "newest",
        "mqtt.mqueue_priorities": "a/alarm=9",
        "mqtt.store_qos0": True,
    }
    async with whimbrel.Broker(settings) as broker:
        await absent(broker, "away", "a/#")
        for topic, payload, qos in (("a/1", "1", 1), ("a/2", "2", 0), ("a/3", "3", 1), ("a/alarm", "fire", 1)):
            await broker.publish(topic, payload, qos=qos)
        assert broker.counters()["delivery.dropped.queue_full"] == 1
        assert await asyncio.to_thread(taken, broker, "away", 3) == [b"fire", b"1", b"2"]


async def test_a_client_id_that_comes_and_goes_too_often_is_refused() -> None:
    async with whimbrel.Broker({"flapping.enable": True, "flapping.max_count": 2}) as broker:
        for count in (1, 2):
            async with entered(broker, "nervous"):
                pass
            await until(lambda count=count: broker.counters()["client.disconnected"] == count)  # type: ignore[misc]
        with await asyncio.to_thread(RawClient, (broker.host, broker.port), level=5) as client:
            assert await asyncio.to_thread(client.connect, "nervous") == (0x8A, False)
        await until(lambda: broker.counters()["whimbrel.flapping.refused"] == 1)
