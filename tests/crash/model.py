"""What clients were promised and what they got: the judge of a round.

Knows messages, subscriptions, sessions and groups as the clients saw them, in the order in which one thread saw it all.
Knows no socket. An answer that has not come leaves both outcomes open: a message that is not acknowledged may be lost,
a subscription that is not acknowledged may match or not. Raises `Fault` as soon as something is certain.

A session must get a message if one subscription of it was certain from before the message was first sent until it was
acknowledged. It may get it if one could have matched at any time between. Once at QoS 2, at least once at QoS 1, and
first receipts in the order of sending, for each publisher, topic, and QoS on both ways.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from tests.crash.story import Fault

Key: TypeAlias = tuple[int, int]
"""A message: number of its publisher, and which of its messages it is."""


@dataclass(slots=True, eq=False)
class Message:
    """A PUBLISH, however often it is sent. Times are turns of the model's clock."""

    key: Key
    topic: str
    qos: int
    payload: bytes
    retain: bool
    sent_at: int
    wanted_by: tuple["Held", ...]
    acked_at: int | None = None


@dataclass(slots=True, eq=False)
class Held:
    """A subscription: possible from SUBSCRIBE to UNSUBACK, certain from SUBACK to UNSUBSCRIBE."""

    owner: "Receiver"
    topic_filter: str
    possible_from: int
    certain_from: int | None = None
    certain_until: int | None = None
    possible_until: int | None = None

    @property
    def is_certain(self) -> bool:
        return self.certain_from is not None and self.certain_until is None

    def could_match(self, message: Message) -> bool:
        """Whether it could have been there while the broker may have routed the message."""
        is_early = message.acked_at is None or self.possible_from <= message.acked_at
        return is_early and (self.possible_until is None or self.possible_until >= message.sent_at)


@dataclass(eq=False)
class Receiver:
    """Who gets messages: a session, or a group of them. `is_ordered`: not where messages go from member to member."""

    name: str
    is_ordered: bool = True
    held: list[Held] = field(default_factory=list)
    due: dict[Key, Message] = field(default_factory=dict)
    got: dict[Key, int] = field(default_factory=dict)  # at which QoS
    last: dict[tuple[int, str, int, int], int] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


class Model:
    """All of it."""

    def __init__(self) -> None:
        self.now = 0
        self.messages: dict[Key, Message] = {}
        self.receivers: list[Receiver] = []
        self.receipts = 0
        self.acknowledged = 0
        self._certain: dict[str, tuple[Held, ...]] = {}
        self._retained: dict[str, dict[int, Message]] = {}

    def tick(self) -> int:
        """Something happens after everything that happened before."""
        self.now += 1
        return self.now

    def receiver(self, name: str, *, is_ordered: bool = True) -> Receiver:
        """A session or a group that begins."""
        self.receivers.append(Receiver(name, is_ordered))
        return self.receivers[-1]

    def end(self, receiver: Receiver) -> None:
        """Nothing is due to a session that its client discards."""
        self.receivers.remove(receiver)
        receiver.due.clear()
        self._certain.clear()

    def subscribing(self, receiver: Receiver, topic_filter: str) -> Held:
        """SUBSCRIBE goes out for the first time."""
        held = Held(receiver, topic_filter, self.tick())
        receiver.held.append(held)
        return held

    def subscribed(self, held: Held) -> None:
        """SUBACK."""
        held.certain_from = self.tick()
        self._certain.clear()

    def unsubscribing(self, held: Held) -> None:
        """UNSUBSCRIBE goes out for the first time."""
        held.certain_until = self.tick()
        self._certain.clear()

    def unsubscribed(self, held: Held) -> None:
        """UNSUBACK."""
        held.possible_until = self.tick()

    def publishing(self, message: Message) -> None:
        """PUBLISH goes out for the first time."""
        message.sent_at = self.tick()
        message.wanted_by = self._certain_for(message.topic)
        self.messages[message.key] = message

    def published(self, message: Message) -> None:
        """PUBACK or PUBREC: it must come to everybody who wanted it all the while."""
        message.acked_at = self.tick()
        self.acknowledged += 1
        if message.retain:
            self._retained.setdefault(message.topic, {})[message.key[0]] = message
        if not message.payload:
            return  # It clears a retained message, and nobody can tell it from another one.
        for held in message.wanted_by:
            if held.certain_until is None and held.owner in self.receivers and message.key not in held.owner.got:
                held.owner.due[message.key] = message

    def received(self, receiver: Receiver, key: Key, topic: str, qos: int) -> None:
        """PUBLISH came, and was not a repetition that its packet identifier gives away."""
        message = self.messages.get(key)
        if message is None or message.topic != topic:
            raise Fault(f"{receiver} got a message on {topic} that nobody sent: {key}", receiver.name, key)
        if key not in receiver.got:
            self._first(receiver, message, qos)
        elif receiver.got[key] == 2:
            raise Fault(f"{receiver} got a message of QoS 2 twice: {key} on {topic}", receiver.name, key)
        else:
            # What came at QoS 1 may have come before its commit, and be routed again to other subscriptions.
            receiver.got[key] = qos

    def _first(self, receiver: Receiver, message: Message, qos: int) -> None:
        if not any(_matches(held.topic_filter, message.topic) and held.could_match(message) for held in receiver.held):
            what = f"{receiver} got {message.key} on {message.topic} without a subscription"
            raise Fault(what, receiver.name, message.key)
        receiver.got[message.key] = qos
        receiver.due.pop(message.key, None)
        self.receipts += 1
        publisher, number = message.key
        row = (publisher, message.topic, message.qos, qos)
        last = receiver.last.get(row, -1)
        # One that was sent before a subscription was certain may have come by a later transmission.
        is_wanted = any(held.owner is receiver for held in message.wanted_by)
        if receiver.is_ordered and is_wanted and number < last:
            what = f"{receiver} got {message.key} on {message.topic} behind ({publisher}, {last}) at QoS {qos}"
            raise Fault(what, receiver.name, message.key, (publisher, last))
        receiver.last[row] = number

    def due(self) -> int:
        """Receipts that are still to come."""
        return sum(len(receiver.due) for receiver in self.receivers)

    def lost(self) -> Iterator[tuple[Receiver, Message]]:
        """What must have come and has not."""
        for receiver in self.receivers:
            yield from ((receiver, message) for message in receiver.due.values())

    def retained(self) -> dict[str, set[bytes]]:
        """What each topic may hold once everything is acknowledged; empty octets: nothing."""
        return {topic: {one.payload for one in last.values()} for topic, last in self._retained.items()}

    def _certain_for(self, topic: str) -> tuple[Held, ...]:
        if topic not in self._certain:
            everybody = (held for receiver in self.receivers for held in receiver.held)
            wanted = (held for held in everybody if held.is_certain and _matches(held.topic_filter, topic))
            self._certain[topic] = tuple(wanted)
        return self._certain[topic]


@lru_cache(maxsize=4096)
def _matches(topic_filter: str, topic: str) -> bool:
    """Section 4.7, without `$`."""
    return _levels_match(plain(topic_filter).split("/"), topic.split("/"))


def _levels_match(wanted: list[str], levels: list[str]) -> bool:
    if wanted == ["#"] or not (wanted or levels):
        return True
    if not wanted or not levels:
        return False
    return wanted[0] in {"+", levels[0]} and _levels_match(wanted[1:], levels[1:])


def plain(topic_filter: str) -> str:
    """Without the group."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


def keys(messages: Iterable[Message]) -> list[Key]:
    """Their names, in order."""
    return sorted(message.key for message in messages)
