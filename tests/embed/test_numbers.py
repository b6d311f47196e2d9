"""Metrics, statistics and the ledger of an embedded broker."""

from collections.abc import Callable
from typing import Any

import whimbrel
from tests.embed.entering import entered
from tests.waiting import until


async def test_metrics_and_statistics_are_two_lists_and_the_counters_are_both(broker: whimbrel.Broker) -> None:
    async with entered(broker, "a", "b"):
        metrics, stats = broker.metrics(), broker.stats()
        assert metrics.keys().isdisjoint(stats)
        assert broker.counters().keys() == metrics.keys() | stats.keys()
        assert stats["sessions.count"] == 2
        await until(lambda: broker.metrics()["client.connected"] == 2)
    await until(lambda: broker.stats()["sessions.count"] == 0)
    assert broker.stats()["sessions.max"] == 2


async def test_the_ledger_of_a_broker_that_has_done_something_is_even(broker: whimbrel.Broker) -> None:
    async with entered(broker, "a"):
        await until(lambda: broker.stats()["retained.count"] == 3)
        assert await broker.publish("nobody", "x") == 0
        ledger = await broker.ledger()
    assert ledger.is_even
    assert {line.name: sum(line.came.values()) for line in ledger.lines}["routed"] == 4  # one, and three of $SYS


async def test_hooks_that_leave_a_client_to_the_listener_make_it_an_anonymous_one() -> None:
    async def ignore(_question: object) -> object:
        return whimbrel.IGNORE

    async def allow(_question: object) -> object:
        return whimbrel.Allow()

    for hook, count in ((ignore, 1), (allow, 0)):
        assert await anonymous_count(hook) == count


async def anonymous_count(hook: Callable[[Any], Any]) -> int:
    """How many of one client that is let in were anonymous, with this hook."""
    async with whimbrel.Broker(hooks={"authenticate": hook}) as broker, entered(broker, "a"):
        await until(lambda: broker.metrics()["client.connected"] == 1)
        assert broker.metrics()["client.auth.success"] == 1
        return broker.metrics()["client.auth.anonymous"]
