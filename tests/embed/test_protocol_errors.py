"""What a client must not send, and the reason it reads before the connection ends (MQTT 5.0, section 4.13)."""

import asyncio
import threading
from typing import Any

import pytest

from tests.embed.entering import enter
from tests.raw_client import CONNACK, RawClient
from tests.raw_packets import PINGREQ, Property, Will, connect, disconnect, publish, subscribe
from tests.waiting import wait_until
from whimbrel import Deny
from whimbrel.testing.background import BackgroundBroker

MALFORMED, PROTOCOL_ERROR, NOT_AUTHORIZED, PACKET_TOO_LARGE = 0x81, 0x82, 0x87, 0x95


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param(
            publish("a", b"", level=5, properties={Property.SUBSCRIPTION_IDENTIFIER: 7}),
            PROTOCOL_ERROR,
            id="subscription-identifier-of-a-client",
        ),
        pytest.param(
            publish("a", b"", level=5, properties={Property.RESPONSE_TOPIC: "a/#"}),
            PROTOCOL_ERROR,
            id="response-topic-with-hash",
        ),
        pytest.param(
            publish("a", b"", level=5, properties={Property.RESPONSE_TOPIC: "a/+/b"}),
            PROTOCOL_ERROR,
            id="response-topic-with-plus",
        ),
        pytest.param(
            publish("a", b"", level=5, properties={Property.MAXIMUM_QOS: 1}), MALFORMED, id="misplaced-in-publish"
        ),
        pytest.param(
            subscribe([("a", 0)], level=5, properties={Property.MESSAGE_EXPIRY_INTERVAL: 1}),
            MALFORMED,
            id="misplaced-in-subscribe",
        ),
        pytest.param(
            disconnect(level=5, properties={Property.RECEIVE_MAXIMUM: 1}), MALFORMED, id="misplaced-in-disconnect"
        ),
    ],
)
def test_a_connected_client_is_told_its_mistake(whimbrel_broker: BackgroundBroker, octets: bytes, reason: int) -> None:
    with enter(whimbrel_broker, "c1") as client:
        client.send_octets(octets)
        assert client.farewell() == reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param({"properties": {Property.AUTHENTICATION_DATA: b"x"}}, PROTOCOL_ERROR, id="data-without-method"),
        pytest.param(
            {"will": Will("w", properties={Property.RESPONSE_TOPIC: "a/#"})}, PROTOCOL_ERROR, id="will-response-topic"
        ),
    ],
)
def test_a_client_that_asks_for_nonsense_in_connect_is_told_in_connack(
    whimbrel_broker: BackgroundBroker, arguments: dict[str, Any], reason: int
) -> None:
    with RawClient((whimbrel_broker.host, whimbrel_broker.port), level=5) as client:
        assert client.connect("c1", **arguments) == (reason, False)
        assert client.packet() is None


def test_a_client_reads_why_it_had_to_go_although_it_had_sent_more() -> None:
    with BackgroundBroker({"mqtt.max_packet_size": "1KB"}) as broker, enter(broker, "c1") as client:
        client.send_octets(publish("a", bytes(100_000), level=5) + PINGREQ)
        assert client.farewell() == PACKET_TOO_LARGE
        assert not client.was_reset


def test_a_refused_client_reads_why_although_the_broker_has_not_read_all_it_sent() -> None:
    asked = []
    answers = threading.Event()

    async def deny_late(question: Any) -> Any:
        asked.append(question)
        await asyncio.to_thread(answers.wait, 10)
        return Deny()

    with (
        BackgroundBroker(hooks={"authenticate": deny_late}) as broker,
        RawClient((broker.host, broker.port), level=5) as client,
    ):
        client.send_octets(connect("c1", level=5))
        # A client that waits for an answer is not read, so what follows lies in the kernel when the answer comes.
        wait_until(lambda: asked)
        client.send_octets(PINGREQ * 10_000)
        answers.set()
        assert client.expect(CONNACK).reason == NOT_AUTHORIZED
        assert client.packet() is None
        assert not client.was_reset
