"""`whimbrel start`, `check`, `config`, `version`: what whoever runs the broker types."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from whimbrel import logs
from whimbrel.settings import Settings, explain, load


class Directory(click.Path):
    """A directory that is named: an empty text (an unset shell variable) would mean the current one."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Fails where it is empty."""
        if value == "":
            self.fail("an empty text names no directory", param, ctx)
        return super().convert(value, param, ctx)


_SOURCES: Final = (
    click.option(
        "--config",
        "file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings in TOML, over the defaults.",
    ),
    click.option(
        "--data-dir",
        type=Directory(),
        metavar="DIR",
        help="Where the broker keeps its data; overrides node.data_dir.",
    ),
    click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="One setting, over everything else; may be given several times.",
    ),
)


def sources(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where settings come from, as arguments `file`, `data_dir`, `sets`."""
    for option in reversed(_SOURCES):
        command = option(command)
    return command


def loaded(file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> Settings:
    """The settings of these sources and the environment. Raises SettingsError."""
    return load(file=file, environment=os.environ, sets=sets, data_dir=data_dir)


@click.command()
@sources
def start(file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> None:
    """Run the broker in the foreground until Ctrl-C or SIGTERM."""
    settings = loaded(file, data_dir, sets)
    logs.configure(settings.log.level)
    # Loaded only now, so that check and config need neither the binding nor an event loop.
    from whimbrel.app.foreground import run

    run(
        settings,
        version=_version(),
        say=click.echo,
        command=invocation(sys.argv[0]),
        read_again=lambda: loaded(file, data_dir, sets),
    )


@click.command()
@sources
def check(file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> None:
    """Check the settings and report every problem at once; exit code 2 if there is one."""
    settings = loaded(file, data_dir, sets)
    count = len(settings.listeners)
    click.echo(f"the settings are good: {count} listener{'' if count == 1 else 's'}, data in {settings.node.data_dir}")


@click.command()
@sources
def config(file: Path | None, data_dir: Path | None, sets: tuple[str, ...]) -> None:
    """Print the effective settings as TOML, each with where it comes from."""
    rows = explain(file=file, environment=os.environ, sets=sets, data_dir=data_dir)
    lines = [(f"{row.key} = {row.value}", row.origin) for row in rows]
    width = min(60, max((len(line) for line, _ in lines), default=0))
    for line, origin in lines:
        click.echo(f"{line:<{width}}  # {origin}")


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"whimbrel {_version()}")


def invocation(typed: str) -> str:
    """How to type this command in another shell of this directory; `typed` is the process's own first argument."""
    found = shutil.which("whimbrel")
    if Path(typed).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m whimbrel"
    if found is not None and Path(typed).exists() and Path(found).samefile(typed):
        return "whimbrel"
    return shlex.quote(typed)


def _version() -> str:
    import whimbrel

    return whimbrel.__version__
