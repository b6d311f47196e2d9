"""Attacks with bytes that are no MQTT, or nearly MQTT.

Knows one valid packet of each type and version, and how to spoil it. The dice are the target's: every run sends the
same.
"""

import random
from collections.abc import Sequence

from tests import raw_packets
from tests.abuse.attack import Attack, Target, connect_octets, swallow
from tests.raw_packets import Properties, Property, Will, packet

# Spoilt packets may ask for sessions that stay and for retained messages; nothing would take them back.
LIMITS = ("mqtt.max_session_expiry_interval=0s", "mqtt.session_expiry_interval=0s", "mqtt.retain_available=false")
CONNECTIONS = 200
MUTANTS = 500
OCTETS_MAX = 5_000
LEVELS = (3, 4, 5)


def random_octets(target: Target, before: bytes) -> None:
    """`before`, then noise; every connection must end, by the broker's order or when ours ends."""
    dice = target.dice
    for _ in range(CONNECTIONS * target.scale):
        exchange(target, before + dice.randbytes(dice.randint(1, OCTETS_MAX)))


def exchange(target: Target, octets: bytes) -> bytes:
    """Send, say that nothing more comes, and hear the broker out."""
    with target.crowd(1) as (connection,):
        return swallow(connection, octets)


def mutants(target: Target) -> None:
    """Every packet of every version, spoilt, as the first packet and behind a good CONNECT; then a good one."""
    for level in LEVELS:
        good = valid_packets(level)
        for number in range(MUTANTS * target.scale):
            spoilt = mutated(target.dice, good[number % len(good)])
            entry = b"" if number % 7 == 0 else first_packet(level, number)
            exchange(target, entry + spoilt + raw_packets.PINGREQ)
    assert exchange(target, first_packet(5, 0) + raw_packets.PINGREQ)[-2:] == b"\xd0\x00"


def first_packet(level: int, number: int) -> bytes:
    """CONNECT of one version. Level 3 has another protocol name."""
    octets = connect_octets(f"mutant-{number % 5}", level=level)
    return packet(0x10, raw_packets.text("MQIsdp") + octets[8:]) if level == 3 else octets


def valid_packets(level: int) -> list[bytes]:
    """One packet of each type that a client may send, and of those that only a server sends."""
    rich: Properties = {Property.MESSAGE_EXPIRY_INTERVAL: 30, Property.RESPONSE_TOPIC: "a/b"}
    will = Will("mutants/will", b"gone", 1, properties=rich)
    bodies = [(0x40, b"\0\1"), (0x50, b"\0\1"), (0x62, b"\0\1"), (0x70, b"\0\1"), (0xF0, b"\x18\0"), (0x20, b"\0\0")]
    return [
        raw_packets.connect("mutant", level=level, username="someone", will=will, keep_alive_s=10),
        *(raw_packets.publish("mutants/a", b"payload", level=level, qos=qos, properties=rich) for qos in (0, 1, 2)),
        raw_packets.subscribe([("mutants/+/b", 1), ("mutants/#", 2)], level=level),
        packet(0xA2, b"\0\2" + (b"\0" if level == 5 else b"") + raw_packets.text("mutants/#")),
        *(packet(first, body) for first, body in bodies),
        raw_packets.PINGREQ,
        raw_packets.disconnect(4, level=level, properties={Property.SESSION_EXPIRY_INTERVAL: 9}),
    ]


def mutated(dice: random.Random, octets: bytes) -> bytes:
    """One to four changes."""
    spoilt = bytearray(octets)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(spoilt)) if spoilt else 0
        change = dice.randrange(6)
        if change == 0 and spoilt:
            spoilt[at] ^= 1 << dice.randrange(8)
        elif change == 1 and spoilt:
            spoilt[at] = dice.choice((0, 0x7F, 0x80, 0xFF))
        elif change == 2:
            del spoilt[at : at + dice.randint(1, 4)]
        elif change == 3:
            spoilt[at:at] = dice.randbytes(dice.randint(1, 4))
        elif change == 4:
            spoilt += spoilt[at:]
        else:
            del spoilt[at + 1 :]
    return bytes(spoilt)


ATTACKS: Sequence[Attack] = (
    Attack("random bytes instead of CONNECT", lambda target: random_octets(target, b""), LIMITS),
    Attack("random bytes behind CONNECT", lambda target: random_octets(target, connect_octets("noise")), LIMITS),
    Attack("mutated packets", mutants, LIMITS, moved={"client.connect": 100, "client.disconnected": 100}),
)
