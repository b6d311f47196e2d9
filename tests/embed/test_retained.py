"""Retained messages on the wire: all of them arrive, however many there are and however slowly they are taken."""

import asyncio

import pytest

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import PUBACK, PUBLISH, RawClient

COUNT = 1_000


def received(client: RawClient, *, qos: int) -> list[bytes]:
    """Take COUNT messages, acknowledging as a client with no hurry does: one by one."""
    payloads = []
    for _ in range(COUNT):
        packet = client.expect(PUBLISH)
        assert packet.flags & 1, "a message that comes because of the subscription has its retain flag set"
        start = 2 + int.from_bytes(packet.body[:2])
        if qos:
            client.send(PUBACK << 4, packet.body[start : start + 2])
            start += 2
        payloads.append(packet.body[start:])
    return payloads


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_wildcard_subscription_gets_every_retained_message_in_the_order_of_topics(
    broker: whimbrel.Broker, qos: int
) -> None:
    names = [f"{number:04}" for number in range(COUNT)]
    await asyncio.gather(*(broker.publish(f"r/{name}", name, qos=1, retain=True) for name in names))
    async with entered(broker, "late", level=4) as (client,):
        assert await asyncio.to_thread(client.subscribe, "r/+", qos=qos) == qos
        arrived = await asyncio.to_thread(received, client, qos=qos)
    assert arrived == [name.encode() for name in names]
