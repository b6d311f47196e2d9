"""A store that no broker holds, as lines of JSON and back: for tools.

Knows the shape of the lines: the first names the format, the last counts the rows between them, each is one object with
a `type`; octets are Base64. Lines are the same for the same content, so two exports can be compared. Must not know data
directories, locks or terminals. Everything here blocks for the disk.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from whimbrel._core import StorageError, StoreImport, store_export, store_survey
from whimbrel.errors import StorageFailure

STORE_FILE: Final = "store.redb"
FORMAT: Final = 1
_HEAD: Final = "whimbrel-store"
_TAIL: Final = "end"
# Its key and value are text, where others of these names are octets.
_TEXT_ALONE: Final = "control"
_OCTETS: Final = frozenset({"key", "value", "properties", "payload", "body", "more"})
_NO_ROW: Final = (ValueError, KeyError, TypeError, OverflowError, binascii.Error)


def survey(folder: Path) -> dict[str, Any]:
    """Count what is in the store in `folder`; `damaged` is a list of sentences. Raises StorageFailure."""
    try:
        return store_survey(str(folder))
    except StorageError as error:
        raise StorageFailure(f"cannot use the store in {folder}: {error}") from error


def export(folder: Path, write: Callable[[str], object]) -> list[str]:
    """Write every line, with its newline; returns what was found damaged.

    Raises StorageFailure, and what `write` raises.
    """
    count = 0

    def take(rows: list[tuple[str, dict[str, Any]]]) -> None:
        nonlocal count
        count += len(rows)
        write("".join(_line({"type": kind, **fields}) for kind, fields in rows))

    write(_line({"type": _HEAD, "format": FORMAT}))
    try:
        damaged = store_export(str(folder), take)
    except StorageError as error:
        raise StorageFailure(f"cannot use the store in {folder}: {error}") from error
    write(_line({"type": _TAIL, "rows": count}))
    return damaged


def import_into(folder: Path, lines: Iterable[str], *, name: str) -> int:
    """Begin a store in `folder`, where there is none, with what `lines` say; how many rows they were.

    `name` is where the lines come from, for errors. Raises StorageFailure; what is in the folder then is not whole.
    """
    count = 0
    try:
        target = StoreImport(str(folder))
        for number, row in _rows(lines, name):
            try:
                kind = row.pop("type")
                target.add(kind, row if kind == _TEXT_ALONE else _plain(row))
            except _NO_ROW as error:
                raise _mistake(name, number, f"this is no row: {error}") from error
            count += 1
        target.finish()
    except StorageError as error:
        raise StorageFailure(f"cannot fill the store in {folder}: {error}") from error
    return count


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each row between head and tail."""
    number = 0
    for number, line in enumerate(lines, start=1):
        row = _object(line, name, number)
        if number == 1:
            _check_head(row, name)
        elif row["type"] == _TAIL:
            if row.get("rows") != number - 2:
                raise _mistake(name, number, f"there should be {row.get('rows')} rows, and there are {number - 2}")
            return
        else:
            yield number, row
    raise _mistake(name, number, "the last line is missing: the export was cut off")


def _object(line: str, name: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _mistake(name, number, f"this is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("type"), str):
        raise _mistake(name, number, "this is no object with a type")
    return row


def _check_head(row: dict[str, Any], name: str) -> None:
    if row["type"] != _HEAD:
        raise _mistake(name, 1, "this is not the export of a store")
    if row.get("format") != FORMAT:
        found = row.get("format")
        raise _mistake(name, 1, f"it has format {found}, this version reads format {FORMAT}; use the one that wrote it")


def _mistake(name: str, number: int, what: str) -> StorageFailure:
    return StorageFailure(f"{name}, line {number}: {what}")


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), default=_base64) + "\n"


def _base64(octets: object) -> str:
    assert isinstance(octets, bytes)
    return base64.b64encode(octets).decode()


def _plain(value: Any) -> Any:
    """The value with its octets as bytes."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: base64.b64decode(one, validate=True) if key in _OCTETS else _plain(one) for key, one in value.items()}
