"""A blocking MQTT client of a hundred lines that does only what a test tells it to: no pings, no retries, no courtesy.

For what real clients hide: a connection that falls silent, one that dies without DISCONNECT, the exact packet that
came. Speaks 3.1.1 (level 4) and 5 (level 5, properties empty). Every wait is bounded by `WAIT_S`.
"""

import select
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

WAIT_S = 10.0

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 11, 13, 14


@dataclass(frozen=True)
class Packet:
    """A packet as it came: type, flags of the first byte, everything behind the length."""

    kind: int
    flags: int
    body: bytes


class RawClient:
    """One connection. `address` is (host, port), or the path of a Unix socket."""

    def __init__(self, address: tuple[str, int] | str, *, level: int = 4) -> None:
        self.level = level
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(WAIT_S)
            self._socket.connect(address)
        else:
            self._socket = socket.create_connection(address, timeout=WAIT_S)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection as a crash would: no DISCONNECT."""
        self._stream.close()
        self._socket.close()

    def connect(
        self, client_id: str, *, keep_alive_s: int = 0, clean: bool = True, username: str | None = None
    ) -> tuple[int, bool]:
        """Send CONNECT; returns CONNACK's code and whether a session was present."""
        flags = (0x02 if clean else 0) | (0x80 if username is not None else 0)
        head = _text("MQTT") + struct.pack("!BBH", self.level, flags, keep_alive_s) + self._no_properties()
        self.send(0x10, head + _text(client_id) + (b"" if username is None else _text(username)))
        body = self.expect(CONNACK).body
        return body[1], bool(body[0] & 1)

    def subscribe(self, topic_filter: str, *, qos: int = 0) -> int:
        """Send SUBSCRIBE with packet identifier 1; returns SUBACK's code."""
        self.send(0x82, b"\x00\x01" + self._no_properties() + _text(topic_filter) + bytes([qos]))
        return self.expect(SUBACK).body[-1]

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 1, retain: bool = False) -> None:
        """Send PUBLISH and wait for nothing."""
        identifier = struct.pack("!H", packet_id) if qos else b""
        self.send(0x30 | qos << 1 | retain, _text(topic) + identifier + self._no_properties() + payload)

    def message(self) -> tuple[str, bytes]:
        """The next packet, which must be a PUBLISH at QoS 0: topic and payload."""
        packet = self.expect(PUBLISH)
        assert packet.flags & 0x06 == 0, f"a PUBLISH at QoS 0 was expected, flags are {packet.flags:#x}"
        end = 2 + int.from_bytes(packet.body[:2])
        start = end + (1 + packet.body[end] if self.level == 5 else 0)
        return packet.body[2:end].decode(), packet.body[start:]

    def expect(self, kind: int) -> Packet:
        """The next packet, which must be of `kind`."""
        packet = self.packet()
        assert packet is not None, f"packet type {kind} was expected, the broker closed the connection"
        assert packet.kind == kind, f"packet type {kind} was expected, {packet} came"
        return packet

    def packet(self) -> Packet | None:
        """The next packet, or None where the broker has closed the connection."""
        try:
            first = self._stream.read(1)
        except ConnectionResetError:
            return None
        if not first:
            return None
        length = shift = 0
        while True:
            octet = self._stream.read(1)[0]
            length |= (octet & 0x7F) << shift
            if octet < 0x80:
                return Packet(first[0] >> 4, first[0] & 0x0F, self._stream.read(length))
            shift += 7

    def send(self, first: int, body: bytes) -> None:
        """Send a packet with this first byte."""
        length, remaining = b"", len(body)
        while True:
            remaining, octet = divmod(remaining, 128)
            length += bytes([octet | (0x80 if remaining else 0)])
            if not remaining:
                break
        self._socket.sendall(bytes([first]) + length + body)

    def send_octets(self, octets: bytes) -> None:
        """Send anything."""
        self._socket.sendall(octets)

    def hears_within(self, wait_s: float) -> bool:
        """Whether the broker sends something, or closes, within this time."""
        return bool(select.select([self._socket], [], [], wait_s)[0])

    def _no_properties(self) -> bytes:
        return b"\x00" if self.level == 5 else b""


def _text(text: str) -> bytes:
    octets = text.encode()
    return struct.pack("!H", len(octets)) + octets
