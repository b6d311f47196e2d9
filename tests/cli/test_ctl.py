"""`whimbrel ctl` against a management line with known clients."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.control.test_line import serving
from tests.engine.fake_core import DataPlane
from whimbrel.cli import main


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory whose management line knows the clients `c1` and one with a hostile name."""
    is_serving = threading.Event()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async with serving(tmp_path, "c1", "evil\x1b[31m"):
            is_serving.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_serving.wait(5)
    yield tmp_path
    loop.call_soon_threadsafe(ended.set)
    thread.join(5)
    loop.close()


def asked(data_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["ctl", "--data-dir", str(data_dir), *words])


def test_clients_are_a_table_that_cannot_drive_the_terminal(data_dir: Path) -> None:
    result = asked(data_dir, "clients")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["client", "user"],
        ["c1", "-"],
        ["evil\\u001b[31m", "-"],
    ]


@pytest.mark.parametrize("operation", [("clients",), ("metrics",), ("kick", "c1"), ("reload",)], ids=" ".join)
def test_options_may_stand_behind_the_operation(data_dir: Path, operation: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["ctl", *operation, "--data-dir", str(data_dir)])
    assert (result.exit_code, result.stderr) == (0, "")


def test_what_stands_behind_the_operation_is_stronger(data_dir: Path) -> None:
    assert asked(data_dir / "elsewhere", "clients", "--data-dir", str(data_dir)).exit_code == 0
    assert asked(data_dir, "clients", "--data-dir", str(data_dir / "elsewhere")).exit_code == 1


def test_settings_before_and_behind_hold_together(tmp_path: Path, data_dir: Path) -> None:
    words = ["ctl", "--set", f"node.data_dir={data_dir}", "clients", "--set", "workers=1"]
    assert CliRunner().invoke(main, words).exit_code == 0
    wrong = CliRunner().invoke(main, ["ctl", "--set", "workers=a", "clients", "--set", "mqtt.max_inflight=b"])
    assert (wrong.exit_code, "workers" in wrong.stderr, "mqtt.max_inflight" in wrong.stderr) == (2, True, True)


def test_clients_as_json_have_every_field(data_dir: Path) -> None:
    first = json.loads(asked(data_dir, "clients", "--json").stdout)[0]
    assert (first["client_id"], first["is_connected"]) == ("c1", True)


@pytest.mark.parametrize(
    ("operation", "name", "number"), [("stats", "connections.count", 2), ("metrics", "messages.received", 0)]
)
def test_numbers_come_as_table_and_as_json(data_dir: Path, operation: str, name: str, number: int) -> None:
    assert json.loads(asked(data_dir, operation, "--json").stdout)[name] == number
    lines = [line.split() for line in asked(data_dir, operation).stdout.splitlines()]
    assert [name, str(number)] in lines


def test_the_ledger_shows_what_came_and_what_became_of_it(data_dir: Path) -> None:
    shown = asked(data_dir, "ledger")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert shown.exit_code == 0
    assert lines[1:5] == [
        ["received"],
        ["+", "messages.received", "3"],
        ["-", "whimbrel.routed.clients", "3"],
        ["=", "missing", "0"],
    ]


def test_a_ledger_that_is_not_even_ends_with_1(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataPlane, "lost", 2)
    shown = asked(data_dir, "ledger", "--json")
    told = json.loads(shown.stdout)
    assert (shown.exit_code, told["is_even"], told["lines"][0]["missing"]) == (1, False, 2)


def test_kick_says_what_it_did_and_a_stranger_is_an_error(data_dir: Path) -> None:
    assert asked(data_dir, "kick", "c1").stdout == "kicked c1\n"
    again = asked(data_dir, "kick", "c1")
    assert (again.exit_code, again.stderr) == (1, "error: there is no client 'c1'\n")


def test_reload_says_what_was_read_again(data_dir: Path) -> None:
    assert asked(data_dir, "reload").stdout == "read again        certificates of 0 listeners\n"
    told = json.loads(asked(data_dir, "reload", "--json").stdout)
    assert told == {"now": [], "at_restart": [], "certificates": 0}


def test_where_no_broker_runs_one_sentence_says_so(tmp_path: Path) -> None:
    result = asked(tmp_path, "clients")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: no broker runs on the data directory {tmp_path}; start one, or name its directory with --data-dir\n",
    )


def test_alarms_are_a_table_and_json_and_none_is_an_empty_one(data_dir: Path) -> None:
    assert asked(data_dir, "alarms").stdout == "since  alarm  message\n"
    assert json.loads(asked(data_dir, "alarms", "--history", "--json").stdout) == []
