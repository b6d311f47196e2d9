"""Shared subscriptions of an embedded broker with four workers: every message reaches one member, whoever goes.

Knows what raw clients see on the wire; they acknowledge only what a test tells them to.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import PUBLISH, RawClient
from tests.waiting import until
from whimbrel import Allow, Deny

WORKERS = 4
WINDOW = 4
GROUP = "$share/g/jobs/+"


@pytest.fixture
async def broker() -> AsyncIterator[whimbrel.Broker]:
    """A broker whose members may hold four messages each."""
    async with whimbrel.Broker({"workers": WORKERS, "mqtt.max_inflight": WINDOW}) as running:
        yield running


async def publish(broker: whimbrel.Broker, numbers: Iterable[int], *, qos: int = 1) -> None:
    """Messages that are their numbers, in order, to one topic."""
    for number in numbers:
        assert await broker.publish("jobs/a", str(number), qos=qos) == 1


def taken(client: RawClient) -> tuple[int, int]:
    """The next message, which must be of QoS 1: its packet identifier and its number. It is not acknowledged."""
    packet = client.expect(PUBLISH)
    assert packet.flags & 0x06 == 2
    end = 2 + int.from_bytes(packet.body[:2])
    body = packet.body[end + 2 :]
    return int.from_bytes(packet.body[end : end + 2]), int(body[1:] if client.level == 5 else body)


def acknowledge(client: RawClient, packet_id: int) -> None:
    client.send(0x40, struct.pack("!H", packet_id))


def drained(client: RawClient, count: int) -> list[int]:
    """The numbers of so many messages, each acknowledged as it comes."""
    numbers = []
    for _ in range(count):
        packet_id, number = taken(client)
        acknowledge(client, packet_id)
        numbers.append(number)
    return numbers


async def member(broker: whimbrel.Broker, stack: AsyncExitStack, client_id: str, *, clean: bool = True) -> RawClient:
    """A member of the group, of MQTT 3.1.1; its session stays where `clean` is false."""
    client = await asyncio.to_thread(RawClient, (broker.host, broker.port), level=4)
    stack.callback(client.close)
    code, _ = await asyncio.to_thread(client.connect, client_id, clean=clean)
    assert code == 0
    assert await asyncio.to_thread(client.subscribe, GROUP, qos=1) == 1
    return client


async def until_connected(broker: whimbrel.Broker, count: int) -> None:
    await until(lambda: broker.counters()["connections.count"] == count)


async def test_members_share_evenly_and_each_hears_in_order(broker: whimbrel.Broker) -> None:
    async with AsyncExitStack() as stack:
        members = [await member(broker, stack, f"m{number}") for number in range(WINDOW)]
        assert broker.counters()["subscriptions.shared.count"] == len(members)
        await publish(broker, range(4 * len(members)))
        parts = [await asyncio.to_thread(drained, client, 4) for client in members]
    assert all(part == sorted(part) for part in parts)
    assert sorted(number for part in parts for number in part) == list(range(16))


async def test_a_member_that_is_away_strands_nothing(broker: whimbrel.Broker) -> None:
    async with AsyncExitStack() as stack:
        away = await member(broker, stack, "away", clean=False)
        away.close()
        await until_connected(broker, 0)
        await publish(broker, range(20))
        here = await member(broker, stack, "here")
        assert await asyncio.to_thread(drained, here, 20) == list(range(20))
        await publish(broker, range(20, 30))
        assert await asyncio.to_thread(drained, here, 10) == list(range(20, 30))


async def test_a_member_that_is_full_is_passed_over(broker: whimbrel.Broker) -> None:
    async with AsyncExitStack() as stack:
        full = await member(broker, stack, "full")
        await publish(broker, range(WINDOW))
        held = [await asyncio.to_thread(taken, full) for _ in range(WINDOW)]
        assert [number for _, number in held] == list(range(WINDOW))
        here = await member(broker, stack, "here")
        for number in range(10, 30):
            await publish(broker, [number])
            assert await asyncio.to_thread(drained, here, 1) == [number]


@pytest.mark.parametrize("clean", [True, False], ids=["session ends", "session stays"])
async def test_what_a_member_leaves_unacknowledged_arrives_at_the_rest(broker: whimbrel.Broker, clean: bool) -> None:
    async with AsyncExitStack() as stack:
        leaver = await member(broker, stack, "leaver", clean=clean)
        await publish(broker, range(10))
        first, _ = await asyncio.to_thread(taken, leaver)
        await asyncio.to_thread(acknowledge, leaver, first)
        assert [(await asyncio.to_thread(taken, leaver))[1] for _ in range(WINDOW)] == [1, 2, 3, 4]
        here = await member(broker, stack, "here")
        leaver.close()
        assert await asyncio.to_thread(drained, here, 9) == list(range(1, 10))
    assert broker.counters()["delivery.dropped"] == 0


async def test_a_group_without_members_is_nobody(broker: whimbrel.Broker) -> None:
    async with AsyncExitStack() as stack:
        await member(broker, stack, "m")
    await until(lambda: broker.counters()["subscriptions.shared.count"] == 0)
    assert await broker.publish("jobs/a", "") == 0


async def test_an_authorize_hook_is_asked_about_the_filter_without_its_group() -> None:
    asked: list[str] = []
    async with whimbrel.Broker() as broker:

        @broker.hook.authorize
        async def no_secrets(question: Any) -> Any:
            asked.extend(question.topics)
            return Deny() if question.topics[0].startswith("secret/") else Allow()

        async with entered(broker, "c1") as (client,):
            assert await asyncio.to_thread(client.subscribe, "$share/g/secret/#") == 0x87
            assert await asyncio.to_thread(client.subscribe, "$queue/open") == 0
    assert asked == ["secret/#", "open"]


async def test_shared_subscriptions_can_be_off() -> None:
    async with whimbrel.Broker({"mqtt.shared_subscription": False}) as broker, entered(broker, "c1") as (client,):
        assert await asyncio.to_thread(client.subscribe, GROUP) == 0x9E


async def test_the_strategy_is_a_setting() -> None:
    settings = {"mqtt.shared_subscription_strategy": "sticky", "mqtt.max_inflight": 100}
    async with whimbrel.Broker(settings) as broker, AsyncExitStack() as stack:
        clients = [await member(broker, stack, f"m{number}") for number in range(3)]
        await publish(broker, range(30))
        await until(lambda: broker.counters()["messages.delivered"] == 30)
        heard = [client for client in clients if client.hears_within(0)]
        assert len(heard) == 1
        assert await asyncio.to_thread(drained, heard[0], 30) == list(range(30))
