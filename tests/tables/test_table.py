"""Tables over the double of the binding: memory says what is durable, and nothing else."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engine.fake_core import DataPlane, RowsChanged
from tests.engine.running import running_engine
from tests.waiting import until
from whimbrel.engine.rows import PENDING_MAX
from whimbrel.errors import EngineError, StorageRefused
from whimbrel.tables import Family, Tables


@dataclass(frozen=True)
class User:
    name: str
    level: int = 0


USERS = Family(name="users", row=User, rows_max=3, row_bytes_max=60)
BANS = Family(name="bans", row=User)


async def test_what_is_put_is_in_memory_and_in_the_store_and_what_is_deleted_in_neither() -> None:
    async with running_engine() as (engine, plane):
        users = Tables(engine.rows).open(USERS)
        await users.put("a/1", User("ann"))
        await users.put("b", User("bob", 2))
        assert plane.rows == {b"users/a/1": b'1 {"name":"ann","level":0}', b"users/b": b'1 {"name":"bob","level":2}'}
        assert dict(users.items()) == {"a/1": User("ann"), "b": User("bob", 2)}
        assert (await users.delete("a/1"), await users.delete("a/1")) == (True, False)
        assert (list(plane.rows), len(users), "b" in users, users.get("a/1")) == ([b"users/b"], 1, True, None)
        metrics = engine.metrics()
        assert (metrics["whimbrel.rows.changes"], metrics["whimbrel.rows.changes.waiting"]) == (3, 0)


async def test_the_start_finds_the_rows_and_leaves_what_it_cannot_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = {
        b"users/ann": b'1 {"name":"ann"}',
        b"users/bob": b'9 {"name":"bob"}',
        b"users/cid": b"\xff",
        b"users/dan": b'1 {"name":5}',
        b"plugins/x": b"1 {}",
        b"nameless": b"1 {}",
        b"\xff/x": b"1 {}",
    }
    monkeypatch.setattr(DataPlane, "found_rows", found)
    async with running_engine() as (engine, plane):
        with caplog.at_level(logging.ERROR):
            tables = Tables(engine.rows)
            users = tables.open(USERS)
        assert dict(users.items()) == {"ann": User("ann")}
        assert (list(users.damaged), tables.damaged()) == (["bob", "cid", "dan"], {"users": 3})
        assert "3 rows of users cannot be read and are left where they are: 'bob': it has version 9" in caplog.text
        assert "2 rows have names that no row can have" in caplog.text
        assert tables.counters() == {"whimbrel.rows.damaged": 5}
        assert plane.rows == found
        assert engine.rows.families() == ["plugins"]
        # A damaged row goes when its key is written or deleted, and not before.
        await users.put("bob", User("bob"))
        assert await users.delete("cid")
        assert (list(users.damaged), plane.rows[b"users/bob"]) == (["dan"], b'1 {"name":"bob","level":0}')
        assert b"users/cid" not in plane.rows


async def test_several_changes_hold_together_or_not_at_all() -> None:
    async with running_engine() as (engine, plane):
        tables = Tables(engine.rows)
        users, bans = tables.open(USERS), tables.open(BANS)
        await users.put("ann", User("ann"))
        await tables.change(bans.putting("ann", User("ann")), users.deleting("ann"), users.putting("bob", User("bob")))
        before = dict(plane.rows)
        plane.refusal = "no room on the test's disk"
        with pytest.raises(StorageRefused, match="no room on the test's disk; nothing was changed"):
            await tables.change(bans.deleting("ann"), users.putting("cid", User("cid")), users.deleting("bob"))
        assert (dict(bans.items()), dict(users.items())) == ({"ann": User("ann")}, {"bob": User("bob")})
        assert plane.rows == before
        assert engine.metrics()["whimbrel.rows.changes.refused"] == 1
        plane.refusal = None
        await users.put("cid", User("cid"))


async def test_a_change_shows_when_it_is_durable_and_each_knows_what_it_takes_the_place_of() -> None:
    async with running_engine() as (engine, plane):
        users = Tables(engine.rows).open(USERS)
        sent: list[Any] = []
        plane.is_mute = True
        plane.change_rows = lambda ticket, seen, changes: sent.append((ticket, changes))  # type: ignore[method-assign]
        first = asyncio.create_task(users.put("a", User("1")))
        second = asyncio.create_task(users.put("a", User("2")))
        third = asyncio.create_task(users.delete("a"))
        await until(lambda: len(sent) == 2)
        assert (third.done(), third.result()) == (True, False), "nothing is there yet"
        assert users.get("a") is None
        befores = [change[0][2] for _, change in sent]
        assert befores == [None, b'1 {"name":"1","level":0}']
        plane.tell(RowsChanged(ticket=sent[0][0]))
        await first
        assert users.get("a") == User("1")
        plane.tell(RowsChanged(ticket=sent[1][0], refusal="full"))
        with pytest.raises(StorageRefused):
            await second
        assert users.get("a") == User("1")


async def test_a_caller_that_does_not_wait_leaves_memory_as_true_as_one_that_does() -> None:
    async with running_engine() as (engine, plane):
        users = Tables(engine.rows).open(USERS)
        plane.is_mute = True
        task = asyncio.create_task(users.put("a", User("1")))
        await until(lambda: engine.metrics()["whimbrel.rows.changes.waiting"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert users.get("a") is None
        plane.tell(RowsChanged(ticket=1))
        await until(lambda: users.get("a") == User("1"))


async def test_bounds_are_kept_and_said() -> None:
    async with running_engine() as (engine, plane):
        tables = Tables(engine.rows)
        users = tables.open(USERS)
        with pytest.raises(ValueError, match=r"a row of users has at most 60 bytes; 'x' has 123"):
            await users.put("x", User("n" * 100))
        three = (users.putting(key, User(key)) for key in "abc")
        await tables.change(*three)
        with pytest.raises(ValueError, match="users has 3 rows; it may have 3: delete some first"):
            await users.put("d", User("d"))
        await users.put("a", User("again"))
        await tables.change(users.deleting("a"))
        plane.is_mute = True
        waiting = asyncio.create_task(users.put("d", User("d")))
        await until(lambda: engine.metrics()["whimbrel.rows.changes.waiting"] == 1)
        with pytest.raises(ValueError, match="it may have 3"):
            await users.put("e", User("e"))
        waiting.cancel()
        with pytest.raises(ValueError, match="another family called users"):
            tables.open(Family(name="users", row=str))
        assert tables.open(USERS) is users


async def test_more_changes_than_may_be_under_way_wait_for_their_turn() -> None:
    async with running_engine() as (engine, plane):
        bans = Tables(engine.rows).open(BANS)
        plane.is_mute = True
        tasks = [asyncio.create_task(bans.put(f"k{number}", User("x"))) for number in range(PENDING_MAX + 5)]
        await until(lambda: engine.metrics()["whimbrel.rows.changes.waiting"] == PENDING_MAX)
        plane.is_mute = False
        plane.tell(*(RowsChanged(ticket=number + 1) for number in range(PENDING_MAX)))
        await asyncio.gather(*tasks)
        assert list(dict(bans.items())) == [f"k{number}" for number in range(PENDING_MAX + 5)]


async def test_a_broker_that_stops_leaves_nobody_waiting() -> None:
    async with running_engine() as (engine, plane):
        users = Tables(engine.rows).open(USERS)
        plane.is_mute = True
        task = asyncio.create_task(users.put("a", User("1")))
        await until(lambda: engine.metrics()["whimbrel.rows.changes.waiting"] == 1)
        plane.is_mute = False
        await engine.stop(grace_ms=0)
        with pytest.raises(EngineError, match="stopped before the store had answered"):
            await task
        with pytest.raises(EngineError, match="the broker has stopped"):
            await users.put("b", User("2"))
