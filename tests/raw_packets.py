"""MQTT packets as bytes and back: pure functions for the raw client, and for tests that send several packets at once.

Knows the wire format of 3.1.1 (level 4) and 5 (level 5) as the specification's tables have it. Knows no socket and
nothing of the product, and checks nothing: a test may ask for nonsense. Level 4 leaves all properties out.
"""

import enum
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK = 2, 3, 4, 5, 6, 7, 9
UNSUBACK, PINGRESP, DISCONNECT = 11, 13, 14

PINGREQ = b"\xc0\x00"
NO_LOCAL = 0x04
"""An option of SUBSCRIBE, to be added to the QoS (MQTT 5.0, section 3.8.3.1)."""

# Where the reason code stands, by packet type; an acknowledgement without one means success.
_REASON_AT = {CONNACK: 1, PUBACK: 2, PUBREC: 2, PUBREL: 2, PUBCOMP: 2, DISCONNECT: 0}


class Property(enum.IntEnum):
    """The identifiers (MQTT 5.0, section 2.2.2.2) that the tests use."""

    MESSAGE_EXPIRY_INTERVAL = 0x02
    RESPONSE_TOPIC = 0x08
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    AUTHENTICATION_DATA = 0x16
    RECEIVE_MAXIMUM = 0x21
    MAXIMUM_QOS = 0x24
    MAXIMUM_PACKET_SIZE = 0x27


Properties: TypeAlias = Mapping[Property, int | str | bytes]

_NONE: Properties = {}
# Octets of an integer; the one that is missing is a variable byte integer.
_WIDTHS = {
    Property.MESSAGE_EXPIRY_INTERVAL: 4,
    Property.SESSION_EXPIRY_INTERVAL: 4,
    Property.RECEIVE_MAXIMUM: 2,
    Property.MAXIMUM_QOS: 1,
    Property.MAXIMUM_PACKET_SIZE: 4,
}


@dataclass(frozen=True)
class Packet:
    """A packet as it came: type, flags of the first byte, everything behind the length."""

    kind: int
    flags: int
    body: bytes

    @property
    def reason(self) -> int:
        """The reason code of CONNACK, DISCONNECT and acknowledgements of one message; 0 where none is sent."""
        at = _REASON_AT[self.kind]
        return self.body[at] if len(self.body) > at else 0

    @property
    def packet_id(self) -> int:
        """The packet identifier of an acknowledgement."""
        return int.from_bytes(self.body[:2])


@dataclass(frozen=True)
class Will:
    """What CONNECT leaves behind."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True)
class Publication:
    """A PUBLISH, read. `expiry_s` is the only property that is looked for, and it must be the first one."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    expiry_s: int | None

    @classmethod
    def read(cls, packet: Packet, *, level: int) -> Self:
        """Read a packet of type PUBLISH."""
        qos, at = packet.flags >> 1 & 3, 2 + int.from_bytes(packet.body[:2])
        topic = packet.body[2:at].decode()
        packet_id = int.from_bytes(packet.body[at : at + 2]) if qos else 0
        rest = packet.body[at + 2 :] if qos else packet.body[at:]
        properties, payload = _split_properties(rest) if level == 5 else (b"", rest)
        has_expiry = properties[:1] == bytes([Property.MESSAGE_EXPIRY_INTERVAL])
        return cls(
            topic=topic,
            payload=payload,
            qos=qos,
            retain=bool(packet.flags & 1),
            dup=bool(packet.flags & 8),
            packet_id=packet_id,
            expiry_s=int.from_bytes(properties[1:5]) if has_expiry else None,
        )


def connect(
    client_id: str,
    *,
    level: int,
    clean: bool = True,
    keep_alive_s: int = 0,
    username: str | None = None,
    will: Will | None = None,
    properties: Properties = _NONE,
) -> bytes:
    """CONNECT."""
    flags = 0x02 * clean | 0x80 * (username is not None)
    tail = b"" if username is None else text(username)
    if will is not None:
        flags |= 0x04 | will.qos << 3 | 0x20 * will.retain
        tail = _section(will.properties, level) + text(will.topic) + _binary(will.payload) + tail
    head = text("MQTT") + struct.pack("!BBH", level, flags, keep_alive_s) + _section(properties, level)
    return packet(0x10, head + text(client_id) + tail)


def publish(
    topic: str,
    payload: bytes,
    *,
    level: int,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    properties: Properties = _NONE,
) -> bytes:
    """PUBLISH."""
    identifier = struct.pack("!H", packet_id) if qos else b""
    body = text(topic) + identifier + _section(properties, level) + payload
    return packet(0x30 | dup << 3 | qos << 1 | retain, body)


def subscribe(
    filters: Iterable[tuple[str, int]], *, level: int, packet_id: int = 1, properties: Properties = _NONE
) -> bytes:
    """SUBSCRIBE to (filter, options)."""
    wanted = b"".join(text(one) + bytes([options]) for one, options in filters)
    return packet(0x82, struct.pack("!H", packet_id) + _section(properties, level) + wanted)


def unsubscribe(filters: Iterable[str], *, level: int, packet_id: int = 1) -> bytes:
    """UNSUBSCRIBE."""
    return packet(0xA2, struct.pack("!H", packet_id) + _section(_NONE, level) + b"".join(map(text, filters)))


def acknowledgement(kind: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP with success."""
    return packet(kind << 4 | 0x02 * (kind == PUBREL), struct.pack("!H", packet_id))


def disconnect(reason: int = 0, *, level: int, properties: Properties = _NONE) -> bytes:
    """DISCONNECT; level 4 has no reason."""
    return packet(0xE0, bytes([reason]) + _section(properties, level) if level == 5 else b"")


def packet(first: int, body: bytes) -> bytes:
    """A packet with this first byte."""
    return bytes([first]) + varint(len(body)) + body


def text(value: str) -> bytes:
    """A UTF-8 string behind its length."""
    return _binary(value.encode())


def varint(number: int) -> bytes:
    """A variable byte integer."""
    octets = b""
    while True:
        number, octet = divmod(number, 128)
        octets += bytes([octet | (0x80 if number else 0)])
        if not number:
            return octets


def split(octets: bytes | bytearray) -> tuple[Packet, int] | None:
    """The first packet and how many octets it takes; None where its end has not come."""
    length = shift = 0
    for at, octet in enumerate(octets[1:5], start=2):
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            is_whole = len(octets) >= at + length
            body = bytes(octets[at : at + length])
            return (Packet(octets[0] >> 4, octets[0] & 0x0F, body), at + length) if is_whole else None
    return None


def _binary(octets: bytes) -> bytes:
    return struct.pack("!H", len(octets)) + octets


def _section(properties: Properties, level: int) -> bytes:
    if level != 5:
        return b""
    octets = b"".join(bytes([name]) + _value(name, value) for name, value in properties.items())
    return varint(len(octets)) + octets


def _value(name: Property, value: int | str | bytes) -> bytes:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bytes):
        return _binary(value)
    return value.to_bytes(_WIDTHS[name]) if name in _WIDTHS else varint(value)


def _split_properties(octets: bytes) -> tuple[bytes, bytes]:
    # The broker sends few: one octet is enough for their length.
    end = 1 + octets[0]
    return octets[1:end], octets[end:]
