"""Rows as bytes and back: every row comes back as it was, and no bytes do harm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.tables.codec import Codec, RowError


@dataclass(frozen=True)
class Inner:
    octets: bytes
    real: float = 0.5


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    is_on: bool
    inner: Inner
    note: str | None = None
    tags: tuple[str, ...] = ()
    parts: tuple[Inner, ...] = ()
    numbers: Mapping[str, int | None] = field(default_factory=dict)
    mixed: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


CODEC = Codec(Row)
REALS = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(Inner, octets=st.binary(), real=REALS)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.builds(
    Row,
    name=TEXT,
    count=st.integers(),
    is_on=st.booleans(),
    inner=INNER,
    note=st.none() | TEXT,
    tags=st.lists(TEXT).map(tuple),
    parts=st.lists(INNER, max_size=3).map(tuple),
    numbers=st.dictionaries(TEXT, st.none() | st.integers()),
    mixed=st.dictionaries(TEXT, st.none() | TEXT | st.integers() | REALS | st.booleans()),
)


@given(ROWS)
def test_a_row_comes_back_as_it_was_and_always_as_the_same_bytes(row: Row) -> None:
    value = CODEC.encode(row)
    again = CODEC.decode(value)
    assert again == row
    assert CODEC.encode(again) == value
    assert b"\n" not in value


@given(st.binary() | ROWS.flatmap(lambda row: _damaged(CODEC.encode(row))))
def test_bytes_that_are_no_row_are_a_row_error_and_nothing_else(value: bytes) -> None:
    try:
        row = CODEC.decode(value)
    except RowError:
        return
    assert CODEC.decode(CODEC.encode(row)) == row


def _damaged(value: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(value) - 1)
    return st.tuples(place, st.binary(max_size=2)).map(lambda at: value[: at[0]] + at[1] + value[at[0] + 1 :])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not a version and an object"),
        (b"{}", "no JSON|not a version"),
        (b"1 []", "not a version and an object"),
        (b"1 {", "it is no JSON"),
        (b"1 " + b"[" * 100_000, "it is no JSON"),
        (b"2 {}", "has version 2, and this broker knows versions up to 1"),
        (b"0 {}", "has version 0, which this broker cannot bring up to date"),
        (b"1 {}", "the row is not whole"),
        (b'1 {"octets":5}', r"the row.octets is 5, not of type str"),
        (b'1 {"octets":"?"}', r"the row.octets is no Base64"),
        (b'1 {"octets":"","real":true}', r"the row.real is True, not of type float"),
        (b'1 {"octets":"","real":NaN}', "NaN is no number"),
        (b'1 {"octets":"","real":1e999}', r"the row.real is inf, not of type float"),
        (b'1 {"octets":"","more":1}', "the row has a field 'more'"),
    ],
)
def test_what_is_wrong_is_said(value: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        Codec(Inner).decode(value)


def test_an_earlier_version_is_brought_up_to_date_step_by_step() -> None:
    codec = Codec(
        Inner, version=3, upgrades={1: lambda row: {"bytes": row["data"]}, 2: lambda row: {"octets": row["bytes"]}}
    )
    assert codec.decode(b'1 {"data":"YQ=="}') == codec.decode(b'2 {"bytes":"YQ=="}') == Inner(b"a")
    assert codec.encode(Inner(b"a")) == b'3 {"octets":"YQ==","real":0.5}'
    with pytest.raises(RowError, match="cannot be brought up to date: KeyError"):
        codec.decode(b"1 {}")


@pytest.mark.parametrize("kind", [list[str], dict[int, str], bytes | str, object, tuple[int, str]])
def test_a_type_that_no_row_can_hold_is_refused_before_anything_is_stored(kind: object) -> None:
    wrong: type = dataclass(frozen=True)(type("Wrong", (), {"__annotations__": {"field": kind}}))
    with pytest.raises(TypeError, match="a row cannot hold"):
        Codec(wrong)


@pytest.mark.parametrize("row", [Inner(b"", math.nan), Inner(b"", math.inf)])
def test_a_number_without_a_word_is_refused(row: Inner) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Codec(Inner).encode(row)
