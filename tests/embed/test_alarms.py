"""Alarms in a program: its own, the hooks that hear of them, and limits that change while it runs."""

from collections.abc import Sequence

import pytest

import whimbrel
from tests.waiting import until

QUIET = {"sysmon.interval": 0}
# Every machine has more than one percent of its memory in use.
STRICT = {"sysmon.interval": "1h", "sysmon.system_memory_high_watermark": 1, "sysmon.system_memory_low_watermark": 1}


async def test_hooks_hear_of_alarms_in_their_order() -> None:
    heard: list[tuple[str, str]] = []

    async def activated(batch: Sequence[whimbrel.Alarm]) -> None:
        heard.extend(("activated", alarm.name) for alarm in batch)

    async def deactivated(batch: Sequence[whimbrel.Alarm]) -> None:
        heard.extend(("deactivated", alarm.name) for alarm in batch)

    hooks = {"alarm_activated": activated, "alarm_deactivated": deactivated}
    async with whimbrel.Broker(QUIET, hooks=hooks) as broker:
        assert broker.activate_alarm("pump/7", "too hot", {"celsius": 91})
        await until(lambda: heard == [("activated", "pump/7")])
        assert not broker.activate_alarm("pump/7", "hotter")
        (alarm,) = broker.alarms()
        assert (alarm.message, alarm.details, alarm.is_active) == ("too hot", {"celsius": 91}, True)
        assert broker.deactivate_alarm("pump/7")
        await until(lambda: heard[1:] == [("deactivated", "pump/7")])
        assert ([one.name for one in broker.alarms(history=True)], broker.alarms()) == (["pump/7"], [])
        assert broker.metrics()["whimbrel.alarms.activated"] == 1


async def test_alarms_are_published_to_a_subscription_of_the_program() -> None:
    async with whimbrel.Broker(QUIET) as broker, broker.subscribe("$SYS/brokers/+/alarms/+") as tap:
        broker.activate_alarm("a", "m")
        (message,) = await tap.batch()
        assert message.topic == "$SYS/brokers/whimbrel@127.0.0.1/alarms/activate"
        assert b'"name":"a"' in message.payload


async def test_watermarks_hold_from_the_reload_on() -> None:
    name = "system_memory_high_watermark"
    async with whimbrel.Broker(QUIET) as broker:
        assert broker.alarms() == []
        changes = broker.reload(STRICT)
        assert "sysmon.system_memory_high_watermark" in changes.now
        await until(lambda: [alarm.name for alarm in broker.alarms()] == [name])
        broker.reload(
            {
                "sysmon.interval": "2h",
                "sysmon.system_memory_high_watermark": 100,
                "sysmon.system_memory_low_watermark": 100,
            }
        )
        await until(lambda: broker.alarms() == [])


async def test_what_cannot_be_kept_is_refused() -> None:
    async with whimbrel.Broker(QUIET) as broker:
        with pytest.raises(ValueError, match="the name of an alarm has 1 to 1024 bytes"):
            broker.activate_alarm("", "")
