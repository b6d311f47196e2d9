"""`whimbrel store`: looks into the store of a data directory that no broker uses, and moves what is in it.

Knows where the store is and whose turn it is: the data directory's lock is held, so no broker can start meanwhile.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import click

from whimbrel.app.data_dir import locked
from whimbrel.cli.operator import loaded, sources
from whimbrel.engine.options import STORE_FOLDER
from whimbrel.errors import EXIT_MISTAKE, EXIT_REFUSED, StartError, StorageFailure

_COUNTS: Final = {
    "sessions": "durable sessions",
    "subscriptions": "their subscriptions",
    "messages": "stored messages",
    "deliveries": "deliveries that wait or are in flight",
    "retained": "retained messages",
    "exchanges": "packet identifiers in use at QoS 2",
    "others": "values that this version does not know",
    "unreadable": "records that cannot be read",
    "chunks": "chunks",
    "bytes": "bytes in them",
    "slots": "places in them, one for each receiver of a record",
    "live": "places that are still needed",
}
_STANDARD: Final = Path("-")
_path = click.argument(
    "path", type=click.Path(path_type=Path, dir_okay=False), default=str(_STANDARD), metavar="[FILE]"
)


@click.group()
def store() -> None:
    """Look into a store, or move it, while no broker runs on its data directory (else: `whimbrel ctl`)."""


@store.command()
@sources
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")
def stats(is_json: bool, **typed: Any) -> None:
    """Count what is in the store."""
    found = _survey(_data_dir(**typed))
    if is_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print_counts(found)


@store.command()
@sources
def check(**typed: Any) -> None:
    """Read all of the store and say what is damaged; exit code 1 if something is.

    As at a start of the broker, what is damaged is set aside in the store's folder, and what is whole goes on.
    """
    found = _survey(_data_dir(**typed))
    for sentence in found["damaged"]:
        click.echo(f"damaged: {sentence}")
    _print_counts(found)
    if found["damaged"] or found["unreadable"]:
        click.echo("error: not all of the store can be read; what is damaged was set aside in its folder", err=True)
        sys.exit(EXIT_REFUSED)
    click.echo("the store is whole")


@store.command("export")
@sources
@_path
def export_to(path: Path, **typed: Any) -> None:
    """Write the store to FILE (or standard output), one JSON object a line."""
    from whimbrel.engine.store import export

    with _existing(_data_dir(**typed)) as folder, _written(path) as stream:
        damaged = export(folder, stream.write)
    for sentence in damaged:
        click.echo(f"damaged and left out: {sentence}", err=True)


@store.command("import")
@sources
@_path
def import_from(path: Path, **typed: Any) -> None:
    """Begin a store with what FILE (or standard input) says, in a data directory that has none."""
    from whimbrel.engine.store import STORE_FILE, import_into

    with locked(_data_dir(**typed)) as data_dir:
        final, growing = data_dir / STORE_FOLDER, data_dir / f"{STORE_FOLDER}.importing"
        if (final / STORE_FILE).exists():
            raise StorageFailure(
                f"{final} holds a store already; move it away, or name another directory with --data-dir"
            )
        shutil.rmtree(growing, ignore_errors=True)
        try:
            with click.open_file(str(path), encoding="utf-8") as stream:
                count = import_into(growing, stream, name=click.format_filename(path))
            growing.rename(final)
        finally:
            shutil.rmtree(growing, ignore_errors=True)
    click.echo(f"{count} rows are in {final}", err=True)


def _data_dir(*, file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> Path:
    found = loaded(file, data_dir, sets).node.data_dir
    if found is None:
        raise StartError(
            "no data directory is set, so there is no store; name one with --data-dir", exit_code=EXIT_MISTAKE
        )
    return found


@contextlib.contextmanager
def _existing(data_dir: Path) -> Iterator[Path]:
    """The store's folder, which no broker can use meanwhile."""
    from whimbrel.engine.store import STORE_FILE

    folder = data_dir / STORE_FOLDER
    if not (folder / STORE_FILE).exists():
        raise StorageFailure(
            f"there is no store in {folder}: a broker makes one when it starts with storage.durability sync or os; "
            "name its data directory with --data-dir"
        )
    with locked(data_dir):
        yield folder


def _survey(data_dir: Path) -> dict[str, Any]:
    from whimbrel.engine.store import survey

    with _existing(data_dir) as folder:
        return survey(folder)


def _print_counts(found: dict[str, Any]) -> None:
    for key, words in _COUNTS.items():
        click.echo(f"{found[key]:>14,}  {words}")
        if key == "exchanges":
            _print_families(found["families"])


def _print_families(families: Mapping[str, int]) -> None:
    for name, count in families.items():
        # Their names are checked where they are read: letters, digits and underscores.
        click.echo(f"{count:>14,}  rows of the control plane: {name}")


@contextlib.contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A file that is whole or not there; only its owner may read it, because payloads are in it."""
    if path == _STANDARD:
        yield sys.stdout
        return
    growing = path.with_name(f"{path.name}.partial")
    try:
        with open(growing, "w", encoding="utf-8", opener=_private) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        growing.replace(path)
    finally:
        growing.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
