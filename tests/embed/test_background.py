"""A broker on a thread of its own: started and stopped in whatever order a test does it."""

import asyncio
import gc
import socket
from typing import Any

import pytest

import whimbrel
from tests.raw_client import RawClient
from whimbrel.errors import StartError
from whimbrel.testing.background import BackgroundBroker


def test_a_test_may_stop_it_itself() -> None:
    with BackgroundBroker() as broker:
        broker.stop()
        with pytest.raises(whimbrel.WhimbrelError, match="not running"):
            broker.publish("a")
    broker.stop()


def test_stopping_what_never_ran_has_no_effect() -> None:
    broker = BackgroundBroker()
    broker.stop()
    with broker:
        assert broker.publish("a") == 0


def test_it_starts_once() -> None:
    with BackgroundBroker() as broker, pytest.raises(whimbrel.WhimbrelError, match="starts once"):
        broker.start()


def test_it_may_be_stopped_after_a_start_that_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        broker = BackgroundBroker(bind=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(StartError):
            broker.start()
    broker.stop()


def test_what_hooks_have_left_running_is_cancelled_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("work")

    async def hook(_question: Any) -> Any:
        left.append(asyncio.ensure_future(work()))
        await asyncio.sleep(0)
        return whimbrel.Allow()

    with (
        BackgroundBroker(hooks={"authenticate": hook}) as broker,
        RawClient((broker.host, broker.port), level=5) as client,
    ):
        assert client.connect("c1") == (0, False)
    assert ended == ["work"]
    left.clear()
    gc.collect()
    assert "destroyed" not in caplog.text
