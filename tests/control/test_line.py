"""The management line from end to end: server on a Unix socket, blocking client in a thread."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.running import running_engine
from whimbrel.control import server as server_module
from whimbrel.control import socket_path
from whimbrel.control.client import ControlClient
from whimbrel.control.server import ControlServer
from whimbrel.errors import ControlError, StartError
from whimbrel.services import Services


@asynccontextmanager
async def serving(data_dir: Path, *client_ids: str) -> AsyncIterator[ControlServer]:
    async with running_engine() as (engine, plane):
        plane.enter(*client_ids)
        server = ControlServer(Services.over(engine), socket_path(data_dir))
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def said(data_dir: Path, octets: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(socket_path(data_dir))
    writer.write(octets)
    writer.write_eof()
    answers = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    await writer.wait_closed()
    return answers


async def test_the_client_lists_every_client_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whimbrel.control.client.PAGE_SIZE", 2)

    def listed() -> list[str]:
        with ControlClient(tmp_path) as control:
            return [one["client_id"] for one in control.clients()]

    async with serving(tmp_path, "a", "b", "c") as server:
        assert await asyncio.to_thread(listed) == ["a", "b", "c"]
        assert server.counters()["whimbrel.control.requests"] == 2


async def test_a_refusal_reaches_the_client_with_its_code(tmp_path: Path) -> None:
    def kicked() -> None:
        with ControlClient(tmp_path) as control:
            control.request("kick", client_id="x")

    async with serving(tmp_path):
        with pytest.raises(ControlError, match="there is no client 'x'") as refused:
            await asyncio.to_thread(kicked)
    assert refused.value.code == "not_found"


async def test_requests_follow_each_other_and_a_bad_one_does_not_end_the_line(tmp_path: Path) -> None:
    async with serving(tmp_path):
        answers = await said(tmp_path, b'{"op":"ping"}\nnot json\n\n{"op":"ping"}\n')
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert answers[1]["error"]["code"] == "bad_request"


async def test_deeply_nested_json_is_a_bad_request(tmp_path: Path) -> None:
    async with serving(tmp_path):
        (answer,) = await said(tmp_path, b"[" * 50_000 + b"\n")
    assert answer["error"]["code"] == "bad_request"


async def test_a_line_that_is_too_long_is_refused_and_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LINE_BYTES_MAX", 100)
    async with serving(tmp_path):
        answers = await said(tmp_path, b"x" * 300 + b'\n{"op":"ping"}\n')
    assert [answer["error"]["text"] for answer in answers] == ["a request has at most 100 bytes"]


async def test_connections_beyond_the_bound_are_refused_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 0)
    async with serving(tmp_path) as server:
        (answer,) = await said(tmp_path, b"")
        assert answer["error"]["code"] == "busy"
        assert server.counters()["whimbrel.control.connections.refused"] == 1


async def test_a_peer_that_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_WAIT_S", 0.001)
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_the_socket_is_private_replaces_a_stale_one_and_goes_with_the_server(tmp_path: Path) -> None:
    path = socket_path(tmp_path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_file_in_the_socket_s_place_is_kept_and_a_start_error(tmp_path: Path) -> None:
    socket_path(tmp_path).write_text("mine")
    with pytest.raises(StartError, match="something that is no socket has its place"):
        async with serving(tmp_path):
            pass
    assert socket_path(tmp_path).read_text() == "mine"


async def test_a_path_that_the_kernel_refuses_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot create the control socket"):
        async with serving(tmp_path / ("d" * 120)):
            pass


def test_without_a_broker_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no broker runs on the data directory") as missing:
        ControlClient(tmp_path)
    assert missing.value.code == "no_broker"


@contextmanager
def stranger(data_dir: Path) -> Iterator[None]:
    """Act as somebody who may not enter `data_dir`; root becomes nobody for that."""
    data_dir.chmod(0)
    if os.geteuid() != 0:
        yield
    else:
        os.seteuid(65_534)
        try:
            yield
        finally:
            os.seteuid(0)
    data_dir.chmod(0o700)


def test_a_stranger_is_told_that_he_may_not(tmp_path: Path) -> None:
    with stranger(tmp_path), pytest.raises(ControlError) as denied:
        ControlClient(tmp_path)
    assert (denied.value.code, str(denied.value)) == (
        "denied",
        f"you may not manage the broker on {tmp_path}: permission denied",
    )
