"""Wills: who may leave one, when it is published, when its time starts (MQTT 5.0, sections 3.1.2.5, 3.1.3.2)."""

from typing import Any

import pytest

from tests.embed.entering import enter
from tests.raw_client import RawClient
from tests.raw_packets import NO_LOCAL, Property, Will
from tests.waiting import wait_until
from whimbrel import Allow, Deny
from whimbrel.testing.background import BackgroundBroker

NOT_AUTHORIZED = 0x87
TOPIC_NAME_INVALID = 0x90
SESSION_FOR_A_MINUTE = {Property.SESSION_EXPIRY_INTERVAL: 60}


def code_of(broker: BackgroundBroker, will: Will, *, level: int = 5) -> int:
    """CONNACK's code for a client with this will, which then crashes."""
    with RawClient((broker.host, broker.port), level=level) as client:
        return client.connect("dying", will=will)[0]


async def no_secrets(question: Any) -> Any:
    is_secret = question.action == "publish" and question.topics[0].startswith("secret/")
    return Deny() if is_secret else Allow()


@pytest.mark.parametrize(("level", "code"), [(4, 5), (5, NOT_AUTHORIZED)])
def test_a_client_that_may_not_publish_its_will_is_refused_and_nothing_of_it_stays(level: int, code: int) -> None:
    with BackgroundBroker(hooks={"authorize": no_secrets}) as broker, enter(broker, "watch") as watcher:
        watcher.subscribe("#")
        assert code_of(broker, Will("secret/a", b"x", retain=True), level=level) == code
        assert watcher.sent_so_far() == []
        watcher.subscribe("secret/#")
        assert watcher.sent_so_far() == []


def test_a_client_that_may_publish_its_will_enters_and_leaves_it() -> None:
    with BackgroundBroker(hooks={"authorize": no_secrets}) as broker, enter(broker, "watch") as watcher:
        watcher.subscribe("#")
        assert code_of(broker, Will("open/a", b"x")) == 0
        assert watcher.message() == ("open/a", b"x")


def test_the_question_about_a_will_is_that_about_such_a_publish() -> None:
    asked = []

    async def note(question: Any) -> Any:
        asked.append((question.client_id, question.action, question.topics, question.qos, question.retain))
        return Allow()

    with BackgroundBroker(hooks={"authorize": note}) as broker:
        assert code_of(broker, Will("a/b", b"x", qos=1, retain=True)) == 0
    assert asked == [("dying", "publish", ["a/b"], 1, True)]


@pytest.mark.parametrize(("level", "code"), [(4, 3), (5, TOPIC_NAME_INVALID)])
def test_a_will_with_too_many_levels_is_refused(level: int, code: int) -> None:
    with BackgroundBroker({"mqtt.max_topic_levels": 3}) as broker:
        assert code_of(broker, Will("a/b/c"), level=level) == 0
        assert code_of(broker, Will("a/b/c/d"), level=level) == code


@pytest.mark.parametrize(
    ("level", "reason", "is_published"),
    [(4, 0x00, False), (5, 0x00, False), (5, 0x04, True), (5, 0x80, True), (5, 0x81, True), (5, 0x93, True)],
)
def test_only_a_normal_disconnect_takes_the_will_back(
    whimbrel_broker: BackgroundBroker, level: int, reason: int, is_published: bool
) -> None:
    with (
        enter(whimbrel_broker, "watch") as watcher,
        enter(whimbrel_broker, "dying", level=level, will=Will("w", b"x")) as dying,
    ):
        watcher.subscribe("w")
        dying.disconnect(reason)
        assert len(watcher.published_so_far()) == is_published


def test_the_expiry_interval_of_a_will_starts_when_it_is_published(whimbrel_broker: BackgroundBroker) -> None:
    will = Will("w", b"x", properties={Property.MESSAGE_EXPIRY_INTERVAL: 1})
    with enter(whimbrel_broker, "watch") as watcher, enter(whimbrel_broker, "dying", will=will) as dying:
        watcher.subscribe("w")
        # Real time: the connection must live longer than the interval, whose shortest is one second.
        assert not dying.hears_within(1.1)
        dying.close()
        assert watcher.publication().expiry_s == 1


@pytest.mark.parametrize(("option", "received"), [(0, [b"x"]), (NO_LOCAL, [])])
def test_no_local_holds_for_a_clients_own_will(
    whimbrel_broker: BackgroundBroker, option: int, received: list[bytes]
) -> None:
    with enter(whimbrel_broker, "watch") as watcher:
        watcher.subscribe("w")
        with enter(whimbrel_broker, "own", will=Will("w", b"x", qos=1), properties=SESSION_FOR_A_MINUTE) as crashing:
            crashing.subscribe("w", qos=1 | option)
        assert watcher.message() == ("w", b"x")
        with enter(whimbrel_broker, "own", clean=False, properties=SESSION_FOR_A_MINUTE) as resumed:
            # A resumed session's messages are written together with CONNACK.
            assert [one.payload for one in resumed.published_so_far()] == received
        expected = 1 - len(received)
        wait_until(lambda: whimbrel_broker.counters()["delivery.dropped.no_local"] == expected)
