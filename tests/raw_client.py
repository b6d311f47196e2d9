"""A blocking MQTT client that does only what a test tells it to: no pings, no retries, no courtesy.

For what real clients hide: a connection that falls silent, one that dies without DISCONNECT, the exact packet that
came. Speaks 3.1.1 (level 4) and 5 (level 5). Knows one socket; what the bytes mean stands in `raw_packets`. Every wait
is bounded by `WAIT_S`.
"""

import select
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests import raw_packets
from tests.raw_packets import (
    CONNACK,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    Packet,
    Properties,
    Publication,
    Will,
)

__all__ = ["CONNACK", "DISCONNECT", "PINGRESP", "PUBACK", "PUBLISH", "SUBACK", "UNSUBACK", "WAIT_S", "RawClient"]

WAIT_S = 10.0

_NONE: Properties = {}


class RawClient:
    """One connection. `address` is (host, port), or the path of a Unix socket.

    `receive_buffer_bytes` makes the kernel's part of a slow reader small. `was_reset` tells how the connection ended:
    by the broker's order, or with data lost on the way.
    """

    def __init__(
        self, address: tuple[str, int] | str, *, level: int = 4, receive_buffer_bytes: int | None = None
    ) -> None:
        self.level = level
        self.was_reset = False
        self._unread = bytearray()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(WAIT_S)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.connect(address)
        if family == socket.AF_INET:  # A packet goes out when a test sends it, not when the one before is acknowledged.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection as a crash would: no DISCONNECT."""
        self._socket.close()

    def connect(
        self,
        client_id: str,
        *,
        keep_alive_s: int = 0,
        clean: bool = True,
        username: str | None = None,
        will: Will | None = None,
        properties: Properties = _NONE,
    ) -> tuple[int, bool]:
        """Send CONNECT; returns CONNACK's code and whether a session was present."""
        self.send_octets(
            raw_packets.connect(
                client_id,
                level=self.level,
                clean=clean,
                keep_alive_s=keep_alive_s,
                username=username,
                will=will,
                properties=properties,
            )
        )
        connack = self.expect(CONNACK)
        return connack.reason, bool(connack.body[0] & 1)

    def subscribe(self, topic_filter: str, *, qos: int = 0) -> int:
        """Send SUBSCRIBE with packet identifier 1; returns SUBACK's code. `qos` may hold other options, too."""
        (code,) = self.subscribe_all([(topic_filter, qos)])
        return code

    def subscribe_all(self, filters: Sequence[tuple[str, int]], *, properties: Properties = _NONE) -> list[int]:
        """Send one SUBSCRIBE for (filter, options) with packet identifier 1; returns SUBACK's codes."""
        self.send_octets(raw_packets.subscribe(filters, level=self.level, properties=properties))
        return list(self.expect(SUBACK).body[-len(filters) :])

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        packet_id: int = 1,
        retain: bool = False,
        dup: bool = False,
        properties: Properties = _NONE,
    ) -> None:
        """Send PUBLISH and wait for nothing."""
        self.send_octets(
            raw_packets.publish(
                topic,
                payload,
                level=self.level,
                qos=qos,
                packet_id=packet_id,
                retain=retain,
                dup=dup,
                properties=properties,
            )
        )

    def publish_confirmed(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, properties: Properties = _NONE
    ) -> int:
        """Send PUBLISH at QoS 1 or 2 and go through its handshake; returns the code of PUBACK or PUBREC."""
        self.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        reason = self.expect(PUBACK if qos == 1 else PUBREC).reason
        if qos == 2 and reason < 0x80:
            self.acknowledge(PUBREL, 1)
            self.expect(PUBCOMP)
        return reason

    def acknowledge(self, kind: int, packet_id: int) -> None:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.send_octets(raw_packets.acknowledgement(kind, packet_id))

    def disconnect(self, reason: int = 0, *, properties: Properties = _NONE) -> None:
        """Send DISCONNECT and wait until the broker has closed the connection."""
        self.send_octets(raw_packets.disconnect(reason, level=self.level, properties=properties))
        self.until_closed()

    def message(self) -> tuple[str, bytes]:
        """The next packet, which must be a PUBLISH at QoS 0: topic and payload."""
        publication = self.publication()
        assert publication.qos == 0, f"a PUBLISH at QoS 0 was expected, {publication} came"
        return publication.topic, publication.payload

    def publication(self) -> Publication:
        """The next packet, which must be a PUBLISH."""
        return Publication.read(self.expect(PUBLISH), level=self.level)

    def farewell(self) -> int:
        """The reason code of DISCONNECT, which must be the next packet and the last."""
        reason = self.expect(DISCONNECT).reason
        assert self.packet() is None, "DISCONNECT was not the broker's last packet"
        return reason

    def sent_so_far(self) -> list[Packet]:
        """What the broker sent before it answers a ping; for a test that must not wait for what never comes."""
        self.send_octets(PINGREQ)
        packets = []
        while (packet := self.packet()) is not None and packet.kind != PINGRESP:
            packets.append(packet)
        assert packet is not None, "the broker closed the connection instead of answering a ping"
        return packets

    def published_so_far(self) -> list[Publication]:
        """What the broker sent before it answers a ping; it must be nothing but PUBLISH."""
        packets = self.sent_so_far()
        assert all(packet.kind == PUBLISH for packet in packets), packets
        return [Publication.read(packet, level=self.level) for packet in packets]

    def until_closed(self) -> list[Packet]:
        """All packets up to the end of the connection."""
        return list(iter(self.packet, None))

    def expect(self, kind: int) -> Packet:
        """The next packet, which must be of `kind`."""
        return self.expect_any(kind)

    def expect_any(self, *kinds: int) -> Packet:
        """The next packet, which must be of one of these."""
        packet = self.packet()
        wanted = " or ".join(map(str, kinds))
        assert packet is not None, f"packet type {wanted} was expected, the broker closed the connection"
        assert packet.kind in kinds, f"packet type {wanted} was expected, {packet} came"
        return packet

    def packet(self) -> Packet | None:
        """The next packet, or None where the broker has closed the connection."""
        while (found := raw_packets.split(self._unread)) is None:
            if not self._receive():
                return None
        packet, length = found
        del self._unread[:length]
        return packet

    def send(self, first: int, body: bytes) -> None:
        """Send a packet with this first byte."""
        self.send_octets(raw_packets.packet(first, body))

    def send_octets(self, octets: bytes) -> None:
        """Send anything."""
        self._socket.sendall(octets)

    def hears_within(self, wait_s: float) -> bool:
        """Whether the broker sends something, or closes, within this time."""
        return bool(self._unread) or bool(select.select([self._socket], [], [], wait_s)[0])

    def _receive(self) -> bool:
        try:
            octets = self._socket.recv(1 << 16)
        except ConnectionResetError:
            self.was_reset = True
            return False
        self._unread += octets
        return bool(octets)
