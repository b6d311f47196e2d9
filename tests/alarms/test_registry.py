"""Alarms: active once, bounded history, kept over a restart, and true while the store takes nothing."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engine.fake_core import DataPlane
from tests.engine.running import running_engine
from tests.waiting import until
from whimbrel.alarms import Alarm, Alarms
from whimbrel.alarms.registry import ACTIVE_MAX, Detail
from whimbrel.engine.engine import Engine
from whimbrel.tables import Tables

MINUTE_US = 60_000_000


@dataclass
class Clock:
    """Unix microseconds that move when the test says so."""

    now_us: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


def alarms_of(engine: Engine, clock: Clock, *, size_limit: int = 10, validity_ms: int = 3_600_000) -> Alarms:
    return Alarms(Tables(engine.rows), size_limit=size_limit, validity_ms=validity_ms, clock_us=clock)


async def test_an_alarm_is_active_once_and_ends_once() -> None:
    async with running_engine() as (engine, _):
        clock, told = Clock(), list[Alarm]()
        alarms = alarms_of(engine, clock)
        alarms.watch(told.append)
        assert alarms.activate("cpu", "busy", {"usage": 88.5, "cores": 2})
        clock.now_us += MINUTE_US
        assert not alarms.activate("cpu", "busier", {"usage": 99.0})
        details: dict[str, str | int | float | bool] = {"usage": 88.5, "cores": 2}
        begun = Alarm(name="cpu", message="busy", details=details, activated_us=told[0].activated_us)
        assert (alarms.present(), alarms.history(), alarms.is_active("cpu")) == ([begun], [], True)
        assert alarms.deactivate("cpu")
        assert not alarms.deactivate("cpu")
        assert not alarms.deactivate("never")
        assert (alarms.present(), alarms.is_active("cpu")) == ([], False)
        assert [alarm.is_active for alarm in told] == [True, False]
        assert alarms.history() == [told[1]]
        assert (told[1].deactivated_us or 0) - told[1].activated_us == MINUTE_US
        counts = alarms.counters()
        assert (counts["whimbrel.alarms.activated"], counts["whimbrel.alarms.deactivated"]) == (1, 1)


async def test_a_clock_that_is_set_back_lets_no_alarm_end_before_it_began() -> None:
    async with running_engine() as (engine, _):
        clock = Clock()
        alarms = alarms_of(engine, clock)
        alarms.activate("a", "")
        clock.now_us -= MINUTE_US
        alarms.deactivate("a")
        (ended,) = alarms.history()
        assert ended.deactivated_us == ended.activated_us


async def test_the_history_is_bounded_by_number_and_age_and_active_ones_stay() -> None:
    async with running_engine() as (engine, plane):
        clock = Clock()
        alarms = alarms_of(engine, clock, size_limit=3, validity_ms=600_000)
        alarms.activate("lasting", "")
        for number in range(5):
            alarms.activate(f"a{number}", "")
            alarms.deactivate(f"a{number}")
            clock.now_us += MINUTE_US
        assert [alarm.name for alarm in alarms.history()] == ["a2", "a3", "a4"]
        clock.now_us += 7 * MINUTE_US + 1
        assert [alarm.name for alarm in alarms.history()] == ["a3", "a4"]
        alarms.set_bounds(size_limit=1, validity_ms=600_000)
        assert [alarm.name for alarm in alarms.history()] == ["a4"]
        assert [alarm.name for alarm in alarms.present()] == ["lasting"]
        await alarms.stop(wait_s=10)
        assert len(plane.rows) == 2


async def test_the_history_comes_back_and_what_was_active_ended_with_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    async with running_engine() as (engine, plane):
        alarms = alarms_of(engine, clock)
        alarms.activate("over", "it was", {"n": 1})
        alarms.deactivate("over")
        alarms.activate("lasting", "it is")
        await alarms.stop(wait_s=10)
        before, rows = alarms.history(), dict(plane.rows)
    clock.now_us += MINUTE_US
    monkeypatch.setattr(DataPlane, "found_rows", rows)
    async with running_engine() as (engine, plane):
        alarms = alarms_of(engine, clock)
        assert alarms.present() == []
        assert alarms.history()[:1] == before
        assert (alarms.history()[1].name, alarms.history()[1].deactivated_us) == ("lasting", clock.now_us)
        alarms.activate("lasting", "again")
        await alarms.stop(wait_s=10)
        assert len(plane.rows) == 3, "a new one has a key of its own"
        assert alarms.counters()["whimbrel.alarms.unsaved"] == 0


async def test_what_the_store_does_not_take_is_written_when_it_does() -> None:
    async with running_engine() as (engine, plane):
        alarms = alarms_of(engine, Clock())
        plane.refusal = "no room"
        alarms.activate("storage", "it refuses")
        await alarms.stop(wait_s=10)
        assert (plane.rows, alarms.counters()["whimbrel.alarms.unsaved"]) == ({}, 1)
        assert alarms.is_active("storage")
        plane.refusal = None
        alarms.deactivate("storage")
        await alarms.stop(wait_s=10)
        (stored,) = plane.rows.values()
        assert b'"name":"storage"' in stored
        assert alarms.counters()["whimbrel.alarms.unsaved"] == 0


async def test_what_changes_while_it_is_written_is_written_again() -> None:
    async with running_engine() as (engine, plane):
        alarms = alarms_of(engine, Clock())
        alarms.activate("a", "")
        await until(lambda: engine.metrics()["whimbrel.rows.changes.waiting"] == 1)
        alarms.deactivate("a")
        await alarms.stop(wait_s=10)
        assert all(b'"deactivated_us":null' not in value for value in plane.rows.values())


async def test_no_more_than_so_many_are_active_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine() as (engine, _):
        alarms = alarms_of(engine, Clock())
        for name in _names(ACTIVE_MAX + 5):
            alarms.activate(name, "")
        assert len(alarms.present()) == ACTIVE_MAX
        assert alarms.counters()["whimbrel.alarms.refused"] == 5
        assert caplog.text.count("1000 alarms are active") == 1
        alarms.deactivate("a0")
        assert alarms.activate("more", "")


def _names(count: int) -> Iterator[str]:
    return (f"a{number}" for number in range(count))


@pytest.mark.parametrize(
    ("name", "message", "details"),
    [("", "", {}), ("x" * 1_025, "", {}), ("a", "x" * 70_000, {}), ("a", "\ud800", {}), ("a", "", {"n": float("nan")})],
)
async def test_what_no_row_can_hold_is_refused_at_once(name: str, message: str, details: dict[str, Detail]) -> None:
    async with running_engine() as (engine, _):
        alarms = alarms_of(engine, Clock())
        with pytest.raises(ValueError, match=r"alarm|bytes|JSON|surrogates"):
            alarms.activate(name, message, details)
        assert alarms.present() == []
        await asyncio.sleep(0)
        assert alarms.counters()["whimbrel.alarms.unsaved"] == 0
