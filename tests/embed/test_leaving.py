"""The end of a connection: which packet is the last one, and whom it reaches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import RawClient
from tests.raw_packets import DISCONNECT, PINGREQ, PUBLISH, publish

SERVER_SHUTTING_DOWN = 0x8B
# Two hundred of them are more than the kernel's buffers of one connection hold.
BULK = bytes(200_000)


async def fill(broker: whimbrel.Broker, topic: str, client_id: str) -> None:
    """Publish until bytes for this client wait in the broker, because its socket takes no more."""
    for _ in range(200):
        await broker.publish(topic, BULK)
        if any(one.client_id == client_id and one.outbox_bytes for one in await broker.clients()):
            return
    raise AssertionError(f"{client_id} does not read, and yet nothing waits for it")


@asynccontextmanager
async def stopping_with_a_slow_client(broker: whimbrel.Broker) -> AsyncIterator[tuple[RawClient, RawClient]]:
    """A slow client for which bytes wait and a quick one, while the broker stops and both have been told."""
    with RawClient((broker.host, broker.port), level=5, receive_buffer_bytes=4096) as slow:
        await asyncio.to_thread(slow.connect, "slow")
        await asyncio.to_thread(slow.subscribe_all, [("bulk", 0)])
        async with entered(broker, "quick") as (quick,):
            await fill(broker, "bulk", "slow")
            stopping = asyncio.create_task(broker.stop())
            # Everybody is told in one turn. The slow one keeps its connection until it has read, or the grace is over.
            assert (await asyncio.to_thread(quick.expect, DISCONNECT)).reason == SERVER_SHUTTING_DOWN
            yield slow, quick
            await stopping


async def test_after_the_brokers_disconnect_a_client_gets_nothing_more(broker: whimbrel.Broker) -> None:
    async with stopping_with_a_slow_client(broker) as (slow, quick):
        quick.send_octets(PINGREQ + publish("a", b"x", level=5, qos=1))
        assert await asyncio.to_thread(quick.until_closed) == []
        assert (await asyncio.to_thread(slow.until_closed))[-1].reason == SERVER_SHUTTING_DOWN


async def test_a_slow_client_that_still_sends_reads_everything_up_to_the_brokers_disconnect(
    broker: whimbrel.Broker,
) -> None:
    async with stopping_with_a_slow_client(broker) as (slow, _):
        slow.send_octets(PINGREQ + publish("a", b"x", level=5, qos=1))
        packets = await asyncio.to_thread(slow.until_closed)
    assert not slow.was_reset
    assert [packet.kind for packet in packets[-2:]] == [PUBLISH, DISCONNECT]
