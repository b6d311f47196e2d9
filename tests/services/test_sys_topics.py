"""The periodic part of the `$SYS` tree, over the double of the binding."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.engine.fake_core import DataPlane
from tests.engine.running import running_engine
from tests.waiting import until
from whimbrel.services.metrics import Metrics
from whimbrel.services.sys_topics import SysTopics, uptime_text
from whimbrel.settings.model import Sys

NODE = "whimbrel@127.0.0.1"
ROOT = f"$SYS/brokers/{NODE}"
FACTS = {"$SYS/brokers": NODE, f"{ROOT}/version": "1.2.3", f"{ROOT}/sysdescr": "Whimbrel"}


@asynccontextmanager
async def sys_topics(*watched: str, interval_ms: int = 60_000) -> AsyncIterator[tuple[SysTopics, DataPlane]]:
    async with running_engine() as (engine, plane):
        plane.watched += watched
        settings = Sys(interval_ms=interval_ms, heartbeat_ms=interval_ms, is_presence_published=True, readers="local")
        moments = iter([1_000.0, 91_062.5])
        metrics = Metrics(engine, lambda: {"whimbrel.own": 1})
        yield SysTopics(engine, metrics, settings, node=NODE, version="1.2.3", clock=lambda: next(moments)), plane


def published(plane: DataPlane) -> dict[str, str]:
    return {message.topic: message.payload.decode() for message in plane.published}


async def test_who_the_broker_is_is_retained_also_where_nobody_listens() -> None:
    async with sys_topics() as (topics, plane):
        await topics.tick()
        await topics.beat()
        assert published(plane) == FACTS
        assert all(message.retain and message.qos == 0 for message in plane.published)


async def test_numbers_go_to_those_that_listen_under_names_with_slashes() -> None:
    async with sys_topics(f"{ROOT}/stats", f"{ROOT}/metrics") as (topics, plane):
        plane.enter("a", "b")
        await topics.tick()
        numbers = {topic: text for topic, text in published(plane).items() if topic not in FACTS}
        assert numbers == {
            f"{ROOT}/stats/connections/count": "2",
            f"{ROOT}/stats/connections/max": "2",
            f"{ROOT}/metrics/messages/received": "5",
        }
        assert not any(message.retain for message in plane.published if message.topic in numbers)


async def test_the_heart_beats_with_uptime_and_time_of_day() -> None:
    async with sys_topics(ROOT) as (topics, plane):
        await topics.beat()
        texts = published(plane)
        assert texts[f"{ROOT}/uptime"] == "1 days, 1 hours, 1 minutes, 2 seconds"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", texts[f"{ROOT}/datetime"])
        assert not any(message.retain for message in plane.published)


async def test_started_it_publishes_at_once_and_again_until_it_is_stopped() -> None:
    async with sys_topics(interval_ms=1) as (topics, plane):
        topics.start()
        await until(lambda: len(plane.published) >= 3 * len(FACTS))
        await topics.stop()
        count = len(plane.published)
        await asyncio.sleep(0)
        assert len(plane.published) == count


async def test_an_interval_of_0_means_never() -> None:
    async with sys_topics(ROOT, interval_ms=0) as (topics, plane):
        topics.start()
        await asyncio.sleep(0)
        await topics.stop()
        assert plane.published == []


async def test_a_broker_that_has_stopped_is_no_reason_to_raise(caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine() as (engine, _):
        settings = Sys(interval_ms=1, heartbeat_ms=0, is_presence_published=True, readers="local")
        topics = SysTopics(engine, Metrics(engine), settings, node=NODE, version="1")
        await engine.stop(grace_ms=0)
        topics.start()
        await until(lambda: caplog.records)
        await topics.stop()
        assert "nothing was published under $SYS: the broker has stopped" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (59, "59 seconds"),
        (60, "1 minutes, 0 seconds"),
        (86_400, "1 days, 0 hours, 0 minutes, 0 seconds"),
    ],
)
def test_uptime_leaves_out_leading_units_that_are_zero(seconds: int, text: str) -> None:
    assert uptime_text(seconds) == text
