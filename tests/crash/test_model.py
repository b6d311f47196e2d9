"""The judge of the crash harness: it finds what it is there to find, and accuses nobody of what he may do."""

import pytest

from tests.crash.model import Message, Model, Receiver
from tests.crash.story import Fault


class Hall:
    """A model with one session that is subscribed to `t/#`."""

    def __init__(self) -> None:
        self.model = Model()
        self.session = self.model.receiver("session")
        self.held = self.model.subscribing(self.session, "t/#")
        self.model.subscribed(self.held)
        self._count = 0

    def send(self, topic: str = "t/a", *, qos: int = 2) -> Message:
        key = (1, self._count)
        self._count += 1
        message = Message(key, topic, qos, b"octets", retain=False, sent_at=0, wanted_by=())
        self.model.publishing(message)
        return message

    def publish(self, topic: str = "t/a", *, qos: int = 2) -> Message:
        message = self.send(topic, qos=qos)
        self.model.published(message)
        return message

    def get(self, message: Message, *, qos: int | None = None, receiver: Receiver | None = None) -> None:
        self.model.received(receiver or self.session, message.key, message.topic, qos or message.qos)


def lost(hall: Hall) -> list[Message]:
    return [message for _, message in hall.model.lost()]


def test_what_was_acknowledged_and_did_not_come_is_lost() -> None:
    hall = Hall()
    got, missing = hall.publish(), hall.publish()
    hall.get(got)
    assert lost(hall) == [missing]


def test_what_was_not_acknowledged_may_come_or_not() -> None:
    hall = Hall()
    came, _ = hall.send(), hall.send()
    hall.get(came)
    assert not lost(hall)


def test_a_subscription_that_begins_or_ends_meanwhile_leaves_both_outcomes_open() -> None:
    hall = Hall()
    begins = hall.model.receiver("begins")
    held = hall.model.subscribing(begins, "t/a")
    message = hall.send()
    hall.model.subscribed(held)
    hall.model.unsubscribing(hall.held)
    hall.model.published(message)
    assert not lost(hall)
    hall.get(message)
    hall.get(message, receiver=begins)


def test_qos_2_twice_is_a_fault_and_qos_1_is_not() -> None:
    hall = Hall()
    once, often = hall.publish(), hall.publish(qos=1)
    hall.get(once)
    with pytest.raises(Fault, match="twice"):
        hall.get(once)
    hall.get(often)
    hall.get(often)


def test_a_group_gets_a_message_of_qos_2_once_whoever_gets_it() -> None:
    hall = Hall()
    group = hall.model.receiver("group", is_ordered=False)
    for _ in range(2):
        hall.model.subscribed(hall.model.subscribing(group, "$share/group/s/#"))
    message = hall.publish("s/a")
    assert lost(hall) == [message]
    hall.get(message, receiver=group)
    with pytest.raises(Fault, match="twice"):
        hall.get(message, receiver=group)


def test_first_receipts_keep_the_order_of_a_topic_and_qos() -> None:
    hall = Hall()
    first, other_qos, other_topic, last = hall.publish(), hall.publish(qos=1), hall.publish("t/b"), hall.publish()
    for message in (other_topic, other_qos, last):
        hall.get(message)
    with pytest.raises(Fault, match="behind"):
        hall.get(first)


def test_a_repetition_at_qos_1_does_not_count_for_the_order() -> None:
    hall = Hall()
    messages = [hall.publish(qos=1) for _ in range(3)]
    for message in (*messages, *messages):
        hall.get(message)


def test_a_message_behind_unsuback_has_no_business_to_come() -> None:
    hall = Hall()
    hall.model.unsubscribing(hall.held)
    hall.model.unsubscribed(hall.held)
    with pytest.raises(Fault, match="without a subscription"):
        hall.get(hall.publish())


def test_a_discarded_session_is_owed_nothing() -> None:
    hall = Hall()
    hall.publish()
    hall.model.end(hall.session)
    assert not lost(hall)
    assert not hall.publish().wanted_by


def test_what_nobody_sent_is_a_fault() -> None:
    hall = Hall()
    with pytest.raises(Fault, match="nobody sent"):
        hall.model.received(hall.session, (9, 9), "t/a", 1)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("#", "t/a", True),
        ("t/#", "t", True),
        ("t/+", "t/a", True),
        ("t/+", "t/a/b", False),
        ("+/a", "t/a", True),
        ("t/a", "t/a/b", False),
        ("$share/g/t/+", "t/a", True),
    ],
)
def test_filters_match_as_the_specification_has_it(topic_filter: str, topic: str, *, matches: bool) -> None:
    model = Model()
    model.subscribed(model.subscribing(model.receiver("session"), topic_filter))
    message = Message((0, 0), topic, 1, b"octets", retain=False, sent_at=0, wanted_by=())
    model.publishing(message)
    model.published(message)
    assert bool(model.due()) is matches


def test_the_last_retained_message_of_each_publisher_may_be_the_state() -> None:
    model = Model()
    for publisher, number, payload in ((0, 0, b"old"), (0, 1, b"new"), (1, 0, b"")):
        message = Message((publisher, number), "r/0", 1, payload, retain=True, sent_at=0, wanted_by=())
        model.publishing(message)
        model.published(message)
    assert model.retained() == {"r/0": {b"new", b""}}
