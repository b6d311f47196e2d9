"""Where raw values come from: a file, the environment, `--set` flags, a program's mapping, the defaults.

Each source becomes `Raw` values: the key, what was written, and its origin. Knows how sources are written, not which
keys exist nor what they may say. No source can make it fail otherwise than with a `Problem`.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from whimbrel.settings.positions import Lost, Positions, scan
from whimbrel.settings.problems import Problem, dotted, shown
from whimbrel.settings.table import ROWS, STANDING_LISTENERS

FILE_BYTES_MAX: Final = 1024 * 1024
ENVIRONMENT_PREFIX: Final = "WHIMBREL__"

_KEY_PARTS_MAX: Final = 8
"""No key is deeper; what lies below is not looked at, so that a source cannot nest without bound."""

Key: TypeAlias = tuple[str, ...]


class Origin(Protocol):
    """Says where something was written."""

    def of_key(self, key: Key) -> str:
        """Where this key, or the first part of a key that begins so, is written."""

    def of_value(self, key: Key) -> str:
        """Where the value of this key is written."""


@dataclass(frozen=True, slots=True)
class Label:
    """An origin without places, such as "WHIMBREL__WORKERS"."""

    text: str

    def of_key(self, key: Key) -> str:
        return self.text

    def of_value(self, key: Key) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Document:
    """A file, with the places of its keys and values."""

    name: str
    positions: Positions = field(default_factory=Positions)

    def of_key(self, key: Key) -> str:
        return self._at(self.positions.keys, key)

    def of_value(self, key: Key) -> str:
        return self._at(self.positions.values if key in self.positions.values else self.positions.keys, key)

    def _at(self, places: Mapping[tuple[str | int, ...], tuple[int, int]], key: Key) -> str:
        if key not in places:
            return self.name
        line, column = places[key]
        return f"{self.name}:{line}:{column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One value as written. `text` is how it was typed where it came without quotes, else None."""

    key: Key
    written: object
    origin: Origin
    text: str | None = None


@dataclass(slots=True)
class Layer:
    """What one source said, and what could not be read of it."""

    raws: list[Raw] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def defaults(environment: Mapping[str, str]) -> Layer:
    """The values of all settings that have a default and no free name in their key, and the standing listeners."""
    origin = Label("default")
    written: dict[Key, object] = {
        tuple(row.key.split(".")): row.default_in(environment) for row in ROWS if "<" not in row.key
    }
    written.update(STANDING_LISTENERS)
    return Layer([Raw(key=key, written=value, origin=origin) for key, value in written.items() if value is not None])


def from_file(path: Path) -> Layer:
    """The values of a TOML file of at most FILE_BYTES_MAX bytes in UTF-8."""
    name = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _unreadable(name, reason, "a TOML file that the broker may read")
    return from_bytes(name, content)


def from_bytes(name: str, content: bytes) -> Layer:
    """The values of the content of a file."""
    if len(content) > FILE_BYTES_MAX:
        return _unreadable(name, f"more than {FILE_BYTES_MAX} bytes", "a TOML file of at most 1MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # What the codec has looked at begins behind the byte order mark.
        before, wrong = error.object[: error.start].decode(), error.object[error.start]
        return _unreadable(_at(name, before), f"a byte that is not UTF-8 (0x{wrong:02x})", "UTF-8 text")
    return _from_text(name, text)


def _at(name: str, before: str) -> str:
    """The place behind this text, the beginning of the file."""
    return f"{name}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _from_text(name: str, text: str) -> Layer:
    long_key = _LONG_KEY.search(text)
    if long_key:
        origin = _at(name, text[: long_key.start()])
        return _unreadable(origin, f"a key of more than {_LONG_KEY_PARTS} parts", "the keys of the reference")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Layer(problems=[_syntax_problem(name, text, str(error))])
    except (ValueError, RecursionError) as error:
        # tomllib lets these through: a number of thousands of digits, a time such as 25:00:00, deep nesting.
        origin = _at(name, _read_so_far(error))
        return _unreadable(origin, "a value that cannot be read", "numbers, dates and nesting of a usual size")
    document = Document(name, _positions(text))
    return Layer([Raw(key=key, written=value, origin=document) for key, value in leaves(table)])


def _read_so_far(error: Exception) -> str:
    """The text before what tomllib could not read; its frames know, and nothing else does. Empty where they do not."""
    before, trace = "", error.__traceback__
    while trace is not None:
        source, position = (trace.tb_frame.f_locals.get(word) for word in ("src", "pos"))
        if isinstance(source, str) and isinstance(position, int):
            before = source[:position]
        trace = trace.tb_next
    return before


def _positions(text: str) -> Positions:
    try:
        return scan(text)
    except (Lost, RecursionError):
        # A tomllib that knows more than this scanner: the settings hold, their origin is the file alone.
        return Positions()


_LONG_KEY_PARTS: Final = 32
# tomllib takes minutes for a key of a hundred thousand parts, so that none may reach it.
_LONG_KEY: Final = re.compile(
    r"""(?:(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}"""
)

_TOML_PLACE: Final = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


def _syntax_problem(name: str, text: str, message: str) -> Problem:
    match = _TOML_PLACE.search(message)
    lines = text.split("\n")
    line, column = (match["line"], match["column"]) if match and match["line"] else (len(lines), len(lines[-1]) + 1)
    found = message[: match.start()] if match else message
    return Problem(
        origin=f"{name}:{line}:{column}",
        key="",
        found=found,
        allowed="TOML (https://toml.io/en/v1.0.0)",
        hint=_syntax_hint(lines[int(line) - 1]),
    )


_UNQUOTED: Final = re.compile(r"""\s*[^\s=#\["']+\s*=\s*(?P<value>[^\s"'\[{#][^"'#]*?)\s*(?:#.*)?""")


def _syntax_hint(line: str) -> str:
    match = _UNQUOTED.fullmatch(line)
    if match is None:
        return ""
    text = match["value"]
    return f'text stands in quotes: "{text}"' if bare_or_toml(text) == text else ""


def _unreadable(origin: str, found: str, allowed: str) -> Layer:
    return Layer(problems=[Problem(origin=origin, key="", found=found, allowed=allowed)])


def from_environment(environment: Mapping[str, str]) -> Layer:
    """The values of all variables that begin with WHIMBREL__; `__` separates the parts of the key."""
    layer = Layer()
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX)):
        key = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        _add_typed(layer, Label(variable), key, environment[variable])
    return layer


def from_sets(sets: Sequence[str]) -> Layer:
    """The values of the `--set` flags, each `section.key=value`; the last one of a key holds."""
    layer = Layer()
    for flag in sets:
        name, equals, text = flag.partition("=")
        origin = Label(f"--set {name.strip()}")
        if equals:
            _add_typed(layer, origin, tuple(part.strip() for part in name.split(".")), text.strip())
        else:
            layer.problems.append(Problem(origin=origin.text, key="", found=shown(flag), allowed="section.key=value"))
    return layer


def from_mapping_layer(overrides: Mapping[str, object]) -> Layer:
    """The values of a program: nested mappings, dotted keys, or both. None means unset."""
    origin = Label("overrides")
    layer = Layer()
    for parts, written in leaves(overrides):
        key = tuple(word for part in parts for word in str(part).split("."))
        if written is not None:
            layer.raws.append(Raw(key=key, written=written, origin=origin))
    return layer


def from_data_dir(data_dir: Path) -> Layer:
    """What `--data-dir` means."""
    return Layer([Raw(key=("node", "data_dir"), written=data_dir, origin=Label("--data-dir"))])


def _add_typed(layer: Layer, origin: Label, key: Key, text: str) -> None:
    written = bare_or_toml(text)
    if written == text and text.startswith(("'", '"', "{")):
        problem = Problem(origin=origin.text, key=dotted(key), found=shown(text), allowed="a TOML value, or bare text")
        layer.problems.append(problem)
        return
    bare = None if isinstance(written, (str, Mapping)) else text
    for below, value in leaves({"": written}):
        layer.raws.append(Raw(key=(*key, *below[1:]), written=value, origin=origin, text=bare))


def bare_or_toml(text: str) -> object:
    """What was typed without a document around it: a TOML value where it is one, else the text itself."""
    if _LONG_KEY.search(text):
        return text
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # More than one key: the text had a newline and went on as a document.
    return table["value"] if len(table) == 1 else text


def leaves(table: Mapping[str, object]) -> Iterator[tuple[Key, object]]:
    """Each key with what it holds: a value, an empty table, or whatever lies deeper than any key can."""
    pending: list[tuple[Key, object]] = [((part,), below) for part, below in reversed(list(table.items()))]
    while pending:
        key, below = pending.pop()
        if isinstance(below, Mapping) and below and len(key) < _KEY_PARTS_MAX:
            pending.extend(((*key, part), deeper) for part, deeper in reversed(list(below.items())))
        else:
            yield key, below
