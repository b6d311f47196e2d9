"""An embedded broker with a data directory keeps what it acknowledged; one without keeps nothing on disk."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import whimbrel
from tests.embed.entering import enter as background
from tests.raw_client import RawClient
from tests.raw_packets import Property
from whimbrel.errors import StartError, StorageFailure
from whimbrel.testing.background import BackgroundBroker

A_DAY = {Property.SESSION_EXPIRY_INTERVAL: 86_400}

KILLED = """
import asyncio, os, sys, whimbrel

async def main():
    async with whimbrel.Broker({"node.data_dir": sys.argv[1]}) as broker:
        await broker.publish("kept", "retained", qos=1, retain=True)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def enter(broker: whimbrel.Broker, client_id: str) -> tuple[RawClient, bool]:
    client = RawClient((broker.host, broker.port), level=5)
    code, was_present = client.connect(client_id, clean=False, properties=A_DAY)
    assert code == 0
    return client, was_present


def subscribe_and_leave(broker: whimbrel.Broker) -> None:
    client, _ = enter(broker, "sleeper")
    with client:
        assert client.subscribe("a", qos=1) == 1


def come_back(broker: whimbrel.Broker) -> tuple[bool, bytes]:
    client, was_present = enter(broker, "sleeper")
    with client:
        return was_present, client.publication().payload


async def test_the_next_broker_on_its_directory_has_what_the_first_one_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with whimbrel.Broker({"node.data_dir": data_dir}) as broker:
        await asyncio.to_thread(subscribe_and_leave, broker)
        assert await broker.publish("a", "waits", qos=1) == 1
    async with whimbrel.Broker({"node.data_dir": str(data_dir)}) as again:
        assert await asyncio.to_thread(come_back, again) == (True, b"waits")


def test_what_publish_returned_for_is_there_after_a_kill(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert ended.returncode == -9

    with BackgroundBroker({"node.data_dir": tmp_path}) as broker, background(broker, "late") as client:
        client.subscribe("kept")
        assert client.publication().payload == b"retained"


async def test_one_broker_at_a_time_uses_a_directory_and_the_second_is_told_who(tmp_path: Path) -> None:
    async with whimbrel.Broker({"node.data_dir": tmp_path}):
        with pytest.raises(StartError) as refused:
            await whimbrel.Broker({"node.data_dir": tmp_path}).start()
    assert str(refused.value) == (
        f"another broker (pid {os.getpid()}) runs on the data directory {tmp_path}; "
        "stop it, or choose another directory with node.data_dir"
    )
    async with whimbrel.Broker({"node.data_dir": tmp_path}):
        pass  # The first one has let go of it.


async def test_a_start_that_fails_lets_go_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StartError, match="cannot use the store"):
        await whimbrel.Broker({"node.data_dir": tmp_path}).start()
    (tmp_path / "store").unlink()
    async with whimbrel.Broker({"node.data_dir": tmp_path}):
        pass


async def test_a_copy_is_made_while_it_serves_and_there_is_none_of_a_broker_in_memory(tmp_path: Path) -> None:
    copy = tmp_path / "copy.redb"
    async with whimbrel.Broker({"node.data_dir": tmp_path / "data"}) as broker:
        await broker.publish("kept", "x", qos=1, retain=True)
        await broker.backup(copy)
    assert os.stat(copy).st_size > 0
    async with whimbrel.Broker() as broker:
        with pytest.raises(StorageFailure, match="there is no store to copy"):
            await broker.backup(tmp_path / "other.redb")


async def test_a_broker_without_a_directory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with whimbrel.Broker() as broker:
        await asyncio.to_thread(subscribe_and_leave, broker)
        await broker.publish("a", "x", qos=1, retain=True)
    assert os.listdir(tmp_path) == []
