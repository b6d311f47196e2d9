"""A tap: bounded, in order, counting what it loses, ending when it should."""

import asyncio
from typing import Any, cast

import pytest

from tests.engine.fake_core import Message, TapBatch
from tests.engine.running import running_engine
from whimbrel.engine.tap import BYTES_MAX, Tap


def tap_of(capacity: int) -> tuple[Tap, list[int]]:
    closed: list[int] = []
    return Tap(7, capacity, lambda tap: closed.append(tap.number)), closed


def batch(*payloads: bytes, dropped: int = 0) -> Any:
    return cast(Any, TapBatch(tap=7, messages=[Message(topic="a", payload=one) for one in payloads], dropped=dropped))


async def payloads_of(tap: Tap) -> list[bytes]:
    return [message.payload for message in await tap.batch()]


async def test_rows_come_in_order() -> None:
    tap, _ = tap_of(10)
    tap.feed(batch(b"1", b"2"))
    tap.feed(batch(b"3"))
    assert await payloads_of(tap) == [b"1", b"2", b"3"]


async def test_a_full_tap_drops_the_newest_and_counts_both_sides() -> None:
    tap, _ = tap_of(2)
    tap.feed(batch(b"1", b"2", b"3", dropped=4))
    assert (await payloads_of(tap), tap.dropped) == ([b"1", b"2"], 5)


def sized(*sizes: int) -> Any:
    messages = [Message(topic="a", payload=str(size).encode(), size_bytes=size) for size in sizes]
    return cast(Any, TapBatch(tap=7, messages=messages))


async def test_large_messages_are_dropped_where_their_bytes_are_too_many() -> None:
    tap, _ = tap_of(10)
    tap.feed(sized(BYTES_MAX - 2, 3, 2))
    tap.feed(sized(1))
    assert (await payloads_of(tap), tap.dropped) == ([str(BYTES_MAX - 2).encode(), b"2"], 2)
    tap.feed(sized(BYTES_MAX + 1, 1))
    assert ((await anext(tap)).size_bytes, tap.dropped) == (BYTES_MAX + 1, 3)
    tap.feed(sized(BYTES_MAX))
    assert (len(await tap.batch()), tap.dropped) == (1, 3)


async def test_a_batch_may_be_limited() -> None:
    tap, _ = tap_of(10)
    tap.feed(batch(b"1", b"2", b"3"))
    assert [len(await tap.batch(2)), len(await tap.batch(2))] == [2, 1]


async def test_iteration_waits_and_ends_with_the_data_plane_after_the_last_row() -> None:
    tap, _ = tap_of(10)

    async def read() -> list[bytes]:
        return [message.payload async for message in tap]

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    tap.feed(batch(b"1"))
    tap.end()
    assert await reader == [b"1"]


async def test_closing_unsubscribes_once_forgets_the_rest_and_wakes_the_reader() -> None:
    tap, closed = tap_of(10)
    reader = asyncio.ensure_future(tap.batch())
    await asyncio.sleep(0)
    tap.close()
    tap.close()
    assert (await reader, closed, tap.is_open) == ([], [7], False)


async def test_a_second_reader_is_refused() -> None:
    tap, _ = tap_of(10)
    first = asyncio.ensure_future(tap.batch())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already being read"):
        await tap.batch()
    tap.end()
    await first


async def test_a_reader_that_gave_up_leaves_the_tap_usable() -> None:
    tap, _ = tap_of(10)
    reader = asyncio.ensure_future(tap.batch())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    tap.feed(batch(b"1"))
    assert await payloads_of(tap) == [b"1"]


async def test_leaving_the_block_closes_the_tap_in_the_data_plane() -> None:
    async with running_engine() as (engine, plane):
        async with engine.open_tap("a"):
            assert len(plane.taps) == 1
        assert plane.taps == {}
        assert engine.counters()["whimbrel.engine.taps"] == 0


async def test_a_batch_for_a_closed_tap_is_ignored() -> None:
    async with running_engine() as (engine, plane):
        tap = engine.open_tap("a")
        plane.tell(cast(Any, TapBatch(tap=tap.number, messages=[Message(topic="a")])))
        tap.close()
        await engine.kick("wait for the batch")
        assert await tap.batch() == []
