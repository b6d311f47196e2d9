"""Attacks with names: deep topics, filters that match everywhere, names that collide, aliases, identifiers, properties.

Knows the limits that it runs against. How colliding names are made is `collisions`'.
"""

import itertools
import time
from collections.abc import Sequence

from tests import raw_packets
from tests.abuse import collisions
from tests.abuse.attack import Attack, Target, publish_all, subscribe_many, swallow
from tests.raw_client import DISCONNECT, PUBACK, PUBLISH
from tests.raw_packets import PUBREC, Property, packet, text, varint

TOPIC_FILTER_INVALID, TOPIC_NAME_INVALID, TOPIC_ALIAS_INVALID = 0x8F, 0x90, 0x94
RECEIVE_MAXIMUM_EXCEEDED = 0x93
DEEP_LEVELS = 30_000
DEEP = ("mqtt.max_topic_levels=65535",)
WILD_LEVELS, WILD_LEVELS_LONG = 14, 16
WIDE = ("mqtt.max_inflight=65535", "mqtt.max_mqueue_len=1000")
IDENTIFIERS = 65_535
AWAITING = 1024
PROPERTY = b"\x26" + text("a") + text("b")
PROPERTIES_BYTES = 900_000
NAMES = 8_192
# Names that all fall into one bucket make a table some hundred times slower.
SLOWER_MAX = 5.0


def deep_refused(target: Target) -> None:
    """30,000 levels where 128 are allowed, as filter, topic, and topic of a retained message."""
    deep = "/".join("d" * DEEP_LEVELS)
    for number in range(10 * target.scale):
        with target.entered(f"deep-{number}") as client:
            assert client.subscribe(deep) == TOPIC_FILTER_INVALID
            assert client.subscribe(deep + "/#") == TOPIC_FILTER_INVALID
            client.publish(deep, b"x", qos=1, retain=bool(number % 2))
            answer = client.packet()
            assert answer is not None, "the broker closed without a word"
            assert (answer.kind, answer.reason) in [(PUBACK, TOPIC_NAME_INVALID), (DISCONNECT, TOPIC_NAME_INVALID)]


def deep_allowed(target: Target) -> None:
    """30,000 levels where the operator allows them: filters, topics, retained messages."""
    stem = "/".join("d" * (DEEP_LEVELS - 1))
    with target.entered("deep") as client:
        for number in range(20 * target.scale):
            assert client.subscribe(f"{stem}/{number}") == 0
            assert client.subscribe(f"{number}/{'+/' * (DEEP_LEVELS - 2)}#") == 0
        for retain_payload in (b"x", b""):
            publish_all(client, [(f"0/{stem[2:]}", retain_payload)] * 20, qos=0, retain=True)
        assert {one.kind for one in client.sent_so_far()} == {PUBLISH}


def wild_filters(target: Target) -> None:
    """Every way to write a topic with `+`: a publish meets them all, or goes a long way with all for nothing."""
    words = ["w"] * (WILD_LEVELS if target.scale == 1 else WILD_LEVELS_LONG)
    combinations = itertools.product(*((word, "+") for word in words))
    with target.entered("wild") as client, target.entered("beast") as publisher:
        subscribe_many(client, ("/".join(one) for one in combinations))
        for number in range(20):
            # Other last levels: no cache helps, and no filter matches.
            publish_all(publisher, [("/".join([*words[1:], f"n{number}"]), b"x"), ("/".join(words), b"x")])
    long_way(target, len(words) - 2)


def long_way(target: Target, levels: int) -> None:
    """The same, with a hundred levels more behind each, which match up to the last but one."""
    ends = "/".join("e" * 100)
    combinations = itertools.product(*((word, "+") for word in ["w"] * levels))
    with target.entered("wild") as client, target.entered("beast") as publisher:
        subscribe_many(client, (f"{'/'.join(one)}/{ends}" for one in combinations), size=2_000)
        stem = f"{'/'.join(['w'] * levels)}/{ends[:-1]}"
        publish_all(publisher, ((f"{stem}{number}", b"x") for number in range(50)))


def aliases(target: Target) -> None:
    """Numbers that were not offered, that were never set, and the longest topics under all that were."""
    for number in range(5 * target.scale):
        for alias, topic in ((0, "a"), (65, "a"), (1, "")):
            with target.entered(f"alias-{number}") as client:
                client.send_octets(aliased(topic, alias))
                assert client.farewell() in (TOPIC_ALIAS_INVALID, 0x82), (alias, topic)
        with target.entered(f"long-{number}") as client:
            for alias in range(1, 65):
                client.send_octets(aliased("a" * 65_535, alias))
            client.sent_so_far()


def aliased(topic: str, alias: int) -> bytes:
    """PUBLISH with a Topic Alias."""
    return packet(0x30, text(topic) + b"\x03\x23" + alias.to_bytes(2))


def identifiers(target: Target) -> None:
    """Every packet identifier in use towards a client, and as many as it may use itself for messages never released."""
    with target.client() as holder, target.entered("giver") as giver:
        holder.connect("holder", properties={Property.RECEIVE_MAXIMUM: 65_535})
        holder.subscribe("held", qos=1)
        publish_all(giver, [("held", b"x")] * (IDENTIFIERS + 2_000))
        held = [holder.publication().packet_id for _ in range(IDENTIFIERS)]
        assert sorted(held) == list(range(1, IDENTIFIERS + 1))
        holder.send_octets(b"".join(raw_packets.acknowledgement(PUBACK, number) for number in held[:1_000]))
        assert {holder.publication().packet_id for _ in range(1_000)} == set(held[:1_000])
    with target.entered("hoarder") as client:
        for number in range(1, AWAITING + 2):
            client.publish("hoard", b"x", qos=2, packet_id=number)
        packets = client.until_closed()
        assert [one.kind for one in packets] == [PUBREC] * AWAITING + [DISCONNECT]
        assert packets[-1].reason == RECEIVE_MAXIMUM_EXCEEDED


def properties(target: Target) -> None:
    """As many user properties as a packet holds: to a subscriber, in SUBSCRIBE, in DISCONNECT, and in CONNECT."""
    section = PROPERTY * (PROPERTIES_BYTES // len(PROPERTY))
    section = varint(len(section)) + section
    with target.entered("reader") as reader, target.entered("bomber") as bomber:
        reader.subscribe("bombs", qos=1)
        for _ in range(5 * target.scale):
            bomber.send(0x32, text("bombs") + b"\0\1" + section + b"x")
            assert bomber.expect(PUBACK).reason == 0
            body = reader.expect(PUBLISH).body
            assert len(body) > PROPERTIES_BYTES
            reader.acknowledge(PUBACK, int.from_bytes(body[7:9]))  # Behind the topic "bombs".
            bomber.send(0x82, b"\0\1" + section + text("more") + b"\0")
            bomber.expect(9)
        bomber.send(0xE0, b"\0" + section)
        bomber.until_closed()
    for _ in range(5 * target.scale):
        with target.crowd(1) as (connection,):
            assert swallow(connection, packet(0x10, text("MQTT") + b"\x05\x02\0\0" + section + text("bomb"))) == b""


def colliding(target: Target) -> None:
    """Topics, filters and client ids that collide under hashes without a key cost what others cost."""
    plain = collisions.plain(NAMES)
    for kind, names in collisions.kinds(NAMES):
        usual_s = min(costs(target, [one.ljust(len(names[0]), "x") for one in plain]) for _ in range(2))
        aimed_s = min(costs(target, names) for _ in range(2))
        assert aimed_s < SLOWER_MAX * usual_s, f"{kind}: {aimed_s:.2f} s instead of {usual_s:.2f} s"


def costs(target: Target, names: Sequence[str]) -> float:
    """Seconds for subscribing to all names, publishing to them, and entering under some of them."""
    began = time.monotonic()
    with target.entered("collector") as collector, target.entered("collider") as publisher:
        subscribe_many(collector, names, size=2_000)
        publish_all(publisher, ((one, b"x") for one in names), qos=0)
        publisher.sent_so_far()
        for name in names[:200]:
            with target.entered(name):
                pass
    return time.monotonic() - began


ATTACKS: Sequence[Attack] = (
    Attack("30,000 levels, refused", deep_refused, moved={"packets.subscribe.error": 20}),
    Attack("30,000 levels, allowed", deep_allowed, DEEP),
    Attack("wildcards everywhere", wild_filters, slow_scale=4),
    Attack("topic aliases", aliases),
    Attack("packet identifiers", identifiers, WIDE, moved={"delivery.dropped.queue_full": 900}, slow_scale=0),
    Attack("user properties", properties),
    Attack("names that collide", colliding, slow_scale=2),
)
