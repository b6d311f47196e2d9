"""The place of every key: the scanner against `tomllib`, on tables of cases and on generated documents."""

import json
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whimbrel.settings.positions import Lost, Path, Place, scan

CASES = [
    ("a = 1", {("a",): (1, 1)}, {("a",): (1, 5)}),
    ("  a.b . c=1", {("a",): (1, 3), ("a", "b"): (1, 5), ("a", "b", "c"): (1, 9)}, {("a", "b", "c"): (1, 11)}),
    ("# x\r\n[ a ] # y\r\nb = ''\r\n", {("a",): (2, 3), ("a", "b"): (3, 1)}, {("a", "b"): (3, 5)}),
    ('"a.b" = 1\n\'c"\' = 2', {("a.b",): (1, 1), ('c"',): (2, 1)}, {("a.b",): (1, 9), ('c"',): (2, 8)}),
    (r'"\u00e9\"" = 1', {('é"',): (1, 1)}, {('é"',): (1, 14)}),
    ("a = '''\nb = 1\n'''\nc = 2", {("a",): (1, 1), ("c",): (4, 1)}, {("a",): (1, 5), ("c",): (4, 5)}),
    ('a = """x\\"""" # """\nb=1', {("a",): (1, 1), ("b",): (2, 1)}, {("a",): (1, 5), ("b",): (2, 3)}),
    ('a = """"x"""""\nb=1', {("a",): (1, 1), ("b",): (2, 1)}, {("a",): (1, 5), ("b",): (2, 3)}),
    ('a = [ "]", # ]\n  {b = 1}, ]\nc=1', {("a",): (1, 1), ("a", 1, "b"): (2, 4), ("c",): (3, 1)}, None),
    ("a = {b={c = 1}, d.e=2}", {("a",): (1, 1), ("a", "b"): (1, 6), ("a", "b", "c"): (1, 9), ("a", "d"): (1, 17),
     ("a", "d", "e"): (1, 19)}, None),
    ("[[a]]\nb=1\n[[a]]\nb=2\n[a.c]\nd=3", {("a",): (1, 3), ("a", 0, "b"): (2, 1), ("a", 1, "b"): (4, 1),
     ("a", 1, "c"): (5, 4), ("a", 1, "c", "d"): (6, 1)}, None),
    ("[[a.b]]\n[[a.b.c]]\nd=1", {("a",): (1, 3), ("a", "b"): (1, 5), ("a", "b", 0, "c"): (2, 7),
     ("a", "b", 0, "c", 0, "d"): (3, 1)}, None),
    ("a = 1979-05-27 07:32:00 # x\nb=inf", {("a",): (1, 1), ("b",): (2, 1)}, None),
    ("", {}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "keys", "values"), CASES, ids=[row[0] for row in CASES])
def test_places(text: str, keys: dict[Path, Place], values: dict[Path, Place] | None) -> None:
    tomllib.loads(text)
    found = scan(text)
    assert found.keys == keys
    assert values is None or found.values == values


@pytest.mark.parametrize("text", ["a", "[a", "= 1", "a = {b}", "]", "a = \n"])
def test_what_is_not_toml_is_lost_and_does_not_hang(text: str) -> None:
    with pytest.raises(Lost):
        scan(text)


unhurried = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


def basic(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@st.composite
def key_parts(draw: st.DrawFn) -> str:
    plain = draw(BARE)
    literal = "'" + draw(ANY_TEXT).replace("'", "") + "'"
    return draw(st.sampled_from([plain, plain, literal, basic(draw(ANY_TEXT))]))


BLANKS = st.sampled_from(["", " ", "\t", "  "])
GAPS = st.sampled_from(["", "\n", " \n  ", "# a comment, 'with' = [marks]\n", "\r\n"])


@st.composite
def dotted_keys(draw: st.DrawFn) -> str:
    parts = draw(st.lists(key_parts(), min_size=1, max_size=3))
    return (draw(BLANKS) + "." + draw(BLANKS)).join(parts)


STRINGS = st.one_of(
    ANY_TEXT.map(basic),
    ANY_TEXT.map(lambda text: "'" + text.replace("'", "") + "'"),
    st.text("ab\n= []{}#\"'", max_size=12).map(lambda text: "'''\n" + text.replace("'''", "") + "x'''"),
    st.text("ab\n= []{}#\"'", max_size=12).map(lambda text: '"""' + text.replace('"""', "") + 'x"""'),
    st.sampled_from(['""""""', '"""a""""', '"""a"""""', "''''a'''''", r'"""\""""', r'"\\"', "''", '""']),
)
SCALARS = STRINGS | st.sampled_from(["1", "-2.5e3", "true", "nan", "1979-05-27", "1979-05-27 07:32:00Z", "0xff"])


@st.composite
def arrays(draw: st.DrawFn, element: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(element, max_size=3))
    separated = ",".join(draw(GAPS) + item + draw(GAPS) for item in items)
    return "[" + separated + draw(st.sampled_from(["", ","]) if items else st.just("")) + draw(GAPS) + "]"


@st.composite
def inline_tables(draw: st.DrawFn, value: st.SearchStrategy[str]) -> str:
    pairs = draw(st.lists(st.tuples(dotted_keys(), value), max_size=3))
    return "{" + ",".join(f"{draw(BLANKS)}{key} = {below}{draw(BLANKS)}" for key, below in pairs) + "}"


VALUES = st.recursive(SCALARS, lambda below: arrays(below) | inline_tables(below), max_leaves=4)


@st.composite
def statements(draw: st.DrawFn) -> str:
    indent, key, end = draw(BLANKS), draw(dotted_keys()), draw(st.sampled_from(["", " ", " # x = 1"]))
    kind = draw(st.sampled_from(["pair", "pair", "pair", "table", "array"]))
    if kind == "table":
        return f"{indent}[{draw(BLANKS)}{key}{draw(BLANKS)}]{end}"
    if kind == "array":
        return f"{indent}[[{draw(BLANKS)}{key}{draw(BLANKS)}]]{end}"
    return f"{indent}{key}{draw(BLANKS)}={draw(BLANKS)}{draw(VALUES)}{end}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A TOML document: statements that do not contradict those before them."""
    text = ""
    for statement in draw(st.lists(statements(), max_size=8)):
        longer = text + draw(GAPS) + statement + draw(st.sampled_from(["\n", "\r\n"]))
        if is_toml(longer):
            text = longer
    return text


def is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def keys_of(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every key of what tomllib read, with its value; elements of arrays are counted."""
    if isinstance(value, dict):
        for part, below in value.items():
            yield (*path, part), below
            yield from keys_of(below, (*path, part))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from keys_of(below, (*path, index))


def key_written_at(text: str, place: Place) -> str:
    """The key that stands there, as tomllib reads it."""
    rest = text.replace("\r\n", "\n").split("\n")[place.line - 1][place.column - 1 :]
    for end in range(1, len(rest) + 1):
        # The shortest beginning that is a whole key: a quoted one up to its quote, a bare one up to its last letter.
        is_at_its_end = rest[0] in "'\"" or not (rest[end : end + 1].isalnum() or rest[end : end + 1] in ("_", "-"))
        if is_at_its_end and is_toml(f"{rest[:end]} = 1"):
            return next(iter(tomllib.loads(f"{rest[:end]} = 1")))
    raise AssertionError(f"no key at {place}")


@unhurried
@given(documents())
def test_every_key_that_tomllib_reads_has_its_place(text: str) -> None:
    places = scan(text)
    read = dict(keys_of(tomllib.loads(text)))
    assert set(places.keys) == set(read)
    for path, place in places.keys.items():
        assert key_written_at(text, place) == path[-1]


@unhurried
@given(documents())
def test_every_written_value_reads_back_from_its_place(text: str) -> None:
    lines = text.replace("\r\n", "\n").split("\n")
    read = dict(keys_of(tomllib.loads(text)))
    for path, place in scan(text).values.items():
        assert path in read
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        assert any(
            is_toml(f"v = {rest[:end]}") and str(tomllib.loads(f"v = {rest[:end]}")["v"]) == str(read[path])
            for end in range(1, len(rest) + 1)
        )


@unhurried
@given(st.text(max_size=60) | st.text("ab.=[]{}\"'\\#\n, 1", max_size=60))
def test_any_text_is_scanned_or_lost(text: str) -> None:
    try:
        scan(text)
    except (Lost, tomllib.TOMLDecodeError):
        assert not is_toml(text)
