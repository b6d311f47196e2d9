"""The page docs/reference/clients.md, made from the tables that the tests run through.

`python -m tests.wire.clients.page > docs/reference/clients.md`; a test compares the page with the tables.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.wire.clients.adapter import VERSION_NAMES
from tests.wire.clients.cells import LIBRARIES, TRANSPORTS, VERSIONS, Library, why_not
from tests.wire.clients.scenarios import NEW, OLD, SCENARIOS, UNABLE, Stage

ROOT = Path(__file__).parents[3]
HEAD = """\
# Clients that are tested

Made from the tables of the tests (`make docs`). One broker with all listeners; every library below goes through every
scenario over every transport and in every version that it has, with each `make test` (`tests/wire/test_clients.py`).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Cells\n", *_cells(), "\n## What cannot be\n", *_impossible(), "\n## Scenarios\n", *_scenarios()]
    return "\n".join(parts) + "\n"


def _cells() -> Iterator[str]:
    yield from _row(["client", "tested version", *TRANSPORTS])
    yield from _row(["---"] * (2 + len(TRANSPORTS)))
    for library in LIBRARIES:
        yield from _row([library.name, _pinned(library.name), *(_versions(library, to) for to in TRANSPORTS)])


def _versions(library: Library, transport: str) -> str:
    tested = [VERSION_NAMES[version] for version in VERSIONS if not why_not(library, transport, version)]
    return ", ".join(tested) or "-"


def _impossible() -> Iterator[str]:
    for library in LIBRARIES:
        for what, reason in library.lacks.items():
            yield f"- {library.name}, {what if isinstance(what, str) else VERSION_NAMES[what]}: {reason}."
    for (name, scenario), reason in UNABLE.items():
        yield f"- {name}, scenario `{scenario}`: {reason}."


def _scenarios() -> Iterator[str]:
    yield from _row(["scenario", "versions", "what it proves"])
    yield from _row(["---"] * 3)
    for scenario in SCENARIOS:
        yield from _row([f"`{scenario.__name__}`", _span(scenario), str(scenario.__doc__)])


def _span(scenario: Callable[[Stage], None]) -> str:
    if scenario in NEW:
        return VERSION_NAMES[5]
    everywhere = ", ".join(VERSION_NAMES.values())
    return everywhere if scenario in OLD else f"{everywhere}; mosquitto_rr alone"


def _row(cells: Iterable[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def _pinned(library: str) -> str:
    """The version that the tests install."""
    if library.startswith("mosquitto"):
        return "Debian's"
    if library == "MQTT.js":
        return str(json.loads((ROOT / "tests/wire/package.json").read_text(encoding="utf-8"))["dependencies"]["mqtt"])
    files = (ROOT / "requirements/dev.txt", ROOT / "tests/wire/requirements.txt")
    pins = "\n".join(file.read_text(encoding="utf-8") for file in files)
    match = re.search(rf"^{library}==(.+)$", pins, re.MULTILINE)
    return match[1] if match else "?"


if __name__ == "__main__":
    sys.stdout.write(page())
