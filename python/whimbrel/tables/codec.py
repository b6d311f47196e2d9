"""From a frozen dataclass to the bytes of a row and back: the version of its format, a blank, JSON in one line.

    2 {"name":"ann","tags":["a"]}

Knows text, whole and real numbers, truth, octets (Base64), tuples, mappings from text, dataclasses in dataclasses, and
what may be None. The same row always gives the same bytes. A row of an earlier version is brought up to date step by
step; one of a later version, and whatever does not fit its type exactly, is a RowError: nothing is guessed.
"""

import base64
import binascii
import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from whimbrel.errors import WhimbrelError

RowT = TypeVar("RowT")

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""The fields of a row of one version as the next version has them."""

_VERSION_MAX: Final = 99_999
_PLAIN: Final = (str, int, bool)


class RowError(WhimbrelError):
    """These bytes are no row of this type; the text says what is wrong with them."""


class Codec(Generic[RowT]):
    """For rows of one dataclass. Raises TypeError where a field has a type that no row can hold."""

    def __init__(self, row: type[RowT], *, version: int = 1, upgrades: Mapping[int, Upgrade] | None = None) -> None:
        """`upgrades` leads from each earlier version that is still read to the next one."""
        if not 1 <= version <= _VERSION_MAX:
            raise ValueError(f"version is {version}; it is 1 to {_VERSION_MAX}")
        self._row = row
        self._version = version
        self._upgrades = dict(upgrades or {})
        _check(row)

    def encode(self, row: RowT) -> bytes:
        """The bytes of a row. Raises ValueError for a number that JSON has no word for, and for half a character."""
        text = json.dumps(
            _to_plain(row), ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
        )
        return f"{self._version} {text}".encode()

    def decode(self, value: bytes) -> RowT:
        """The row of these bytes. Raises RowError."""
        version, fields = _split(value)
        if version > self._version:
            raise RowError(f"it has version {version}, and this broker knows versions up to {self._version}")
        while version < self._version:
            if version not in self._upgrades:
                raise RowError(f"it has version {version}, which this broker cannot bring up to date")
            fields = _upgraded(self._upgrades[version], fields, version)
            version += 1
        return cast(RowT, _from_plain(self._row, fields, "the row"))


def _split(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        head, blank, text = value.decode().partition(" ")
        fields = json.loads(text, parse_constant=_no_number) if blank and head.isdecimal() and head.isascii() else None
    except (ValueError, RecursionError) as error:
        raise RowError(f"it is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RowError("it is not a version and an object")
    return int(head), fields


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _upgraded(upgrade: Upgrade, fields: dict[str, Any], version: int) -> dict[str, Any]:
    try:
        return upgrade(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RowError(f"it has version {version} and cannot be brought up to date: {error!r}") from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value):
        return {name: _to_plain(getattr(value, name)) for name in _fields(cast(type, type(value)))}
    if isinstance(value, tuple):
        return [_to_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _to_plain(value[key]) for key in sorted(value)}
    return value


def _from_plain(kind: Any, value: Any, where: str) -> Any:
    """The value of type `kind` that `value` is the JSON of. Raises RowError, which says where."""
    if dataclasses.is_dataclass(kind):
        return _object(cast(type, kind), value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if origin is tuple:
        return tuple(_from_plain(inner[0], one, where) for one in _of(list, value, where))
    if origin is not None:
        return {key: _from_plain(inner[1], one, f"{where}.{key}") for key, one in _of(dict, value, where).items()}
    if kind is bytes:
        return _octets(_of(str, value, where), where)
    if kind is float and type(value) is int:
        return float(value)
    return _of(kind, value, where)


def _of(kind: type[Any], value: Any, where: str) -> Any:
    # type(), because a JSON true is an int to isinstance.
    if type(value) is not kind or (kind is float and not math.isfinite(cast(float, value))):
        raise RowError(f"{where} is {value!r:.80}, not of type {kind.__name__}")
    return value


def _octets(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"{where} is no Base64: {error}") from error


def _object(kind: type, value: Any, where: str) -> Any:
    plain = _of(dict, value, where)
    known = _fields(kind)
    if unknown := plain.keys() - known.keys():
        raise RowError(f"{where} has a field {sorted(unknown)[0]!r:.80}, which this version does not know")
    given = {name: _from_plain(known[name], one, f"{where}.{name}") for name, one in plain.items()}
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise RowError(f"{where} is not whole: {error}") from error


@lru_cache
def _fields(kind: type) -> dict[str, Any]:
    """Name and type of each field, in their order."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    # Several are told apart by what JSON calls them, so only plain ones can be several.
    return _from_plain(next((kind for kind in rest if type(value) is kind), rest[0]), value, where)


def _check(kind: Any) -> None:
    """Raise TypeError where a row cannot hold this type."""
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        inner = tuple(_fields(cast(type, kind)).values())
    elif origin in (Union, types.UnionType):
        inner = tuple(one for one in inner if one is not type(None))
        if len(inner) != 1 and not set(inner) <= {*_PLAIN, float}:
            raise TypeError(f"a row cannot hold {kind}: of several types, all are str, int, float, bool or None")
    elif origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        inner = inner[:1]
    elif origin is not None and issubclass(origin, Mapping) and inner[0] is str:
        inner = inner[1:]
    elif kind not in (*_PLAIN, float, bytes):
        raise TypeError(
            f"a row cannot hold {kind}: use str, int, float, bool, bytes, tuple, mapping from str, dataclass"
        )
    for one in inner:
        _check(one)
