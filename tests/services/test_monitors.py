"""Each monitor: exactly its event raises exactly its alarm, and ends it. Readings are files of the test's own."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engine.fake_core import ClientRecord, StoreTurned
from tests.engine.running import running_engine
from tests.waiting import until
from whimbrel.alarms import Alarms
from whimbrel.engine.engine import Engine
from whimbrel.services.alarm_topics import AlarmTopics
from whimbrel.services.monitors import CONGESTED_MAX, Monitors
from whimbrel.services.vitals import Vitals
from whimbrel.settings import from_mapping
from whimbrel.settings.model import Sysmon
from whimbrel.tables import Tables

SETTINGS = from_mapping({}).sysmon


class Machine:
    """A machine whose readings the test writes: under /proc and of its disk."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = directory
        (directory / "self").mkdir()
        self._ticks = [0, 0]
        self.cpu(busy=0, idle=0)
        self.memory(total_kb=1_000_000, available_kb=900_000)
        self.process(pages=1)
        self._disk = SimpleNamespace(f_blocks=1_000, f_bfree=900, f_bavail=900)
        monkeypatch.setattr(os, "statvfs", lambda _path: self._disk)

    def cpu(self, *, busy: int, idle: int) -> None:
        """So many ticks passed. A guest's time is in user time, too, and counts once."""
        self._ticks = [self._ticks[0] + busy, self._ticks[1] + idle]
        lines = [f"cpu  {self._ticks[0]} 0 0 {self._ticks[1]} 0 0 0 0 {self._ticks[0]} 0", "cpu0 1 1 1 1 1 1 1 1 1 1"]
        (self.proc / "stat").write_text("\n".join(lines))

    def memory(self, *, total_kb: int, available_kb: int) -> None:
        rows = {"MemTotal": total_kb, "MemFree": 1, "MemAvailable": available_kb}
        (self.proc / "meminfo").write_text("".join(f"{name}:  {value} kB\n" for name, value in rows.items()))

    def process(self, *, pages: int) -> None:
        (self.proc / "self" / "statm").write_text(f"99999999 {pages} 1 1 0 1 0\n")

    def disk(self, *, blocks: int, free: int, available: int) -> None:
        self._disk = SimpleNamespace(f_blocks=blocks, f_bfree=free, f_bavail=available)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def _watch(engine: Engine, machine: Machine, settings: Sysmon = SETTINGS) -> tuple[Monitors, Alarms]:
    alarms = Alarms(Tables(engine.rows))
    return Monitors(engine, alarms, settings, Vitals(machine.proc, proc=machine.proc)), alarms


def _active(alarms: Alarms) -> list[str]:
    return [alarm.name for alarm in alarms.present()]


async def test_busy_cores(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine)
        machine.cpu(busy=1_000, idle=0)
        await monitors.look()
        assert _active(alarms) == [], "nothing is known of the time before the first look"
        for busy, expected in ((80, []), (81, ["cpu_high_watermark"]), (60, ["cpu_high_watermark"]), (59, [])):
            machine.cpu(busy=busy, idle=100 - busy)
            await monitors.look()
            assert _active(alarms) == expected
        (over,) = alarms.history()
        assert over.message == "the cores are busy: 81.0 %, which is above 80 %"
        assert over.details == {"usage_percent": 81.0, "high_watermark_percent": 80}


async def test_memory_of_the_machine(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine)
        name = "system_memory_high_watermark"
        for used, expected in ((700_000, []), (700_001, [name]), (650_000, [name]), (649_999, [])):
            machine.memory(total_kb=1_000_000, available_kb=1_000_000 - used)
            await monitors.look()
            assert _active(alarms) == expected


async def test_memory_of_the_process(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine)
        page_kb = os.sysconf("SC_PAGE_SIZE") // 1024
        machine.memory(total_kb=1_000 * page_kb, available_kb=1_000 * page_kb)
        name = "process_memory_high_watermark"
        for pages, expected in ((500, []), (501, [name]), (450, [name]), (449, [])):
            machine.process(pages=pages)
            await monitors.look()
            assert _active(alarms) == expected


async def test_the_disk(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine)
        name = "disk_high_watermark"
        # 1,000 blocks, of which 100 are for root alone: 900 are all that there is.
        for used, expected in ((810, []), (811, [name]), (765, [name]), (764, [])):
            machine.disk(blocks=1_000, free=1_000 - used, available=900 - used)
            await monitors.look()
            assert _active(alarms) == expected


async def test_tasks(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine, replace(SETTINGS, max_tasks=100))
        await monitors.look()
        assert _active(alarms) == []
        others = len(asyncio.all_tasks())
        tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(81 - others)]
        await monitors.look()
        assert _active(alarms) == ["too_many_processes"]
        assert alarms.present()[0].message.startswith("81 tasks are alive")
        await _cancel(tasks[:25])
        await monitors.look()
        assert _active(alarms) == []
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("much", [{"outbox_bytes": 512 * 1024}, {"mqueue_len": 500}])
async def test_a_congested_connection(machine: Machine, much: dict[str, Any]) -> None:
    async with running_engine() as (engine, plane):
        monitors, alarms = _watch(engine, machine)
        slow = ClientRecord(client_id="slow/1", username="ann")
        bad, little = replace(slow, **much), replace(slow, outbox_bytes=512 * 1024 - 1, mqueue_len=499)
        plane.sessions = {"slow/1": bad, "other": ClientRecord(client_id="other")}
        await monitors.look()
        assert _active(alarms) == [], "once may be a burst"
        await monitors.look()
        assert _active(alarms) == ["conn_congestion/slow/1/ann"]
        assert alarms.present()[0].details["client_id"] == "slow/1"
        plane.sessions["slow/1"] = little
        await monitors.look()
        assert _active(alarms) == []
        plane.sessions["slow/1"] = bad
        await monitors.look()
        plane.sessions["slow/1"] = little
        await monitors.look()
        plane.sessions["slow/1"] = bad
        await monitors.look()
        assert _active(alarms) == [], "not twice one after the other"
        await monitors.look()
        del plane.sessions["slow/1"]
        await monitors.look()
        assert (_active(alarms), len(alarms.history())) == ([], 2)


async def test_a_crowd_of_congested_connections_is_told_of_in_part(machine: Machine) -> None:
    async with running_engine() as (engine, plane):
        monitors, alarms = _watch(engine, machine)
        crowd = [ClientRecord(client_id=f"c{number}", mqueue_len=500) for number in range(CONGESTED_MAX + 50)]
        plane.sessions = {one.client_id: one for one in crowd}
        for _ in range(2):
            await monitors.look()
        assert len(_active(alarms)) == CONGESTED_MAX
        plane.sessions = {}
        await monitors.look()
        assert _active(alarms) == []


async def test_the_store_refuses(machine: Machine) -> None:
    async with running_engine() as (engine, plane):
        _, alarms = _watch(engine, machine)
        plane.tell(StoreTurned(refusal="no room on the disk"))
        await until(lambda: _active(alarms) == ["storage_refusing"])
        assert alarms.present()[0].details == {"reason": "no room on the disk"}
        plane.tell(StoreTurned())
        await until(lambda: _active(alarms) == [])
        assert [alarm.name for alarm in alarms.history()] == ["storage_refusing"]


async def test_what_cannot_be_read_raises_nothing(tmp_path: Path) -> None:
    async with running_engine() as (engine, _):
        alarms = Alarms(Tables(engine.rows))
        vitals = Vitals(None, proc=tmp_path / "nothing")
        for _ in range(2):
            await Monitors(engine, alarms, SETTINGS, vitals).look()
        assert _active(alarms) == []
        readings = (vitals.cpu_percent(), vitals.system_memory_percent(), vitals.process_memory_percent())
        assert (*readings, vitals.disk_percent()) == (None,) * 4
        assert Vitals(tmp_path / "nothing").disk_percent() is None


def test_the_readings_of_this_machine_make_sense(tmp_path: Path) -> None:
    vitals = Vitals(tmp_path)
    assert vitals.cpu_percent() is None
    readings = (vitals.system_memory_percent(), vitals.process_memory_percent(), vitals.disk_percent())
    assert all(reading is not None and 0 < reading <= 100 for reading in readings)
    assert 1 << 20 < (vitals.resident_bytes() or 0) < 1 << 40


async def test_it_looks_at_every_interval_until_it_is_told_to_stop(machine: Machine) -> None:
    async with running_engine() as (engine, _):
        monitors, alarms = _watch(engine, machine, replace(SETTINGS, interval_ms=90_000))
        slept, rings = list[float](), asyncio.Queue[None]()

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await rings.get()

        monitors.start(sleep)
        await until(lambda: slept == [90.0])
        machine.cpu(busy=100, idle=0)
        rings.put_nowait(None)
        await until(lambda: slept == [90.0, 90.0])
        assert _active(alarms) == ["cpu_high_watermark"]
        monitors.set_limits(replace(SETTINGS, interval_ms=90_000, cpu_low=100, cpu_high=100))
        machine.cpu(busy=99, idle=1)
        rings.put_nowait(None)
        await until(lambda: len(slept) == 3)
        assert _active(alarms) == []
        await monitors.stop()
        rings.put_nowait(None)
        await asyncio.sleep(0)
        assert len(slept) == 3
        idle, _ = _watch(engine, machine, replace(SETTINGS, interval_ms=0))
        idle.start(sleep)
        await idle.stop()
        assert len(slept) == 3


async def test_alarms_are_published_while_somebody_listens() -> None:
    async with running_engine() as (engine, plane):
        alarms = Alarms(Tables(engine.rows), clock_us=lambda: 1_234_567)
        AlarmTopics(engine, alarms, node="n@h")
        alarms.activate("unheard", "")
        plane.watched.append("$SYS/brokers/n@h/alarms")
        alarms.activate("cpu", "busy", {"usage": 88.5})
        alarms.deactivate("cpu")
        await until(lambda: len(plane.published) == 2)
        raised = {"name": "cpu", "message": "busy", "details": {"usage": 88.5}, "activate_at": 1_234_567}
        told = {message.topic.rpartition("/")[2]: json.loads(message.payload) for message in plane.published}
        assert told == {
            "activate": {**raised, "deactivate_at": "infinity", "activated": True},
            "deactivate": {**raised, "deactivate_at": 1_234_567, "activated": False},
        }
        assert all(message.topic.startswith("$SYS/brokers/n@h/alarms/") for message in plane.published)
        assert not any(message.retain or message.qos for message in plane.published)
