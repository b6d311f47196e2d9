"""A client that is exact about QoS: it sends again what was not acknowledged, and takes no message of QoS 2 twice.

Knows one session of MQTT 3.1.1 (level 4) or 5 and at most one connection of it, which never waits. Both ends of QoS 2
survive a connection: what it sends again carries DUP and its old identifier, and an identifier that was not released
names the message that it named before. `Ears` hear what came. Raises `Fault` where the broker breaks the protocol.

It may be lazy: then answers wait, and messages stay in flight.
"""

import socket
from dataclasses import dataclass
from typing import Protocol

from tests import raw_packets
from tests.crash.story import Fault, Story
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
    Property,
    Publication,
    Will,
)

READ_BYTES = 1 << 18
# Few identifiers, so that each comes again soon.
IDENTIFIERS = 400
EXPIRY_S = 7200
SERVER_SHUTTING_DOWN = 0x8B


@dataclass(frozen=True, slots=True)
class Sending:
    """A PUBLISH of ours. `token`: what it is to whoever published."""

    token: object
    topic: str
    payload: bytes
    qos: int
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """A SUBSCRIBE at this QoS, or an UNSUBSCRIBE (None)."""

    token: object
    topic_filter: str
    qos: int | None


class Ears(Protocol):
    """Who hears what came."""

    def on_message(self, publication: Publication) -> None:
        """A message, and not one that its identifier shows to be a repetition."""

    def on_published(self, token: object) -> None:
        """PUBACK or PUBREC."""

    def on_asked(self, token: object) -> None:
        """SUBACK or UNSUBACK."""

    def on_connected(self, is_present: bool) -> None:
        """CONNACK."""

    def name_of(self, payload: bytes) -> object:
        """What the story calls a message."""


@dataclass(slots=True)
class _Flight:
    sending: Sending
    is_released: bool = False


class ExactClient:
    """One session. `is_open`: CONNACK came and the connection stands, as far as is known."""

    def __init__(self, client_id: str, ears: Ears, story: Story, *, level: int) -> None:
        self.client_id = client_id
        self.level = level
        self.is_lazy = False
        self.is_open = False
        self.socket: socket.socket | None = None
        self._displaced: socket.socket | None = None
        self.pongs = 0
        self._ears = ears
        self._story = story
        self._flights: dict[int, _Flight] = {}
        self._asked: dict[int, Asking] = {}
        self._taken: dict[int, tuple[str, bytes]] = {}
        self._last_id = 0
        self._unread = bytearray()
        self._unsent = bytearray()
        self._answers = bytearray()

    # --- what its owner does -------------------------------------------------------------------------------------

    def connect(self, address: tuple[str, int], *, clean: bool, expiry_s: int, will: Will | None = None) -> None:
        """Begin a connection; `clean` forgets the session.

        One that stands is left to the broker to end, and not listened to any more.
        """
        if clean:
            self.forget()
        before, self.socket = self.socket, None
        self.drop()
        self._displaced = before
        self._note("CONNECT", "clean" if clean else "again", expiry_s)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)
        properties = {Property.SESSION_EXPIRY_INTERVAL: expiry_s} if self.level == 5 else {}
        self._unsent += raw_packets.connect(
            self.client_id, level=self.level, clean=clean, will=will, properties=properties
        )

    def forget(self) -> None:
        """What there was of the session is of no interest any more."""
        self._flights.clear()
        self._asked.clear()
        self._taken.clear()

    def publish(self, sending: Sending) -> None:
        """Send it now, and again with every connection until it is acknowledged. The connection is open."""
        packet_id = self._free_id()
        self._flights[packet_id] = _Flight(sending)
        self._send_publish(packet_id, sending, dup=False)

    def ask(self, asking: Asking) -> None:
        """As `publish`."""
        packet_id = self._free_id()
        self._asked[packet_id] = asking
        self._send_asking(packet_id, asking)

    def ping(self) -> None:
        """Ask for PINGRESP, which `pongs` counts."""
        self._unsent += PINGREQ

    def answer(self) -> None:
        """Send the answers that a lazy client has kept."""
        self._unsent += self._answers
        self._answers.clear()

    def leave(self, *, is_told: bool) -> None:
        """End the connection, with DISCONNECT or as a crash would."""
        if is_told and self.is_open:
            self._note("DISCONNECT")
            self._unsent += raw_packets.disconnect(level=self.level)
            self.write()
        self.drop()

    def drop(self) -> None:
        """The connection is gone."""
        if self.socket is not None:
            self._note("closed")
            self.socket.close()
        if self._displaced is not None:
            self._displaced.close()
        self.socket, self._displaced, self.is_open = None, None, False
        self._unread.clear()
        self._unsent.clear()
        self._answers.clear()

    @property
    def in_flight(self) -> int:
        """Messages that are not acknowledged to the end."""
        return len(self._flights)

    @property
    def is_asking(self) -> bool:
        """Whether SUBACK or UNSUBACK is still to come."""
        return bool(self._asked)

    @property
    def has_unsent(self) -> bool:
        """Whether `write` has something to do."""
        return bool(self._unsent)

    # --- the connection ------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Send what the kernel takes."""
        if self.socket is None or not self._unsent:
            return
        try:
            sent = self.socket.send(self._unsent)
        except OSError:
            return  # Not now, or never again: then reading tells.
        del self._unsent[:sent]

    def read(self) -> None:
        """Take what has come. A connection that ended is dropped."""
        if self.socket is None:
            return
        try:
            octets = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._fault(f"was cut off: {error}") from error
        if not octets:
            raise self._fault("was closed upon")
        self._unread += octets
        self._take()
        if not self.is_lazy:
            self.answer()

    def bury(self) -> None:
        """The broker is dead: take what it said before, to the end, and drop the connection."""
        while self.socket is not None:
            try:
                octets = self.socket.recv(READ_BYTES)
            except OSError:
                octets = b""
            self._unread += octets
            self._take()
            if not octets:
                self.drop()

    def _take(self) -> None:
        at, unread = 0, self._unread
        while (found := _packet_at(unread, at)) is not None and self.socket is not None:
            packet, at = found
            self._on_packet(packet)
        del unread[:at]

    # --- packets -------------------------------------------------------------------------------------------------

    def _on_packet(self, packet: Packet) -> None:
        if packet.kind == PUBLISH:
            self._on_publish(Publication.read(packet, level=self.level))
        elif packet.kind == PUBREL:
            self._on_pubrel(packet.packet_id)
        elif packet.kind in {PUBACK, PUBREC, PUBCOMP}:
            self._on_acknowledged(packet)
        elif packet.kind in {SUBACK, UNSUBACK}:
            self._on_asked(packet)
        elif packet.kind == CONNACK:
            self._on_connack(packet)
        elif packet.kind == PINGRESP:
            self.pongs += 1
        elif packet.kind == DISCONNECT and packet.reason == SERVER_SHUTTING_DOWN:
            self._note("DISCONNECT")
        elif packet.kind == DISCONNECT:
            raise self._fault(f"was sent DISCONNECT with {packet.reason:#x}")
        else:
            raise self._fault(f"was sent a packet of type {packet.kind}")

    def _on_connack(self, packet: Packet) -> None:
        if packet.reason:
            raise self._fault(f"was refused with {packet.reason:#x}")
        is_present = bool(packet.body[0] & 1)
        self._note("CONNACK", "present" if is_present else "new")
        self.is_open = True
        if self._displaced is not None:
            self._displaced.close()
            self._displaced = None
        self._ears.on_connected(is_present)
        if not is_present:
            self._taken.clear()
        for packet_id, flight in self._flights.items():
            if flight.is_released:
                self._unsent += raw_packets.acknowledgement(PUBREL, packet_id)
            else:
                self._send_publish(packet_id, flight.sending, dup=True)
        for packet_id, asking in self._asked.items():
            self._send_asking(packet_id, asking)

    def _on_publish(self, publication: Publication) -> None:
        packet_id, content = publication.packet_id, (publication.topic, publication.payload)
        self._note(
            "got",
            self._ears.name_of(publication.payload),
            "qos",
            publication.qos,
            "id",
            packet_id,
            "dup",
            publication.dup,
        )
        if publication.qos == 1:
            self._answers += raw_packets.acknowledgement(PUBACK, packet_id)
        if publication.qos == 2:
            self._answers += raw_packets.acknowledgement(PUBREC, packet_id)
            if packet_id in self._taken:
                self._check_same(packet_id, content)
                return
            self._taken[packet_id] = content
        self._ears.on_message(publication)

    def _check_same(self, packet_id: int, content: tuple[str, bytes]) -> None:
        if self._taken[packet_id] != content:
            raise self._fault(f"got another message under identifier {packet_id} before PUBREL")

    def _on_pubrel(self, packet_id: int) -> None:
        self._note("PUBREL", packet_id)
        self._taken.pop(packet_id, None)
        self._answers += raw_packets.acknowledgement(PUBCOMP, packet_id)

    def _on_acknowledged(self, packet: Packet) -> None:
        packet_id = packet.packet_id
        flight = self._flights.get(packet_id)
        expected = None if flight is None else _awaited(flight)
        if flight is None or packet.kind != expected or (packet.reason >= 0x80 and packet.kind != PUBCOMP):
            raise self._fault(f"got {packet}, and {flight} was in flight under {packet_id}")
        self._note("acknowledged", self._ears.name_of(flight.sending.payload), packet.kind, "id", packet_id)
        if packet.kind == PUBREC:
            flight.is_released = True
            self._unsent += raw_packets.acknowledgement(PUBREL, packet_id)
        else:
            del self._flights[packet_id]
        if packet.kind != PUBCOMP:
            self._ears.on_published(flight.sending.token)

    def _on_asked(self, packet: Packet) -> None:
        asking = self._asked.pop(packet.packet_id, None)
        if asking is None:
            raise self._fault(f"got {packet} without a question")
        if packet.kind == SUBACK and packet.body[-1] != asking.qos:
            raise self._fault(f"asked for {asking.topic_filter} at QoS {asking.qos} and got {packet.body[-1]:#x}")
        self._note("SUBACK" if packet.kind == SUBACK else "UNSUBACK", asking.topic_filter)
        self._ears.on_asked(asking.token)

    # --- sending -------------------------------------------------------------------------------------------------

    def _send_publish(self, packet_id: int, sending: Sending, *, dup: bool) -> None:
        self._note(
            "PUBLISH",
            self._ears.name_of(sending.payload),
            sending.topic,
            "qos",
            sending.qos,
            "id",
            packet_id,
            "dup",
            dup,
        )
        self._unsent += raw_packets.publish(
            sending.topic,
            sending.payload,
            level=self.level,
            qos=sending.qos,
            packet_id=packet_id,
            retain=sending.retain,
            dup=dup,
        )

    def _send_asking(self, packet_id: int, asking: Asking) -> None:
        self._note("UNSUBSCRIBE" if asking.qos is None else "SUBSCRIBE", asking.topic_filter)
        if asking.qos is None:
            self._unsent += raw_packets.unsubscribe([asking.topic_filter], level=self.level, packet_id=packet_id)
            return
        wanted = [(asking.topic_filter, asking.qos)]
        self._unsent += raw_packets.subscribe(wanted, level=self.level, packet_id=packet_id)

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % IDENTIFIERS + 1
            if self._last_id not in self._flights and self._last_id not in self._asked:
                return self._last_id

    def _note(self, *what: object) -> None:
        self._story.note(self.client_id, *what)

    def _fault(self, what: str) -> Fault:
        return Fault(f"{self.client_id} {what}", self.client_id)


def _awaited(flight: _Flight) -> int:
    if flight.sending.qos == 1:
        return PUBACK
    return PUBCOMP if flight.is_released else PUBREC


def _packet_at(octets: bytearray, at: int) -> tuple[Packet, int] | None:
    """The packet that begins there and where it ends; None where its end has not come."""
    length = shift = 0
    for place in range(at + 1, min(at + 5, len(octets))):
        octet = octets[place]
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            end = place + 1 + length
            body = bytes(octets[place + 1 : end])
            return (Packet(octets[at] >> 4, octets[at] & 0x0F, body), end) if end <= len(octets) else None
    return None
