"""The engine: batches in, replies to their callers, nothing left behind when the data plane ends."""

import asyncio
import errno
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.engine.fake_core import (
    Authenticate,
    Authorize,
    Connected,
    Disconnected,
    LogLine,
    Published,
    Refused,
    Stopped,
    StorageError,
)
from tests.engine.running import running_engine
from whimbrel.engine import engine as engine_module
from whimbrel.engine.engine import Engine
from whimbrel.engine.options import from_settings
from whimbrel.errors import EngineError, ListenFailure, StartError, StorageFailure
from whimbrel.settings import from_mapping


class Recorder:
    """An attendant that keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[Any]]] = []

    def authenticate(self, batch: list[Any]) -> None:
        self.batches.append(("authenticate", batch))

    def authorize(self, batch: list[Any]) -> None:
        self.batches.append(("authorize", batch))

    def enhanced_authenticate(self, batch: list[Any]) -> None:
        self.batches.append(("enhanced_authenticate", batch))

    def connected(self, batch: list[Any]) -> None:
        self.batches.append(("connected", batch))

    def disconnected(self, batch: list[Any]) -> None:
        self.batches.append(("disconnected", batch))


async def test_publish_returns_the_receivers_and_routes_to_taps() -> None:
    async with running_engine() as (engine, _):
        tap = engine.open_tap("a/+")
        assert await engine.publish("a/b", b"x", qos=1, user_properties=[("k", "v")]) == 1
        message = await anext(tap)
        assert (message.topic, message.payload, message.user_properties) == ("a/b", b"x", [("k", "v")])


async def test_an_invalid_topic_is_a_value_error_and_leaves_no_request_behind() -> None:
    async with running_engine() as (engine, _):
        with pytest.raises(ValueError, match="a/#"):
            await engine.publish("a/#", b"")
        assert engine.counters()["whimbrel.engine.requests.waiting"] == 0


async def test_a_message_that_was_refused_is_an_error_with_the_reason() -> None:
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        waiting = asyncio.ensure_future(engine.publish("a", b"", qos=1))
        await asyncio.sleep(0)
        plane.tell(Refused(ticket=1, text="the broker cannot store this at the moment"))
        with pytest.raises(EngineError, match="cannot store this"):
            await waiting


def test_a_store_that_cannot_be_used_is_a_failure_of_the_start() -> None:
    def open_plane(_options: object) -> Any:
        raise StorageError("cannot use the store in /x: no")

    with pytest.raises(StorageFailure, match="cannot use the store in"):
        Engine.start(from_settings(from_mapping({})), open_plane=open_plane)


async def test_a_copy_that_cannot_be_made_is_a_failure_of_the_store(tmp_path: Path) -> None:
    async with running_engine() as (engine, _):
        with pytest.raises(StorageFailure, match="there is no store to copy"):
            engine.backup(tmp_path / "copy")


async def test_replies_reach_their_own_callers_whatever_their_order() -> None:
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        first, second = (asyncio.ensure_future(engine.publish(topic, b"")) for topic in "ab")
        await asyncio.sleep(0)
        plane.tell(Published(ticket=2, receivers=22), Published(ticket=1, receivers=11))
        assert (await first, await second) == (11, 22)


async def test_a_batch_is_handed_over_by_kind_in_one_call_each() -> None:
    async with running_engine() as (engine, plane):
        recorder = Recorder()
        engine.attend(recorder)
        plane.tell(
            Connected(client_id="a"),
            Authenticate(ticket=1),
            Connected(client_id="b"),
            Authorize(ticket=2),
            Disconnected(client_id="a"),
        )
        await engine.publish("wait/for/the/batch", b"")
        assert [(point, len(batch)) for point, batch in recorder.batches] == [
            ("authenticate", 1),
            ("authorize", 1),
            ("connected", 2),
            ("disconnected", 1),
        ]
        assert engine.counters()["whimbrel.engine.batches"] == 1


async def test_requests_wait_for_a_slot_when_too_many_are_outstanding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REQUESTS_MAX", 2)
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        calls = [asyncio.ensure_future(engine.kick(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        assert engine.counters()["whimbrel.engine.requests.waiting"] == 2
        plane.is_mute = False
        plane.kick(1, "0")
        plane.kick(2, "1")
        assert await asyncio.gather(*calls) == [False, False, False]


async def test_a_reply_that_does_not_come_is_an_error_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REPLY_WAIT_S", 0.001)
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        with pytest.raises(EngineError, match="did not reply"):
            await engine.kick("c1")
        assert engine.counters()["whimbrel.engine.requests.late"] == 1


async def test_when_the_data_plane_ends_callers_and_readers_are_told() -> None:
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        tap = engine.open_tap("#")
        call = asyncio.ensure_future(engine.kick("c1"))
        reader = asyncio.ensure_future(tap.batch())
        await asyncio.sleep(0)
        plane.tell(Stopped())
        with pytest.raises(EngineError, match="stopped before it replied"):
            await call
        assert await reader == []
        with pytest.raises(EngineError, match="has stopped"):
            engine.open_tap("#")


async def test_stop_joins_the_workers_and_may_be_called_again() -> None:
    async with running_engine() as (engine, plane):
        await engine.stop(grace_ms=0)
        await engine.stop(grace_ms=0)
        assert plane.is_joined


async def test_a_data_plane_that_does_not_end_is_reported_and_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "STOP_SLACK_S", 0.001)
    async with running_engine() as (engine, plane):
        plane.is_mute = True
        with pytest.raises(EngineError, match="did not stop"):
            await engine.stop(grace_ms=0)
        assert not plane.is_joined


async def test_log_lines_reach_the_log_under_their_level(caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine() as (engine, plane):
        plane.tell(LogLine(level=30, text="100 % full"))
        await engine.kick("wait for the batch")
    assert ("whimbrel.plane", logging.WARNING, "100 % full") in caplog.record_tuples


async def test_an_event_of_an_unknown_type_is_logged_and_the_rest_is_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Surprise:
        pass

    async with running_engine() as (engine, plane):
        plane.tell(Surprise())
        assert await engine.publish("a", b"") == 0
    assert "sent a Surprise" in caplog.text


async def test_a_taken_port_names_the_listener_and_the_reason() -> None:
    def taken(_options: object) -> Any:
        raise OSError(errno.EADDRINUSE, "Address already in use", "127.0.0.1:1883")

    options = from_settings(from_mapping({"listeners.tcp.default.bind": "127.0.0.1:1883"}))
    with pytest.raises(ListenFailure) as failure:
        Engine.start(options, open_plane=taken)
    assert str(failure.value) == "cannot listen on 127.0.0.1:1883 (tcp:default): address already in use"


async def test_an_ipv6_listener_is_found_by_its_label() -> None:
    def taken(_options: object) -> Any:
        raise OSError(errno.EADDRINUSE, "Address already in use", "::1:1884", 0, "tcp:six")

    options = from_settings(from_mapping({"listeners.tcp.six.bind": "[::1]:1884"}))
    with pytest.raises(ListenFailure) as failure:
        Engine.start(options, open_plane=taken)
    assert str(failure.value) == "cannot listen on [::1]:1884 (tcp:six): address already in use"
    assert failure.value.errno == errno.EADDRINUSE


async def test_too_few_open_files_are_no_fault_of_a_listener() -> None:
    def exhausted(_options: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(StartError) as failure:
        Engine.start(from_settings(from_mapping({})), open_plane=exhausted)
    assert str(failure.value) == (
        "cannot start the data plane: too many open files; raise the limit of open files: ulimit -n, or LimitNOFILE= "
        "in the systemd unit"
    )


async def test_an_event_that_cannot_be_taken_loses_only_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_engine() as (engine, plane):

        def broken(_batch: object) -> None:
            raise LookupError("no such row")

        monkeypatch.setattr(engine.open_tap("a"), "feed", broken)
        assert await engine.publish("a", b"") == 1  # The reply is in the same batch, behind the row.
        assert plane.published
    assert "an event of type TapBatch could not be taken" in caplog.text
