"""Hooks on real connections: what they decide is what the client sees, what they are told is what happened."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import CONNACK, PUBACK, RawClient
from tests.raw_packets import connect
from tests.waiting import until
from whimbrel import IGNORE, Allow, Deny, Each, Reason

NOT_AUTHORIZED = 0x87


async def connected(broker: whimbrel.Broker, client_id: str, *, level: int = 5, username: str | None = None) -> int:
    client = await asyncio.to_thread(RawClient, (broker.host, broker.port), level=level)
    try:
        code, _ = await asyncio.to_thread(client.connect, client_id, username=username)
        return code
    finally:
        client.close()


async def subscribed(broker: whimbrel.Broker, client_id: str) -> int:
    async with entered(broker, client_id) as (client,):
        return await asyncio.to_thread(client.subscribe, "a")


@pytest.mark.parametrize(("level", "code"), [(4, 4), (5, 0x86)])
async def test_a_hook_decides_who_enters_and_the_refusal_fits_the_version(level: int, code: int) -> None:
    async def only_ann(question: Any) -> Any:
        return Allow() if question.username == "ann" else Deny(Reason.BAD_CREDENTIALS)

    async with whimbrel.Broker(hooks={"authenticate": only_ann}) as broker:
        assert await connected(broker, "c1", level=level, username="ann") == 0
        assert await connected(broker, "c2", level=level, username="bob") == code


async def test_the_question_holds_what_connect_said(broker: whimbrel.Broker) -> None:
    seen = []

    @broker.hook.authenticate
    async def look(question: Any) -> Any:
        seen.append(question)
        return IGNORE

    assert await connected(broker, "c1", username="ann") == 0
    (question,) = seen
    assert (question.client_id, question.username, question.protocol_version) == ("c1", "ann", 5)
    assert (question.listener, question.is_anonymous_allowed) == ("tcp:default", True)
    assert question.peer.startswith("127.0.0.1:")


async def test_a_slow_hook_holds_up_its_own_client_only(broker: whimbrel.Broker) -> None:
    gate = asyncio.Event()

    @broker.hook.authenticate
    async def slow_for_some(question: Any) -> Any:
        if question.client_id == "slow":
            await gate.wait()
        return IGNORE

    slow = asyncio.ensure_future(connected(broker, "slow"))
    await until(lambda: broker.counters()["whimbrel.hooks.questions.in_progress"])
    assert await connected(broker, "quick") == 0
    assert not slow.done()
    gate.set()
    assert await slow == 0


async def test_a_hook_that_misses_its_deadline_refuses_with_server_unavailable() -> None:
    async def never(_question: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async with whimbrel.Broker({"hooks.deadline": "50ms"}, hooks={"authenticate": never}) as broker:
        assert await connected(broker, "c1") == 0x88


async def test_publish_and_subscribe_are_authorized_topic_by_topic(broker: whimbrel.Broker) -> None:
    @broker.hook.authorize
    async def no_secrets(question: Any) -> Any:
        return Each([Deny() if topic.startswith("secret") else Allow() for topic in question.topics])

    async with entered(broker, "c1") as (client,), broker.subscribe("#") as everything:
        assert await asyncio.to_thread(client.subscribe, "secret/a") == NOT_AUTHORIZED
        assert await asyncio.to_thread(client.subscribe, "open/a") == 0
        await asyncio.to_thread(client.publish, "secret/a", b"no", qos=1)
        assert (await asyncio.to_thread(client.expect, PUBACK)).body[2] == NOT_AUTHORIZED
        await asyncio.to_thread(client.publish, "open/b", b"yes")
        assert (await anext(everything)).topic == "open/b"


async def test_a_refusal_is_told_in_the_words_of_the_hook(broker: whimbrel.Broker) -> None:
    @broker.hook.authorize
    async def own_shelf(question: Any) -> Any:
        return Each([Deny(Reason.QUOTA_EXCEEDED, f"{topic} is full") for topic in question.topics])

    async with entered(broker, "c1") as (client,):
        await asyncio.to_thread(client.publish, "a", b"no", qos=1)
        # Code, length of the properties, a reason string of 9 characters.
        assert (await asyncio.to_thread(client.expect, PUBACK)).body[2:] == b"\x97\x0c\x1f\x00\x09a is full"
        assert await asyncio.to_thread(client.subscribe_all, [("b", 0), ("c", 0)]) == [0x97, 0x97]
    broker.hook.authenticate(closed)
    client = await asyncio.to_thread(RawClient, (broker.host, broker.port), level=5)
    with client:
        client.send_octets(connect("c2", level=5))
        connack = await asyncio.to_thread(client.expect, CONNACK)
        assert (connack.reason, connack.body[-6:]) == (0x8A, b"closed")


async def closed(_question: Any) -> Any:
    return Deny(Reason.BANNED, "closed")


async def test_superusers_are_not_asked_again() -> None:
    asked = []

    async def all_powerful(_question: Any) -> Any:
        return Allow(is_superuser=True)

    async def count(question: Any) -> Any:
        asked.append(question)
        return Deny()

    async with whimbrel.Broker(hooks={"authenticate": all_powerful, "authorize": count}) as broker:
        assert await subscribed(broker, "c1") == 0
    assert asked == []


async def test_notices_tell_who_came_and_who_went_and_why(broker: whimbrel.Broker) -> None:
    came: list[Any] = []
    went: list[Any] = []

    @broker.hook.connected
    async def greet(batch: Sequence[Any]) -> None:
        came.extend(batch)

    @broker.hook.disconnected
    async def miss(batch: Sequence[Any]) -> None:
        went.extend(batch)

    async with entered(broker, "crash", "polite") as (_, polite):
        await asyncio.to_thread(polite.send, 0xE0, b"\x00\x0a\x1f\x00\x07closing")
        await until(lambda: len(went) == 1)
    await until(lambda: len(went) == 2)
    assert {notice.client_id: notice.text for notice in went} == {"polite": "closing", "crash": ""}
    assert {notice.client_id for notice in came} == {"crash", "polite"}
    assert {notice.client_id: notice.reason for notice in went} == {"polite": "normal", "crash": "tcp_closed"}


async def test_a_hook_that_is_taken_out_is_asked_no_more(broker: whimbrel.Broker) -> None:
    async def nobody(_question: Any) -> Any:
        return Deny()

    registration = broker.hook.register("authenticate", nobody)
    assert await connected(broker, "c1") == NOT_AUTHORIZED
    broker.hook.remove(registration)
    assert await connected(broker, "c1") == 0
