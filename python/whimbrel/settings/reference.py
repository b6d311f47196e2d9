"""The reference page of the settings, made from the table: `python -m whimbrel.settings.reference > FILE`.

Knows Markdown and the rows. A test fails where the page in the repository is not what this prints.
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from whimbrel.settings.problems import quoted
from whimbrel.settings.table import ROWS, STANDING_LISTENERS, Computed, Row

_HEAD: Final = """\
# Settings

<!-- Made by `python -m whimbrel.settings.reference` from the rows in `python/whimbrel/settings/table.py`. -->

Settings come from five places. Each covers the one above it, key by key:

1. the defaults on this page;
2. the file of `--config FILE`, in TOML, at most 1MB;
3. environment variables `WHIMBREL__SECTION__KEY`: two underscores between the parts of the key, upper case for lower;
4. flags `--set section.key=value`;
5. `--data-dir DIR`, which is `node.data_dir`.

A value in the environment or in a flag is TOML; text needs no quotes there. So these three say the same:

```toml
[mqtt]
max_packet_size = "4MB"
```

```sh
WHIMBREL__MQTT__MAX_PACKET_SIZE=4MB whimbrel start
whimbrel start --set mqtt.max_packet_size=4MB
```

`whimbrel check` reports every mistake at once, with its place and what is allowed there. `whimbrel config` prints
what holds, and where each value comes from.

## How values are written

- **Size**: `"64KB"`, `"1MB"`, `"2GB"`; 1KB is 1024 bytes. A plain number is bytes.
- **Duration**: `"500ms"`, `"15s"`, `"30m"`, `"2h"`, `"7d"`, also together: `"1h30m"`. A plain number is seconds.
- **Address**: `"127.0.0.1:1883"`; `"[::1]:1883"` for IPv6; `"*:1883"` or `":1883"` for every IPv4 address;
  `"[::]:1883"` for every IPv6 address; `"localhost:1883"`, `"1883"` or `1883` for 127.0.0.1. Port 0 lets the kernel
  choose. Host names are not looked up.
- **Name** of a listener or zone: 1 to 64 letters, digits, `_` and `-`. Through the environment a name is lower case.

## Who may enter

A listener on a loopback address or a Unix socket takes clients that nobody vouches for. Any other listener is refused
until `auth.allow_anonymous` is written: `true` lets everyone in, `false` only those that a hook lets in.

## Zones

`[zones.<name>.mqtt]` takes every key of `[mqtt]`. What a zone does not say, it inherits from `[mqtt]`. A listener with
`zone = "<name>"` uses it.

## Without a restart

SIGHUP and `whimbrel ctl reload` read the sources again. What holds without a restart is
marked below; limits of `[mqtt]` and of zones hold for connections from then on. The answer, and the log, name what
changed and what waits for the next start.
"""


def page() -> str:
    """The whole page, with a newline at the end."""
    rows = [row for row in ROWS if not row.key.startswith("zones.")]
    sections = (_section(name, list(group)) for name, group in groupby(rows, key=_section_name))
    return "\n".join([_HEAD, *sections])


def _section_name(row: Row) -> str:
    return row.key.split(".")[0]


def _section(name: str, rows: list[Row]) -> str:
    lines = [f"## {name}", "", "| Key | Default | Allowed | Meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_line(row) for row in rows), *_standing(name), ""])


def _line(row: Row) -> str:
    meaning = row.doc if row.needs_restart else f"{row.doc} Holds without a restart."
    cells = (f"`{row.key}`", _default(row), row.shape.allowed, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(row: Row) -> str:
    if row.default is None:
        return "unset"
    if isinstance(row.default, Computed):
        return row.default.text
    return f"`{row.shape.write(row.shape.read(row.default))}`"


def _standing(section: str) -> Iterator[str]:
    for key, bind in STANDING_LISTENERS.items():
        if key[0] == section:
            yield ""
            yield f"`{'.'.join(key)} = {quoted(bind)}` holds without being written; `{quoted('off')}` switches it off."


if __name__ == "__main__":
    sys.stdout.write(page())
