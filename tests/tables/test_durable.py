"""Rows in a real store: after kill -9, beside a broker without a store, as lines of JSON, in a backup."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tables.keeper import KEEP, MARKS, NOTES, Note, tables_of
from whimbrel import Broker
from whimbrel.engine.store import export, import_into, survey
from whimbrel.tables import Table, Tables

KEYS = ("a", "b/c", "ü")


def _broker(directory: Path | None, mode: str = "os") -> Broker:
    where = {} if directory is None else {"node.data_dir": str(directory), "storage.durability": mode}
    # The machine's load must not write alarms into the store.
    return Broker({"listeners.ws.default.bind": "off", "sysmon.interval": "0s", **where})


@pytest.mark.parametrize("mode", ["sync", "os"])
@pytest.mark.parametrize("kept", [1, 37])
async def test_what_was_awaited_is_there_after_kill_9(tmp_path: Path, mode: str, kept: int) -> None:
    said = await asyncio.to_thread(_killed_after, tmp_path, mode, kept)
    async with _broker(tmp_path, mode) as broker:
        tables = tables_of(broker)
        notes, marks = dict(tables.open(NOTES).items()), tables.open(MARKS)
        newest = marks.get("newest")
    # What was said is there; of what came behind it, each change is whole or not there.
    assert newest is not None
    assert newest.number >= said
    expected = range(max(1, newest.number - KEEP + 1), newest.number + 1)
    assert notes == {str(number): Note(number, "x" * (number % 700)) for number in expected}


def _killed_after(directory: Path, mode: str, kept: int) -> int:
    words = [sys.executable, "-m", "tests.tables.keeper", str(directory), mode]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(kept)]
        process.kill()
    assert said[-1:] == [f"kept {kept}\n"]
    return kept


STEP = st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 9))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(STEP, min_size=1, max_size=4), max_size=12), st.booleans())
def test_a_broker_without_a_store_holds_the_same(
    tmp_path_factory: pytest.TempPathFactory, changes: list[list[tuple[str, int | None]]], is_at_once: bool
) -> None:
    directory = tmp_path_factory.mktemp("twin")
    asyncio.run(_compare(directory, changes, is_at_once=is_at_once))


async def _compare(directory: Path, changes: list[list[tuple[str, int | None]]], *, is_at_once: bool) -> None:
    portions = [changes] if is_at_once else [[one] for one in changes]
    stored = await _held_after(directory, portions)
    assert stored == await _held_after(None, portions)
    assert stored == await _held_after(directory, [])


async def _held_after(where: Path | None, portions: list[list[list[tuple[str, int | None]]]]) -> dict[str, Note]:
    async with _broker(where) as broker:
        tables = tables_of(broker)
        notes = tables.open(NOTES)
        for portion in portions:
            await asyncio.gather(*(_change(tables, notes, steps) for steps in portion))
        return dict(notes.items())


async def _change(tables: Tables, notes: Table[Note], steps: list[tuple[str, int | None]]) -> None:
    parts = [notes.deleting(key) if number is None else notes.putting(key, Note(number, key)) for key, number in steps]
    await tables.change(*parts)


async def test_rows_are_exported_imported_counted_and_backed_up(tmp_path: Path) -> None:
    async with _broker(tmp_path / "one") as broker:
        tables = tables_of(broker)
        notes, marks = tables.open(NOTES), tables.open(MARKS)
        steps = [notes.putting(key, Note(number, "ü")) for number, key in enumerate(KEYS)]
        await tables.change(*steps, marks.putting("m", Note(1, "")))
        await broker._running.services.storage.backup(tmp_path / "copy.redb")
    lines: list[str] = []
    assert export(tmp_path / "one" / "store", lines.append) == []
    rows = [json.loads(line) for line in "".join(lines).splitlines()]
    assert rows.pop(1)["type"] == "keyed"  # the broker's own sign of life
    assert rows[1] == {"type": "control", "family": "marks", "key": "m", "value": '1 {"number":1,"text":""}'}
    assert [row["key"] for row in rows[2:-1]] == list(KEYS)
    assert import_into(tmp_path / "two", "".join(lines).splitlines(), name="test") == 5
    again: list[str] = []
    export(tmp_path / "two", again.append)
    assert again == lines
    (tmp_path / "three" / "store").mkdir(parents=True, mode=0o700)
    (tmp_path / "copy.redb").rename(tmp_path / "three" / "store" / "store.redb")
    for folder in ("two", "three/store"):
        found = survey(tmp_path / folder)
        assert (found["families"], found["unreadable"], found["damaged"]) == ({"marks": 1, "notes": 3}, 0, [])
    async with _broker(tmp_path / "three") as broker:
        assert tables_of(broker).open(NOTES).get("ü") == Note(2, "ü")


async def test_a_row_that_makes_no_sense_is_counted_by_the_tools(tmp_path: Path) -> None:
    lines = [
        {"type": "whimbrel-store", "format": 1},
        {"type": "keyed", "space": 64, "key": "bm90ZXMvYQ==", "value": "/w=="},
        {"type": "end", "rows": 1},
    ]
    import_into(tmp_path / "store", [json.dumps(line) for line in lines], name="test")
    assert survey(tmp_path / "store")["unreadable"] == 1
    async with _broker(tmp_path) as broker:
        notes = tables_of(broker).open(NOTES)
        assert list(notes.damaged) == ["a"]
        await notes.put("a", Note(1, ""))
    assert survey(tmp_path / "store")["families"] == {"notes": 1}
