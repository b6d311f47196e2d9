"""What an answer of an authorize hook counts for: the packet that asked, and how long it is remembered."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import whimbrel
from tests.embed.entering import enter, entered
from tests.raw_client import PUBACK, RawClient
from tests.raw_packets import PUBCOMP, PUBREC, PUBREL, Property
from tests.waiting import until
from whimbrel import Allow, Deny, Reason
from whimbrel.testing.background import BackgroundBroker

NO_MATCHING_SUBSCRIBERS = 0x10
IMPLEMENTATION_SPECIFIC_ERROR = 0x83
NOT_AUTHORIZED = 0x87
QUOTA_EXCEEDED = 0x97
SESSION_FOR_A_MINUTE = {Property.SESSION_EXPIRY_INTERVAL: 60}


async def test_an_answer_belongs_to_the_packet_that_asked(broker: whimbrel.Broker) -> None:
    gate = asyncio.Event()
    asked = []

    async def allow_late(_question: Any) -> Any:
        await gate.wait()
        return Allow()

    async def deny(question: Any) -> Any:
        asked.append(question.topics)
        return Deny()

    async with entered(broker, "c1") as (client,):
        registration = broker.hook.register("authorize", allow_late)
        await asyncio.to_thread(client.publish, "a", b"", qos=1)
        await until(lambda: broker.counters()["whimbrel.hooks.questions.in_progress"])
        broker.hook.remove(registration)
        gate.set()
        assert (await asyncio.to_thread(client.expect, PUBACK)).reason == NO_MATCHING_SUBSCRIBERS
        broker.hook.register("authorize", deny)
        assert await asyncio.to_thread(client.subscribe, "secret/#") == NOT_AUTHORIZED
    assert asked == [["secret/#"]]


async def forever(_question: Any) -> Any:
    await asyncio.get_running_loop().create_future()


async def failing(_question: Any) -> Any:
    raise RuntimeError("the back end is ill")


def denying(reason: Reason) -> Callable[[Any], Any]:
    async def deny(_question: Any) -> Any:
        return Deny(reason)

    return deny


@pytest.mark.parametrize(
    ("first_answer", "codes", "asked"),
    [
        pytest.param(forever, [IMPLEMENTATION_SPECIFIC_ERROR, NO_MATCHING_SUBSCRIBERS], 2, id="time-out"),
        pytest.param(failing, [IMPLEMENTATION_SPECIFIC_ERROR, NO_MATCHING_SUBSCRIBERS], 2, id="failure"),
        pytest.param(denying(Reason.QUOTA_EXCEEDED), [QUOTA_EXCEEDED, NO_MATCHING_SUBSCRIBERS], 2, id="quota"),
        pytest.param(denying(Reason.NOT_AUTHORIZED), [NOT_AUTHORIZED, NOT_AUTHORIZED], 1, id="denial"),
    ],
)
def test_only_a_denial_is_remembered(first_answer: Callable[[Any], Any], codes: list[int], asked: int) -> None:
    questions = []

    async def first_so_then_yes(question: Any) -> Any:
        questions.append(question)
        return Allow() if len(questions) > 1 else await first_answer(question)

    # Real time: the first question of one row takes the whole deadline.
    settings = {"hooks.deadline": "20ms"}
    with (
        BackgroundBroker(settings, hooks={"authorize": first_so_then_yes}) as broker,
        enter(broker, "c1") as client,
    ):
        assert [client.publish_confirmed("t", b"") for _ in codes] == codes
    assert len(questions) == asked


class Switch:
    """An authorize hook that refuses publishes to `denied`; a test may change it at any time."""

    def __init__(self) -> None:
        self.denied = ""

    async def __call__(self, question: Any) -> Any:
        return Deny() if question.action == "publish" and question.topics[0] == self.denied else Allow()


def test_a_qos_2_message_that_was_taken_in_is_not_judged_again_when_it_is_sent_again() -> None:
    switch = Switch()
    with BackgroundBroker(hooks={"authorize": switch}) as broker, enter(broker, "watch") as watcher:
        watcher.subscribe("#")
        with enter(broker, "c1", properties=SESSION_FOR_A_MINUTE) as client:
            assert publish_qos_2(client, "a", b"1") == 0
        switch.denied = "a"
        with enter(broker, "c1", clean=False, properties=SESSION_FOR_A_MINUTE) as client:
            assert publish_qos_2(client, "a", b"1", dup=True) == 0
            client.acknowledge(PUBREL, 5)
            client.expect(PUBCOMP)
            assert publish_qos_2(client, "a", b"3") == NOT_AUTHORIZED  # its identifier is free at once
            assert publish_qos_2(client, "b", b"2") == 0
        assert [one.payload for one in watcher.published_so_far()] == [b"1", b"2"]


def publish_qos_2(client: RawClient, topic: str, payload: bytes, *, dup: bool = False) -> int:
    """PUBLISH with packet identifier 5 and no PUBREL; PUBREC's code."""
    client.publish(topic, payload, qos=2, packet_id=5, dup=dup)
    return client.expect(PUBREC).reason
