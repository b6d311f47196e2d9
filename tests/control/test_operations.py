"""The table of operations: what is performed, what is refused and how."""

import os
from typing import Any

import pytest

from tests.engine.running import running_engine
from whimbrel.control.operations import perform
from whimbrel.errors import ControlError
from whimbrel.services import Services


async def performed(request: Any, *client_ids: str) -> Any:
    async with running_engine() as (engine, plane):
        plane.enter(*client_ids)
        return await perform(request, Services.over(engine))


async def test_clients_are_shown_with_all_their_fields_in_pages() -> None:
    page = await performed({"op": "clients", "limit": 1}, "a", "b")
    assert page["next_cursor"] == 1
    assert (page["clients"][0]["client_id"], page["clients"][0]["protocol_version"]) == ("a", 5)
    rest = await performed({"op": "clients", "cursor": 1}, "a", "b")
    assert ([one["client_id"] for one in rest["clients"]], rest["next_cursor"]) == (["b"], None)


async def test_metrics_kick_and_ping() -> None:
    assert (await performed({"op": "metrics"}, "a"))["messages.received"] == 0
    assert (await performed({"op": "stats"}, "a"))["connections.count"] == 1
    assert await performed({"op": "kick", "client_id": "a"}, "a") == {}
    assert await performed({"op": "reload"}) == {"now": [], "at_restart": [], "certificates": 0}
    assert await performed({"op": "ping"}) == {"pid": os.getpid()}


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ([], "bad_request", "a request is a JSON object with a field op"),
        (
            {},
            "unknown_operation",
            "there is no operation None; the operations are ping, clients, metrics, stats, alarms, ledger, kick",
        ),
        ({"op": ["x"]}, "unknown_operation", "there is no operation"),
        ({"op": "kick"}, "bad_request", "client_id is None, it must be of type str"),
        ({"op": "kick", "client_id": "x"}, "not_found", "there is no client 'x'"),
        ({"op": "backup", "path": "copy"}, "storage", "the broker needs an absolute path"),
        ({"op": "backup", "path": "/"}, "storage", "something is there already"),
        ({"op": "backup", "path": "/nowhere/copy"}, "storage", "there is no store to copy"),
        ({"op": "ping", "x": 1}, "bad_request", "ping does not take 'x'; it takes no arguments"),
        ({"op": "clients", "limit": True}, "bad_request", "limit is True, it must be of type int"),
        ({"op": "clients", "limit": 0}, "bad_request", "a page has 1 to 10000 records"),
        ({"op": "clients", "cursor": -1}, "bad_request", "cursor is -1"),
    ],
)
async def test_what_is_wrong_is_said(request_: Any, code: str, text: str) -> None:
    with pytest.raises(ControlError) as refused:
        await performed(request_)
    assert (refused.value.code, text in str(refused.value)) == (code, True)
