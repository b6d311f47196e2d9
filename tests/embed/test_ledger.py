"""The ledger: every delivery that was offered to a session is found again as sent, waiting, or dropped for a reason.

The property is checked on a real broker after every step of random histories of one subscriber.
"""

import enum
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.embed.entering import enter
from tests.raw_client import RawClient
from tests.raw_packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, Property, Publication, subscribe
from tests.waiting import wait_until
from whimbrel.testing.background import BackgroundBroker

SESSION_FOR_A_MINUTE = {Property.SESSION_EXPIRY_INTERVAL: 60}
NO_MATCHING_SUBSCRIBERS = 0x10


def dropped(counters: dict[str, int]) -> dict[str, int]:
    """The reasons for drops that happened, and how often."""
    prefix = "delivery.dropped."
    return {name.removeprefix(prefix): n for name, n in counters.items() if name.startswith(prefix) and n}


def test_what_waits_in_a_session_that_ends_is_dropped_with_that_reason(whimbrel_broker: BackgroundBroker) -> None:
    with enter(whimbrel_broker, "c1", properties=SESSION_FOR_A_MINUTE) as client:
        client.subscribe("t", qos=1)
        client.disconnect()
    for _ in range(5):
        whimbrel_broker.publish("t", "x", qos=1)
    with enter(whimbrel_broker, "c1", clean=True) as client:
        assert client.sent_so_far() == []
    counters = whimbrel_broker.counters()
    assert (counters["delivery.dropped"], dropped(counters)) == (5, {"session_ended": 5})


def test_what_is_sent_again_is_not_counted_as_delivered_again(whimbrel_broker: BackgroundBroker) -> None:
    with enter(whimbrel_broker, "c1", properties=SESSION_FOR_A_MINUTE) as client:
        client.subscribe("t", qos=1)
        whimbrel_broker.publish("t", "x", qos=1)
        assert not client.publication().dup
    for sent in (2, 3):
        with enter(whimbrel_broker, "c1", clean=False, properties=SESSION_FOR_A_MINUTE) as client:
            assert client.publication().dup
        wait_sent(whimbrel_broker, sent)
        assert whimbrel_broker.counters()["messages.delivered"] == 1


def wait_sent(broker: BackgroundBroker, count: int) -> None:
    # The numbers of a turn are shown at its end, when the client has its message already.
    wait_until(lambda: broker.counters()["messages.sent"] == count, what=f"messages.sent == {count}")


def test_what_was_sent_and_cannot_be_sent_again_is_not_dropped_as_well(whimbrel_broker: BackgroundBroker) -> None:
    with enter(whimbrel_broker, "c1", properties=SESSION_FOR_A_MINUTE) as client:
        client.subscribe("t", qos=1)
        whimbrel_broker.publish("t", bytes(300), qos=1)
        assert not client.publication().dup
    small = SESSION_FOR_A_MINUTE | {Property.MAXIMUM_PACKET_SIZE: 100}
    with enter(whimbrel_broker, "c1", clean=False, properties=small) as client:
        assert client.sent_so_far() == []
    whimbrel_broker.clients()
    counters = whimbrel_broker.counters()
    assert (counters["messages.delivered"], dropped(counters)) == (1, {})


class Act(enum.Enum):
    """What may happen next; in the order of simplicity, towards which Hypothesis shrinks a failure."""

    PUBLISH_QOS_0 = enum.auto()
    PUBLISH_QOS_1 = enum.auto()
    PUBLISH_QOS_2 = enum.auto()
    PUBLISH_EXPIRED = enum.auto()
    PUBLISH_LARGE = enum.auto()
    ACKNOWLEDGE = enum.auto()
    CRASH = enum.auto()
    RESUME = enum.auto()
    RESUME_NARROW = enum.auto()
    START_ANEW = enum.auto()
    END_SESSION = enum.auto()
    KICK = enum.auto()


class History:
    """One broker, one publisher, one subscriber to `q0`, `q1` and `q2` at these QoS; and what was offered to it."""

    def __init__(self) -> None:
        self.broker = BackgroundBroker({"mqtt.max_inflight": 2, "mqtt.max_mqueue_len": 3})
        self.offered = 0
        self.open: list[Packet] = []
        self.subscriber: RawClient | None = None

    def __enter__(self) -> Self:
        self.broker.start()
        self.publisher = enter(self.broker, "pub")
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.publisher.close()
        self.crash()
        self.broker.stop()

    def publish(self, qos: int, *, payload: bytes = b"x", expiry_s: int = 60) -> None:
        properties = {Property.MESSAGE_EXPIRY_INTERVAL: expiry_s}
        reason = self.publisher.publish_confirmed(f"q{qos}", payload, qos=2, properties=properties)
        self.offered += reason != NO_MATCHING_SUBSCRIBERS

    def acknowledge(self) -> None:
        """Answer the oldest packet that waits for an answer."""
        if self.subscriber is None or not self.open:
            return
        packet = self.open.pop(0)
        if packet.kind == PUBREL:
            self.subscriber.acknowledge(PUBCOMP, packet.packet_id)
        else:
            publication = Publication.read(packet, level=5)
            self.subscriber.acknowledge(PUBACK if publication.qos == 1 else PUBREC, publication.packet_id)

    def crash(self) -> None:
        if self.subscriber is not None:
            self.subscriber.close()
        self.subscriber, self.open = None, []

    def resume(self, *, clean: bool = False, receive_maximum: int = 10) -> None:
        self.crash()
        properties = SESSION_FOR_A_MINUTE | {
            Property.RECEIVE_MAXIMUM: receive_maximum,
            Property.MAXIMUM_PACKET_SIZE: 500,
        }
        self.subscriber = enter(self.broker, "sub", clean=clean, properties=properties)
        # Resumed messages may come before SUBACK, so it is not waited for here.
        self.subscriber.send_octets(subscribe([(f"q{qos}", qos) for qos in range(3)], level=5))

    def end_session(self) -> None:
        if self.subscriber is not None:
            self.subscriber.disconnect(properties={Property.SESSION_EXPIRY_INTERVAL: 0})
        self.crash()

    def kick(self) -> None:
        if any(one.client_id == "sub" for one in self.broker.clients()):
            self.broker.kick("sub")
        self.crash()

    def check(self) -> None:
        """Let the broker come to rest, then compare."""
        if self.subscriber is not None:
            # Twice, because what an acknowledgement makes room for may come behind the first answer.
            packets = self.subscriber.sent_so_far() + self.subscriber.sent_so_far()
            self.open += [one for one in packets if one.kind == PUBREL or (one.kind == PUBLISH and one.flags & 6)]
        # The page is made in a turn after everything above, so the numbers of those turns can be read.
        waiting = sum(one.mqueue_len for one in self.broker.clients() if one.client_id == "sub")
        ledger = self.broker.ledger()
        assert ledger.is_even, ledger
        counters = self.broker.counters()
        reasons = dropped(counters)
        assert counters["delivery.dropped"] == sum(reasons.values())
        assert self.offered == counters["messages.delivered"] + waiting + counters["delivery.dropped"], (
            f"{self.offered} offered; {counters['messages.delivered']} sent, {waiting} waiting, {reasons} dropped"
        )


ACTS: dict[Act, Callable[[History], None]] = {
    Act.PUBLISH_QOS_0: lambda history: history.publish(0),
    Act.PUBLISH_QOS_1: lambda history: history.publish(1),
    Act.PUBLISH_QOS_2: lambda history: history.publish(2),
    Act.PUBLISH_EXPIRED: lambda history: history.publish(1, expiry_s=0),
    Act.PUBLISH_LARGE: lambda history: history.publish(1, payload=bytes(600)),
    Act.ACKNOWLEDGE: History.acknowledge,
    Act.CRASH: History.crash,
    Act.RESUME: History.resume,
    Act.RESUME_NARROW: lambda history: history.resume(receive_maximum=1),
    Act.START_ANEW: lambda history: history.resume(clean=True),
    Act.END_SESSION: History.end_session,
    Act.KICK: History.kick,
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(Act), max_size=40))
def test_everything_offered_is_sent_once_or_waits_or_is_dropped_for_a_reason(acts: list[Act]) -> None:
    with History() as history:
        for act in acts:
            ACTS[act](history)
            history.check()
