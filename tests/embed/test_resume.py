"""A session that goes on with another connection: what is sent again, in which order, within which window."""

from collections.abc import Callable

import pytest

from tests.embed.entering import enter
from tests.raw_client import RawClient
from tests.raw_packets import PUBACK, PUBCOMP, PUBREC, PUBREL, Property, Publication
from whimbrel.testing.background import BackgroundBroker

IN_FLIGHT, QUEUED, WINDOW = 20, 5, 3
SESSION_FOR_A_MINUTE = {Property.SESSION_EXPIRY_INTERVAL: 60}


def settle_qos_1(client: RawClient, publication: Publication) -> list[Publication]:
    client.acknowledge(PUBACK, publication.packet_id)
    return client.published_so_far()


def settle_qos_2(client: RawClient, publication: Publication) -> list[Publication]:
    client.acknowledge(PUBREC, publication.packet_id)
    assert client.expect(PUBREL).packet_id == publication.packet_id
    client.acknowledge(PUBCOMP, publication.packet_id)
    return client.published_so_far()


@pytest.mark.parametrize(("qos", "settle"), [(1, settle_qos_1), (2, settle_qos_2)])
def test_a_resumed_session_is_sent_again_in_order_within_a_smaller_receive_maximum(
    whimbrel_broker: BackgroundBroker, qos: int, settle: Callable[[RawClient, Publication], list[Publication]]
) -> None:
    with enter(whimbrel_broker, "c1", properties=SESSION_FOR_A_MINUTE) as first:
        first.subscribe("t", qos=qos)
        publish_numbers(whimbrel_broker, range(IN_FLIGHT))
        assert len(first.published_so_far()) == IN_FLIGHT
    publish_numbers(whimbrel_broker, range(IN_FLIGHT, IN_FLIGHT + QUEUED))
    smaller = SESSION_FOR_A_MINUTE | {Property.RECEIVE_MAXIMUM: WINDOW}
    with enter(whimbrel_broker, "c1", clean=False, properties=smaller) as resumed:
        received = unsettled = resumed.published_so_far()
        while unsettled:
            assert len(unsettled) <= WINDOW
            # What the acknowledgement makes room for may come behind the answer to the ping.
            new = settle(resumed, unsettled[0]) + resumed.published_so_far()
            received, unsettled = received + new, unsettled[1:] + new
    assert [int(one.payload) for one in received] == list(range(IN_FLIGHT + QUEUED))
    assert [one.dup for one in received] == [True] * IN_FLIGHT + [False] * QUEUED


def publish_numbers(broker: BackgroundBroker, numbers: range) -> None:
    for number in numbers:
        broker.publish("t", str(number), qos=2)


def test_a_pubrel_that_was_not_answered_is_sent_again(whimbrel_broker: BackgroundBroker) -> None:
    with enter(whimbrel_broker, "c1", properties=SESSION_FOR_A_MINUTE) as first:
        first.subscribe("t", qos=2)
        publish_numbers(whimbrel_broker, range(1))
        packet_id = first.publication().packet_id
        first.acknowledge(PUBREC, packet_id)
        first.expect(PUBREL)
    with enter(whimbrel_broker, "c1", clean=False, properties=SESSION_FOR_A_MINUTE) as resumed:
        assert resumed.expect(PUBREL).packet_id == packet_id
        resumed.acknowledge(PUBCOMP, packet_id)
        assert resumed.sent_so_far() == []


def test_a_replay_of_retained_messages_goes_on_in_the_next_connection(whimbrel_broker: BackgroundBroker) -> None:
    names = [f"r/{number:02}" for number in range(50)]
    for name in names:
        whimbrel_broker.publish(name, "x", qos=1, retain=True)
    narrow = SESSION_FOR_A_MINUTE | {Property.RECEIVE_MAXIMUM: WINDOW}
    with enter(whimbrel_broker, "c1", properties=narrow) as first:
        first.subscribe("r/#", qos=1)
        assert [first.publication().topic for _ in range(WINDOW)] == names[:WINDOW]
    with enter(whimbrel_broker, "c1", clean=False, properties=SESSION_FOR_A_MINUTE) as resumed:
        for name in names:
            publication = resumed.publication()
            assert publication.topic == name
            resumed.acknowledge(PUBACK, publication.packet_id)
        assert resumed.sent_so_far() == []
