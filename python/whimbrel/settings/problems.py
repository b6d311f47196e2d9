"""What is wrong with the settings, said so that it can be mended: where, what was found, what is allowed, a hint.

Knows how a problem is shown, not how it is found. Every text is safe to print: control characters and bytes that are
not UTF-8 are shown as escapes.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from whimbrel.errors import EXIT_MISTAKE, WhimbrelError

_SHOWN_MAX: Final = 80
_INTEGER_SHOWN_BITS_MAX: Final = 256
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake.

    `origin` is "broker.toml:14:9", "WHIMBREL__WORKERS", "--set workers", "--data-dir", "overrides" or "default".
    `key` is the dotted key, empty where the whole source is meant. `hint` is empty where nothing better is known.
    """

    origin: str
    key: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.origin}: {self.key}" if self.key else self.origin
        lines = [head, f"  found:   {self.found}", f"  allowed: {self.allowed}"]
        if self.hint:
            lines.append(f"  hint:    {self.hint}")
        return "\n".join(printable(line) for line in lines)


class SettingsError(WhimbrelError):
    """The settings cannot be meant as written. `problems` has all of them; the text shows one block for each."""

    exit_code: Final = EXIT_MISTAKE

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def printable(text: str) -> str:
    """The text with everything that a terminal or a UTF-8 stream would not take as an escape."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def quoted(text: str) -> str:
    """The text as a TOML basic string."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def dotted(path: Sequence[str]) -> str:
    """The key as it is written in TOML: bare where possible."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else shown(part) for part in path)


def shown(value: object) -> str:
    """A value as the operator wrote it, cut to a length that fits a line."""
    text = _shown_whole(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."


def _shown_whole(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value[: _SHOWN_MAX + 1])
        case PurePath():
            return quoted(str(value))
        case int() if value.bit_length() > _INTEGER_SHOWN_BITS_MAX:
            return f"a number of {value.bit_length()} bits"
        case int() | float():
            return repr(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            return "a table" if value else "an empty table"
        case list() | tuple():
            return "an array"
    return f"a value of type {type(value).__name__}"


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
