"""The use cases over an engine with the double of the binding."""

import pytest

from tests.engine.running import running_engine
from whimbrel.errors import ClientNotFound
from whimbrel.services import Services


async def test_all_clients_are_walked_page_by_page() -> None:
    async with running_engine() as (engine, plane):
        plane.enter(*(f"c{number}" for number in range(25)))
        listed = [record.client_id async for record in Services.over(engine).clients.walk(page_size=10)]
        assert listed == [f"c{number}" for number in range(25)]


@pytest.mark.parametrize("limit", [0, 10_001])
async def test_a_page_size_out_of_range_is_refused(limit: int) -> None:
    async with running_engine() as (engine, _):
        with pytest.raises(ValueError, match="1 to 10000 records"):
            await Services.over(engine).clients.page(limit=limit)


async def test_kicking_ends_the_session_and_a_stranger_is_not_found() -> None:
    async with running_engine() as (engine, plane):
        plane.enter("c1")
        clients = Services.over(engine).clients
        await clients.kick("c1")
        assert await clients.all() == []
        with pytest.raises(ClientNotFound, match="there is no client 'c1'"):
            await clients.kick("c1")


async def test_text_is_published_as_utf_8() -> None:
    async with running_engine() as (engine, plane):
        await Services.over(engine).messages.publish("a", "grün", retain=True)
        assert (plane.published[0].payload, plane.published[0].retain) == ("grün".encode(), True)


async def test_metrics_join_their_sources_in_order_of_name() -> None:
    async with running_engine() as (engine, _):
        metrics = Services.over(engine, lambda: {"whimbrel.hooks.failed": 3}).metrics
        metrics.include(lambda: {"a.first": 1})
        counters = metrics.counters()
        assert (counters["whimbrel.hooks.failed"], counters["messages.received"], next(iter(counters))) == (
            3,
            0,
            "a.first",
        )
