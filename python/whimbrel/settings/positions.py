"""Where in a TOML document each key and each value stands.

A small lexical scanner for documents that `tomllib` has already accepted: it finds places, it judges nothing and it
reads no value. `tomllib` keeps no places, and a parser of our own would be a second opinion on what TOML means.
The rules are those of TOML 1.0 (toml.io/en/v1.0.0); newlines inside inline tables (1.1) are passed over too.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Parts of a key; a number counts the elements of an array, from 0."""


class Place(NamedTuple):
    """Line and column, both from 1; a column is a character."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Positions:
    """The places of one document. A key's place is that of its last part, where it is written first."""

    keys: Mapping[Path, Place] = field(default_factory=dict)
    values: Mapping[Path, Place] = field(default_factory=dict)


class Lost(ValueError):
    """The document is not what `tomllib` of TOML 1.0 accepts."""


def scan(text: str) -> Positions:
    """The place of every key, table and value. Raises `Lost`, or RecursionError on very deep nesting.

    Linear in the length of the text, apart from keys with very many parts.
    """
    scanner = _Scanner(text)
    scanner.document()
    place = _Places(text)
    return Positions(
        keys={path: place(at) for path, at in scanner.keys.items()},
        values={path: place(at) for path, at in scanner.values.items()},
    )


class _Places:
    """Turns offsets of one text into places."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def __call__(self, offset: int) -> Place:
        line = bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


_BLANK: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'""")
# The longest run of closing quotes belongs to the string: up to two of them are its content.
_STRING: Final = re.compile(
    r'''"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'''
    r"""|\'\'\'(?:[^']++|'{1,2}(?!'))*+'{3,5}"""
    r'''|"(?:[^"\\\n]++|\\.)*+"'''
    r"""|'[^'\n]*+'""",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


class _Scanner:
    """One pass over a text. `keys` and `values` hold offsets."""

    def __init__(self, text: str) -> None:
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._elements: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            table = self._statement(table)
            self._skip(_GAP)

    def _statement(self, table: Path) -> Path:
        if self._take("[["):
            return self._array_header()
        if self._take("["):
            return self._header()
        self._pair(table)
        return table

    def _header(self) -> Path:
        path: Path = ()
        for part, at in self._key():
            path = self._inside((*path, part), at)
        self._expect("]")
        return path

    def _array_header(self) -> Path:
        *above, (last, at) = self._key()
        self._expect("]]")
        path: Path = ()
        for part, at_part in above:
            path = self._inside((*path, part), at_part)
        path = (*path, last)
        self.keys.setdefault(path, at)
        self._elements[path] = self._elements.get(path, -1) + 1
        return (*path, self._elements[path])

    def _inside(self, path: Path, at: int) -> Path:
        """Notes the key; where it is an array of tables, its last element is meant."""
        self.keys.setdefault(path, at)
        return (*path, self._elements[path]) if path in self._elements else path

    def _pair(self, table: Path) -> None:
        path = table
        for part, at in self._key():
            path = (*path, part)
            self.keys.setdefault(path, at)
        self._expect("=")
        self.values[path] = self._at
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        self._skip(_BLANK)
        parts = [self._part()]
        while self._take("."):
            parts.append(self._part())
        return parts

    def _part(self) -> tuple[str, int]:
        at = self._at
        token = self._skip(_KEY)
        self._skip(_BLANK)
        return _unquoted(token), at

    def _value(self, path: Path) -> None:
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            self._inline_table(path)
        else:
            self._skip(_STRING if self._text[self._at : self._at + 1] in ("'", '"') else _SCALAR)

    def _array(self, path: Path) -> None:
        self._skip(_GAP)
        element = 0
        while not self._take("]"):
            self._value((*path, element))
            element += 1
            self._separator()

    def _inline_table(self, path: Path) -> None:
        self._skip(_GAP)
        while not self._take("}"):
            self._pair(path)
            self._separator()

    def _separator(self) -> None:
        self._skip(_GAP)
        self._take(",")
        self._skip(_GAP)

    def _take(self, mark: str) -> bool:
        """Steps over the mark and the blanks behind it, where it stands here."""
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        self._skip(_BLANK)
        return True

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise Lost(f"{mark} expected at offset {self._at}")

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise Lost(f"nothing known at offset {self._at}")
        self._at = match.end()
        return match[0]


def _unquoted(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    if token.startswith('"'):
        # One reader of escapes is enough.
        return str(tomllib.loads(f"key = {token}")["key"])
    return token
