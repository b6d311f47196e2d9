"""The data plane needs no interpreter: messages flow while Python is blocked, and Python sleeps while messages flow."""

import asyncio
import threading
import time

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import RawClient
from tests.waiting import wait_until
from whimbrel.testing.background import BackgroundBroker

RETAINED_AT_START = 3  # $SYS: who this broker is
BLOCKED_S = 2.0
MESSAGES = 200


def exchange(publisher: RawClient, subscriber: RawClient) -> list[float]:
    """Send messages one by one and note when each has arrived."""
    arrived = []
    for number in range(MESSAGES):
        publisher.publish("a/b", str(number).encode())
        assert subscriber.message() == ("a/b", str(number).encode())
        arrived.append(time.monotonic())
    return arrived


async def test_a_loop_that_is_blocked_for_two_seconds_stalls_no_message(broker: whimbrel.Broker) -> None:
    async with entered(broker, "pub", "sub", level=4) as (publisher, subscriber):
        await asyncio.to_thread(subscriber.subscribe, "a/#")
        # A tap is open, so Python has asked for every one of these messages and still holds up nobody.
        tap = broker.subscribe("a/#")
        arrived: list[float] = []
        is_blocked = threading.Event()

        def clients() -> None:
            assert is_blocked.wait(5)
            arrived.extend(exchange(publisher, subscriber))

        thread = threading.Thread(target=clients)
        thread.start()
        is_blocked.set()
        began = time.monotonic()
        time.sleep(BLOCKED_S)  # noqa: ASYNC251  the very thing that is tested
        ended = time.monotonic()
        thread.join(10)
        assert len(arrived) == MESSAGES
        assert began <= arrived[0]
        assert arrived[-1] < ended
        assert len(await tap.batch()) > 0


def test_a_publish_that_nobody_asked_for_never_touches_the_interpreter() -> None:
    with BackgroundBroker() as broker:
        address = (broker.host, broker.port)
        with RawClient(address) as publisher, RawClient(address) as subscriber:
            publisher.connect("pub")
            subscriber.connect("sub")
            subscriber.subscribe("a/#")
            wait_until(lambda: broker.counters()["messages.retained"] == RETAINED_AT_START)
            before = broker.counters()
            exchange(publisher, subscriber)
            wait_until(lambda: broker.counters()["messages.received"] == MESSAGES)
            after = broker.counters()
    assert [after[name] - before[name] for name in ("whimbrel.engine.events", "whimbrel.engine.batches")] == [0, 0]
