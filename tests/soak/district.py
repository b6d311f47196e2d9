"""Clients that come, sleep, are queued for, come back, and stay away for good; and retained messages that change.

Knows one thread's worth of them on blocking sockets, and keeps books of what the broker owes each: a message that was
acknowledged comes in order, once, unless it or its session expired. Does not measure anything. Raises `Broken`.
"""

import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import Final, TypeAlias

from tests import raw_packets
from tests.raw_client import WAIT_S, RawClient
from tests.raw_packets import (
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    Property,
    Publication,
    Will,
)

SLEEPERS: Final = 200
RETAINED_TOPICS: Final = 300
# Below mqtt.max_mqueue_len, so that nothing is dropped.
QUEUE_MAX: Final = 300
WINDOW: Final = 64
LONG_S: Final = 7200
SHORTLY_S: Final = (2, 4, 8)
# Around an expiry, nobody can say on which side of it the broker was.
BLUR_S: Final = 1.5
# How often somebody who waits asks whether what he waits for may have expired meanwhile.
SILENCE_S: Final = 0.5
SIZES: Final = (20, 60, 200, 200, 1000, 4000)
# What the broker keeps beside a payload: topic, properties, head; and for a session that sleeps.
OVERHEAD_BYTES: Final = 60
SESSION_BYTES: Final = 300
Row: TypeAlias = tuple[str, int]
_NUMBER: Final = struct.Struct("!Q")


class Broken(Exception):
    """The broker did not keep a promise."""


@dataclass(slots=True, eq=False)
class Body:
    """A message that somebody waits for. `expires_s`: clock of this process; None: never."""

    number: int
    size: int
    expires_s: float | None

    def may_be_missing(self) -> bool:
        """Whether it may have expired."""
        return self.expires_s is not None and time.monotonic() > self.expires_s - BLUR_S


@dataclass(slots=True, eq=False)
class Sleeper:
    """A client with a session. `gone_s`: when it expires; None: not while it is awake, or there is none."""

    client_id: str
    # By topic and QoS, within which they come in order.
    waiting: dict[Row, deque[Body]] = field(default_factory=lambda: defaultdict(deque))
    # Those that were not waited for, because they may have expired.
    doubtful: set[int] = field(default_factory=set)
    has_session: bool = False
    gone_s: float | None = None

    def owed(self) -> int:
        """Messages that wait."""
        return sum(map(len, self.waiting.values()))

    def bodies(self) -> Iterator[Body]:
        """All that wait."""
        return chain.from_iterable(self.waiting.values())

    def forget(self) -> None:
        """The session is gone."""
        self.waiting.clear()
        self.doubtful.clear()
        self.has_session = False

    def may_be_gone(self) -> bool:
        """Whether the session may have expired."""
        return not self.has_session or (self.gone_s is not None and time.monotonic() > self.gone_s - BLUR_S)

    def must_be_gone(self) -> bool:
        """Whether it has, for certain."""
        return not self.has_session or (self.gone_s is not None and time.monotonic() > self.gone_s + BLUR_S)


class District:
    """One thread's clients and topics. `live_bytes`: what the broker has to keep for them; any thread may read it."""

    def __init__(self, address: tuple[str, int], number: int, tide_s: float) -> None:
        self.live_bytes = 0
        self.messages = 0
        self._address = address
        self._name = f"d{number}"
        self._dice = Random(number)
        self._tide_s = tide_s
        self._sleepers = [Sleeper(f"{self._name}-{place}") for place in range(SLEEPERS)]
        self._retained: dict[str, int] = {}
        self._count = 0
        self._publisher = self._connected(f"{self._name}-publisher")

    # --- what the soak calls ---------------------------------------------------------------------------------------

    def live_until(self, ends: threading.Event) -> None:
        """Churn. The tide says whether more is queued than drained."""
        while not ends.is_set():
            is_flood = time.monotonic() % (2 * self._tide_s) < self._tide_s
            for _ in range(1 if is_flood else 12):
                self._visit(self._dice.choice(self._sleepers))
            for _ in range(12 if is_flood else 1):
                self._publish_some()
            self._change_retained()
            self._take_stock()

    def leave_nothing(self) -> None:
        """Everybody takes what is his and ends his session; no topic keeps a message."""
        self._check_retained()
        for sleeper in self._sleepers:
            self._visit(sleeper, is_last=True)
        for topic in list(self._retained):
            self._send([(topic, b"", 1, True, None)])
        self._retained.clear()
        self._publisher.disconnect()
        self._publisher.close()
        self._take_stock()

    # --- sleepers --------------------------------------------------------------------------------------------------

    def _visit(self, sleeper: Sleeper, *, is_last: bool = False) -> None:
        """It comes, takes what waits, or half of it, and sleeps again, for long or for good."""
        dice = self._dice
        expiry_s = LONG_S if dice.random() < 0.85 else dice.choice(SHORTLY_S)
        with self._come(sleeper, expiry_s) as client:
            share = dice.random() if dice.random() < 0.3 and not is_last else 1.0
            self._drain(client, sleeper, share)
            self._change_filters(client, sleeper)
            if is_last:
                client.disconnect(properties={Property.SESSION_EXPIRY_INTERVAL: 0})
                sleeper.forget()
                return
            sleeper.gone_s = time.monotonic() + expiry_s
            if dice.random() < 0.7:
                client.disconnect()
        # Without DISCONNECT the broker may notice later.
        sleeper.gone_s = max(sleeper.gone_s, time.monotonic() + expiry_s)

    def _change_filters(self, client: RawClient, sleeper: Sleeper) -> None:
        """One more and one less, at times; both match nothing that is published."""
        if self._dice.random() > 0.3:
            return
        new, old = (f"{sleeper.client_id}/extra/{self._dice.randrange(8)}" for _ in range(2))
        client.send_octets(raw_packets.subscribe([(new, 1)], level=5) + raw_packets.unsubscribe([old], level=5))
        answers = {SUBACK, UNSUBACK}
        while answers:  # Messages that it does not acknowledge come between.
            packet = client.expect_any(PUBLISH, PUBREL, SUBACK, UNSUBACK)
            answers.discard(packet.kind)
            if packet.kind == PUBREL:
                client.acknowledge(PUBCOMP, packet.packet_id)

    def _come(self, sleeper: Sleeper, expiry_s: int) -> RawClient:
        client = RawClient(self._address, level=5)
        may_be_gone = sleeper.may_be_gone()
        reason, is_present = client.connect(
            sleeper.client_id,
            clean=False,
            will=Will(f"{self._name}/wills", b"gone", qos=1),
            properties={Property.SESSION_EXPIRY_INTERVAL: expiry_s},
        )
        if reason:
            raise Broken(f"{sleeper.client_id} was refused with {reason:#x}")
        if not is_present and not may_be_gone:
            raise Broken(f"the session of {sleeper.client_id} is gone before its time")
        if is_present and sleeper.must_be_gone():
            raise Broken(f"the session of {sleeper.client_id} is there after its end")
        if not is_present:
            sleeper.forget()
            client.subscribe_all([(f"{sleeper.client_id}/#", 2), (f"{self._name}/all", 1)])
        sleeper.has_session, sleeper.gone_s = True, None
        return client

    def _drain(self, client: RawClient, sleeper: Sleeper, share: float) -> None:
        """Take this share of what waits; the rest is read at most, and not acknowledged."""
        rest = sleeper.owed() - int(sleeper.owed() * share)
        released: set[int] = set()
        silent_s = 0.0
        while released or (sleeper.owed() > rest and not all(body.may_be_missing() for body in sleeper.bodies())):
            if not client.hears_within(SILENCE_S):
                silent_s += SILENCE_S
                if silent_s > WAIT_S:
                    raise Broken(f"{sleeper.client_id} hears nothing, and {sleeper.owed()} messages wait for it")
                continue
            silent_s = 0.0
            packet = client.expect_any(PUBLISH, PUBREL)
            if packet.kind == PUBREL:
                client.acknowledge(PUBCOMP, packet.packet_id)
                released.discard(packet.packet_id)
            elif sleeper.owed() > rest:
                publication = Publication.read(packet, level=5)
                self._take(sleeper, publication)
                released |= _answer(client, publication)
        if share == 1.0:
            self._drain_rest(client, sleeper)

    def _drain_rest(self, client: RawClient, sleeper: Sleeper) -> None:
        """What may have expired, or has come."""
        client.send_octets(PINGREQ)
        pings = 1
        while pings:
            packet = client.expect_any(PUBLISH, PUBREL, PINGRESP)
            if packet.kind == PUBLISH:
                publication = Publication.read(packet, level=5)
                self._take(sleeper, publication)
                _answer(client, publication)
            elif packet.kind == PUBREL:
                client.acknowledge(PUBCOMP, packet.packet_id)
            if packet.kind == PINGRESP:
                pings -= 1
            else:  # Another one, for what this answer lets go on.
                client.send_octets(PINGREQ)
                pings += 1
        missing = [body.number for body in sleeper.bodies() if not body.may_be_missing()]
        if missing:
            raise Broken(f"{sleeper.client_id} never got {len(missing)} messages, such as {missing[:5]}")
        sleeper.doubtful.update(body.number for body in sleeper.bodies())
        sleeper.waiting.clear()

    def _take(self, sleeper: Sleeper, publication: Publication) -> None:
        """It came, and those before it expired."""
        (number,) = _NUMBER.unpack_from(publication.payload)
        row = sleeper.waiting[publication.topic, publication.qos]
        if publication.dup and publication.qos == 1 and (not row or number < row[0].number):
            return  # The broker may never have read the acknowledgement of a client that closed upon it.
        if number in sleeper.doubtful:
            sleeper.doubtful.discard(number)
            return
        while row:
            body = row.popleft()
            if body.number == number:
                return
            if not body.may_be_missing():
                raise Broken(f"{sleeper.client_id} got message {number} while {body.number} was due")
        raise Broken(f"{sleeper.client_id} got message {number} again, or without a reason: {publication}")

    # --- publishing ------------------------------------------------------------------------------------------------

    def _publish_some(self) -> None:
        """A burst to one sleeper, or a message to all."""
        dice = self._dice
        sleeper = dice.choice(self._sleepers)
        if dice.random() < 0.1:
            self._publish((f"{self._name}/all", 1), self._sleepers, count=1)
        elif not sleeper.may_be_gone():
            self._publish((f"{sleeper.client_id}/news", dice.choice((1, 2))), [sleeper], count=dice.randrange(1, 60))

    def _publish(self, row: Row, sleepers: Iterable[Sleeper], count: int) -> None:
        # A session that may expire meanwhile is owed nothing: its books are closed when it comes back.
        receivers = [one for one in sleepers if one.has_session]
        if any(one.owed() + count > QUEUE_MAX for one in receivers):
            return
        size, dice = self._dice.choice(SIZES), self._dice
        expiry_s = dice.choice(SHORTLY_S) if dice.random() < 0.1 else None
        bodies = [self._body(size, expiry_s) for _ in range(count)]
        topic, qos = row
        self._send((topic, _NUMBER.pack(one.number).ljust(size, b"."), qos, False, expiry_s) for one in bodies)
        for receiver in receivers:
            receiver.waiting[row].extend(bodies)

    def _body(self, size: int, expiry_s: int | None) -> Body:
        self._count += 1
        return Body(self._count, size, None if expiry_s is None else time.monotonic() + expiry_s)

    def _send(self, messages: Iterable[tuple[str, bytes, int, bool, int | None]]) -> None:
        """Publish (topic, payload, QoS, retain, expiry) in order, a window at a time, until all are acknowledged."""
        rest = deque(messages)
        while rest:
            window = [rest.popleft() for _ in range(min(WINDOW, len(rest)))]
            self._publisher.send_octets(b"".join(_publish(one, packet_id) for packet_id, one in enumerate(window, 1)))
            for _ in range(sum(qos for _, _, qos, _, _ in window)):
                packet = self._publisher.packet()
                if packet is None or packet.kind not in {PUBACK, PUBREC, PUBCOMP} or packet.reason >= 0x80:
                    raise Broken(f"a publisher waited for its acknowledgements and got {packet}")
                if packet.kind == PUBREC:
                    self._publisher.acknowledge(PUBREL, packet.packet_id)
            self.messages += len(window)

    # --- retained messages -----------------------------------------------------------------------------------------

    def _change_retained(self) -> None:
        changes: list[tuple[str, bytes, int, bool, int | None]] = []
        for place in {self._dice.randrange(RETAINED_TOPICS) for _ in range(10)}:
            topic, size = f"{self._name}/r/{place}", self._dice.choice((0, *SIZES))
            changes.append((topic, _NUMBER.pack(self._count).ljust(size, b".") if size else b"", 1, True, None))
        self._send(changes)
        self._retained.update((topic, len(payload)) for topic, payload, _, _, _ in changes)
        if self._dice.random() < 0.02:
            self._check_retained()

    def _check_retained(self) -> None:
        with RawClient(self._address, level=5) as client:
            client.connect(f"{self._name}-looker")
            client.subscribe(f"{self._name}/r/#", qos=0)
            found: dict[str, int] = {}
            expected = {topic: size for topic, size in self._retained.items() if size}
            while len(found) < len(expected):
                one = client.publication()
                found[one.topic] = len(one.payload)
            found |= {one.topic: len(one.payload) for one in client.published_so_far()}
        if found != expected:
            raise Broken(f"retained messages of {self._name} are not what they were: {len(found)} of {len(expected)}")

    # --- books -----------------------------------------------------------------------------------------------------

    def _take_stock(self) -> None:
        here = [one for one in self._sleepers if not one.must_be_gone()]
        bodies = {body: body.size for one in here for body in one.bodies() if not body.may_be_missing()}
        kept = (*bodies.values(), *(size for size in self._retained.values() if size))
        self.live_bytes = sum(kept) + OVERHEAD_BYTES * len(kept) + SESSION_BYTES * len(here)

    def _connected(self, client_id: str) -> RawClient:
        client = RawClient(self._address, level=5)
        client.connect(client_id)
        return client


def _answer(client: RawClient, publication: Publication) -> set[int]:
    """Acknowledge; the identifier that waits for PUBREL."""
    client.acknowledge(PUBACK if publication.qos == 1 else PUBREC, publication.packet_id)
    return {publication.packet_id} if publication.qos == 2 else set()


def _publish(message: tuple[str, bytes, int, bool, int | None], packet_id: int) -> bytes:
    topic, payload, qos, retain, expiry_s = message
    properties = {} if expiry_s is None else {Property.MESSAGE_EXPIRY_INTERVAL: expiry_s}
    return raw_packets.publish(
        topic, payload, level=5, qos=qos, packet_id=packet_id, retain=retain, properties=properties
    )
