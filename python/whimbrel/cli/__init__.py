"""The command `whimbrel`. A spoke: it knows settings, the app and the management line, and says things to people.

Exit codes: 0; 1 where the machine or the broker refused or `bench` found faults; 2 for what has to be written
differently; 27 where `sub -W` ran out (mosquitto_sub's code); 130 after Ctrl-C.
"""

import errno
import os
import sys
from typing import Any

import click

from whimbrel.cli.bench import bench
from whimbrel.cli.control import ctl
from whimbrel.cli.messages import pub, sub
from whimbrel.cli.operator import check, config, start, version
from whimbrel.cli.store import store
from whimbrel.errors import EXIT_REFUSED, WhimbrelError

INTERRUPTED = 130


class _Command(click.Group):
    """The group of all commands; the one place where errors become a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WhimbrelError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(getattr(error, "exit_code", EXIT_REFUSED))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly: whoever read our output has seen enough.
            _give_up_output()
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {where}{(error.strerror or str(error)).lower()}", err=True)
            sys.exit(EXIT_REFUSED)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _give_up_output() -> None:
    # What could not be written is still in the buffer, and the interpreter would try it again at its end.
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Command, context_settings={"max_content_width": 100})
@click.version_option(package_name="whimbrel", message="whimbrel %(version)s")
def main() -> None:
    """Whimbrel, an MQTT broker."""


for _command in (start, check, config, version, pub, sub, bench, ctl, store):
    main.add_command(_command)
