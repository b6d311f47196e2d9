"""Bounds that a client meets: how much it may ask for, send and leave unanswered, and for how long."""

import pytest

from tests.embed.entering import enter
from tests.raw_client import RawClient
from tests.raw_packets import (
    CONNACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    acknowledgement,
    connect,
    packet,
    publish,
    text,
    varint,
)
from whimbrel.testing.background import BackgroundBroker

NO_MATCHING_SUBSCRIBERS, RECEIVE_MAXIMUM_EXCEEDED, QUOTA_EXCEEDED = 0x10, 0x93, 0x97
BURST = 3_000
OPENING_MAX = 256 * 1024


def burst(count: int, *, level: int) -> bytes:
    """So many QoS 2 messages, numbered from 1 like their packet identifiers."""
    numbers = range(1, count + 1)
    return b"".join(publish("t", b"%d" % number, level=level, qos=2, packet_id=number) for number in numbers)


def test_a_3_1_1_client_may_send_thousands_of_qos_2_messages_before_it_reads(whimbrel_broker: BackgroundBroker) -> None:
    identifiers = list(range(1, BURST + 1))
    with enter(whimbrel_broker, "sub", level=4) as subscriber, enter(whimbrel_broker, "pub", level=4) as publisher:
        subscriber.subscribe("t")
        publisher.send_octets(burst(BURST, level=4))
        assert [publisher.expect(PUBREC).packet_id for _ in identifiers] == identifiers
        publisher.send_octets(b"".join(acknowledgement(PUBREL, one) for one in identifiers))
        assert [publisher.expect(PUBCOMP).packet_id for _ in identifiers] == identifiers
        assert [int(one.payload) for one in subscriber.published_so_far()] == identifiers


@pytest.mark.parametrize(
    ("settings", "granted"),
    [
        pytest.param({}, 1024, id="default"),
        pytest.param({"mqtt.receive_maximum": 10, "mqtt.max_awaiting_rel": 10}, 10, id="both-lowered"),
        pytest.param({"mqtt.receive_maximum": 10}, 10, id="lowered"),
    ],
)
def test_an_mqtt_5_client_beyond_the_granted_receive_maximum_is_disconnected(
    settings: dict[str, object], granted: int
) -> None:
    with BackgroundBroker(settings) as broker, enter(broker, "c1") as client:
        client.send_octets(burst(granted + 1, level=5))
        assert [client.expect(PUBREC).reason for _ in range(granted)] == [NO_MATCHING_SUBSCRIBERS] * granted
        assert client.farewell() == RECEIVE_MAXIMUM_EXCEEDED


@pytest.mark.parametrize(("level", "refused"), [(4, 0x80), (5, QUOTA_EXCEEDED)])
def test_max_subscriptions_holds_within_one_packet(level: int, refused: int) -> None:
    filters = [(f"a/{number}", 1) for number in range(12)]
    with BackgroundBroker({"mqtt.max_subscriptions": 10}) as broker, enter(broker, "c1", level=level) as client:
        assert client.subscribe_all(filters) == [1] * 10 + [refused] * 2
        assert client.subscribe_all([filters[0], filters[11]]) == [1, refused]
        (record,) = broker.clients()
    assert record.subscriptions == 10


def test_filters_that_a_session_has_already_take_no_place_a_second_time() -> None:
    filters = [(f"a/{number}", 1) for number in range(8)]
    with BackgroundBroker({"mqtt.max_subscriptions": 10}) as broker, enter(broker, "c1") as client:
        assert client.subscribe_all(filters[:5]) == [1] * 5
        assert client.subscribe_all(filters) == [1] * 8


def test_the_idle_timeout_runs_from_accept_whatever_bytes_come() -> None:
    octets = connect("c" * 200, level=4)
    # Real time: the shortest timeout there is. An octet every 5 ms keeps the connection busy for a second.
    with BackgroundBroker({"mqtt.idle_timeout": "100ms"}) as broker, RawClient((broker.host, broker.port)) as slow:
        sent = 0
        while sent < len(octets) - 1 and not slow.hears_within(0.005):
            slow.send_octets(octets[sent : sent + 1])
            sent += 1
        assert slow.packet() is None
        assert sent < len(octets) - 1


def connect_of(size: int) -> bytes:
    """A CONNECT of MQTT 5 with `size` octets in all, most of them in five user properties."""
    octets = size - 20
    lengths = [octets // 5] * 4 + [octets - octets // 5 * 4]
    section = b"".join(b"\x26\x00\x00" + text("x" * (length - 5)) for length in lengths)
    whole = packet(0x10, text("MQTT") + b"\x05\x02\x00\x00" + varint(octets) + section + text("c"))
    assert len(whole) == size
    return whole


def test_a_packet_before_connack_may_have_256_kib(whimbrel_broker: BackgroundBroker) -> None:
    with RawClient((whimbrel_broker.host, whimbrel_broker.port), level=5) as client:
        client.send_octets(connect_of(OPENING_MAX))
        assert client.expect(CONNACK).reason == 0


def test_a_larger_packet_before_connack_is_refused_as_soon_as_its_length_is_known(
    whimbrel_broker: BackgroundBroker,
) -> None:
    with RawClient((whimbrel_broker.host, whimbrel_broker.port), level=5) as greedy:
        greedy.send_octets(connect_of(OPENING_MAX + 1)[:100])
        assert greedy.packet() is None
