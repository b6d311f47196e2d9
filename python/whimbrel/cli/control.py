"""`whimbrel ctl`: asks the broker that runs on a data directory, over its management line."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from whimbrel.cli.operator import loaded, sources
from whimbrel.control.client import ControlClient
from whimbrel.errors import EXIT_MISTAKE, EXIT_REFUSED, StartError
from whimbrel.settings.problems import printable

_COLUMNS: Final[Mapping[str, str]] = {
    "client": "client_id",
    "user": "username",
    "peer": "peer",
    "listener": "listener",
    "mqtt": "protocol_version",
    "connected": "is_connected",
    "subscriptions": "subscriptions",
    "queued": "mqueue_len",
    "inflight": "inflight",
}
# A large store takes as long as its disk.
_BACKUP_WAIT_S: Final = 6 * 3_600.0
_PROTOCOLS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}
_as_json = click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")


class _Sources(NamedTuple):
    """What was typed between `ctl` and the operation."""

    file: Path | None
    data_dir: Path | None
    sets: tuple[str, ...]


@click.group()
@sources
@click.pass_context
def ctl(ctx: click.Context, file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> None:
    """Ask a running broker, found by its data directory; options may stand before or behind the operation."""
    ctx.obj = _Sources(file, data_dir, sets)


def _operation(function: Callable[..., None]) -> Callable[..., None]:
    """Finds its data directory from what was typed before the operation and behind it; the latter is stronger."""

    def found(
        before: _Sources, *, file: Path | None, data_dir: Path | None, sets: tuple[str, ...], **arguments: Any
    ) -> None:
        settings = loaded(file or before.file, data_dir or before.data_dir, before.sets + sets)
        if settings.node.data_dir is None:
            sentence = "no data directory is set, so there is no broker to ask; name one with --data-dir"
            raise StartError(sentence, exit_code=EXIT_MISTAKE)
        function(settings.node.data_dir, **arguments)

    # click takes the operation's name and its help from here.
    found.__name__, found.__doc__ = function.__name__, function.__doc__
    return sources(click.pass_obj(found))


@ctl.command()
@_as_json
@_operation
def clients(data_dir: Path, is_json: bool) -> None:
    """List the clients, connected or not."""
    with ControlClient(data_dir) as control:
        listed = list(control.clients())
    if is_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        _print_table(list(_COLUMNS), [[_cell(key, one[key]) for key in _COLUMNS.values()] for one in listed])


@ctl.command()
@_as_json
@_operation
def metrics(data_dir: Path, is_json: bool) -> None:
    """Print every metric: what happened since the start."""
    _print_numbers(data_dir, "metrics", is_json=is_json)


@ctl.command()
@_as_json
@_operation
def stats(data_dir: Path, is_json: bool) -> None:
    """Print every statistic: how many there are, and the most there were since the start."""
    _print_numbers(data_dir, "stats", is_json=is_json)


@ctl.command()
@click.option("--history", "is_history", is_flag=True, help="Those that are over, instead of those that hold.")
@_as_json
@_operation
def alarms(data_dir: Path, is_history: bool, is_json: bool) -> None:
    """List what is wrong now, or what was; exit code 0 either way."""
    with ControlClient(data_dir) as control:
        listed: list[dict[str, Any]] = control.request("alarms", history=is_history)
    if is_json:
        click.echo(json.dumps(listed, indent=2))
        return
    words = ("name", "message")
    times = ["activated_at_ms", "deactivated_at_ms"] if is_history else ["activated_at_ms"]
    # Clients choose a part of these words.
    rows = [[*(_moment(one[name]) for name in times), *(printable(one[name]) for name in words)] for one in listed]
    _print_table(["since", *(["until"] if is_history else []), "alarm", "message"], rows)


@ctl.command()
@_as_json
@_operation
def ledger(data_dir: Path, is_json: bool) -> None:
    """Print what became of every message and delivery; exit code 1 if something is missing.

    The broker looks at every session for it.
    """
    with ControlClient(data_dir) as control:
        found: dict[str, Any] = control.request("ledger")
    if is_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print_table(["", "count"], _ledger_rows(found))
    if not found["is_even"]:
        raise SystemExit(EXIT_REFUSED)


@ctl.command()
@click.argument("path", type=click.Path(path_type=Path))
@_as_json
@_operation
def backup(data_dir: Path, path: Path, is_json: bool) -> None:
    """Copy the store to PATH while the broker serves."""
    with ControlClient(data_dir, wait_s=_BACKUP_WAIT_S) as control:
        found = control.request("backup", path=str(path.absolute()))
    click.echo(json.dumps(found) if is_json else f"copied to {printable(found['path'])}")


@ctl.command()
@click.argument("client_id")
@_as_json
@_operation
def kick(data_dir: Path, client_id: str, is_json: bool) -> None:
    """End a client's connection and its session."""
    with ControlClient(data_dir) as control:
        control.request("kick", client_id=client_id)
    click.echo(json.dumps({"kicked": client_id}) if is_json else f"kicked {printable(client_id)}")


@ctl.command()
@_as_json
@_operation
def reload(data_dir: Path, is_json: bool) -> None:
    """Read the broker's settings and certificates again, as SIGHUP does; connections go on as they are."""
    with ControlClient(data_dir) as control:
        found: dict[str, Any] = control.request("reload")
    if is_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"read again        certificates of {found['certificates']} listeners")
    for words, keys in (("holds now", found["now"]), ("needs a restart", found["at_restart"])):
        for key in keys:
            click.echo(f"{words:<16}  {key}")


def _print_numbers(data_dir: Path, operation: str, *, is_json: bool) -> None:
    with ControlClient(data_dir) as control:
        numbers: dict[str, int] = control.request(operation)
    if is_json:
        click.echo(json.dumps(numbers, indent=2))
    else:
        _print_table(["name", "value"], [[name, str(number)] for name, number in numbers.items()])


def _ledger_rows(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for line in found["lines"]:
        yield line["name"], ""
        for sign, parts in (("+", line["came"]), ("-", line["became"])):
            yield from ((f"  {sign} {name}", str(count)) for name, count in parts.items())
        yield "  = missing", str(line["missing"])
    yield "between workers", str(found["on_the_way"])


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(key: str, value: Any) -> str:
    if key == "protocol_version":
        return _PROTOCOLS.get(value, str(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    # A client chooses its id and user name; they must not drive the terminal.
    return "-" if value in (None, "") else printable(str(value))


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
