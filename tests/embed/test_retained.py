"""Retained messages on the wire: all of them arrive, however slowly they are taken, and none is older than one seen."""

import asyncio

import pytest

import whimbrel
from tests.embed.entering import enter, entered
from tests.raw_client import PUBACK, PUBLISH, RawClient
from tests.raw_packets import Property
from whimbrel.testing.background import BackgroundBroker

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


@pytest.mark.parametrize("retain_as_published", [0x00, 0x08])
def test_a_value_that_changes_during_the_replay_is_never_followed_by_an_older_one(
    whimbrel_broker: BackgroundBroker, retain_as_published: int
) -> None:
    topics = ["r/0", "r/1", "r/2", "r/3", "r/end"]
    for topic in topics:
        whimbrel_broker.publish(topic, "old", qos=1, retain=True)
    with enter(whimbrel_broker, "c1", properties={Property.RECEIVE_MAXIMUM: 1}) as client:
        client.subscribe("r/#", qos=1 | retain_as_published)
        # The replay is held up behind r/0 until that is acknowledged.
        first = client.publication()
        whimbrel_broker.publish("r/2", "new", qos=1, retain=True)
        whimbrel_broker.publish("r/3", "", qos=1, retain=True)
        seen = [(first.topic, first.payload)]
        client.acknowledge(PUBACK, first.packet_id)
        while seen[-1][0] != "r/end":
            publication = client.publication()
            seen.append((publication.topic, publication.payload))
            client.acknowledge(PUBACK, publication.packet_id)
        assert client.sent_so_far() == []
    by_topic = {topic: [payload for one, payload in seen if one == topic] for topic in topics}
    assert by_topic["r/1"] == [b"old"]
    assert set(by_topic["r/2"]) == {b"new"}
    assert by_topic["r/3"] == [b""]
