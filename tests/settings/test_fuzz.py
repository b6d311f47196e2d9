"""Whatever is written, settings load or `SettingsError` says why; no other exception leaves the package."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.settings.conftest import HOME
from whimbrel.settings import Problem, Settings, SettingsError, from_mapping, load
from whimbrel.settings.table import ROWS, Row

KEYS = [row.key.replace("<name>", "a") for row in ROWS]
WORDS = sorted({part for key in KEYS for part in key.split(".")} | {"tcp", "unix", "tls", "default", "x", "a b", ""})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.dates(),
    st.sampled_from(["off", ":1883", "[::]:1", "1h", "1MB", "~", "/x", "a@b", "sync", Path("/d"), Path("")]),
)
PATHS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(".".join) | st.sampled_from(KEYS)
LINES = st.builds(
    "{}{}{}".format,
    PATHS,
    st.sampled_from([" = ", "=", "", " . "]),
    st.sampled_from(["1", "0", '"off"', '":1"', "true", "{}", "[]", '"1h"', "{ bind = 1 }", "'", "nan", "1 # x", "\\"]),
) | st.builds("[{}]".format, PATHS)
DOCUMENTS = st.lists(LINES, max_size=8).map("\n".join)

unhurried = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


def survives(content: bytes, environment: Mapping[str, str], sets: list[str], folder: Path) -> None:
    file = folder / "broker.toml"
    file.write_bytes(content)
    problems = problems_of(lambda: load(file=file, environment={**HOME, **environment}, sets=sets))
    assert all(problem.origin and problem.found and problem.allowed for problem in problems)


def problems_of(attempt: Callable[[], Settings]) -> tuple[Problem, ...]:
    """What was refused, nothing where it loads; the text of the error can be printed."""
    try:
        attempt()
    except SettingsError as error:
        str(error).encode()
        return error.problems
    return ()


@unhurried
@given(content=st.binary() | st.text().map(lambda text: text.encode(errors="replace")))
def test_any_bytes_as_a_file(content: bytes, tmp_path: Path) -> None:
    survives(content, {}, [], tmp_path)


@settings(parent=unhurried, max_examples=300)
@given(text=DOCUMENTS)
def test_any_lines_as_a_file(text: str, tmp_path: Path) -> None:
    survives(text.encode(), {}, [], tmp_path)


@unhurried
@given(
    environment=st.dictionaries(
        st.builds("WHIMBREL__{}".format, st.text(max_size=20) | PATHS.map(lambda key: key.upper().replace(".", "__"))),
        st.text(max_size=30),
    ),
    sets=st.lists(st.text(max_size=30) | st.builds("{}={}".format, PATHS, st.text(max_size=10)) | LINES),
)
def test_any_environment_and_flags(environment: dict[str, str], sets: list[str], tmp_path: Path) -> None:
    survives(b"", environment, sets, tmp_path)


@unhurried
@given(
    st.dictionaries(
        PATHS | st.text(max_size=10),
        st.recursive(
            SCALARS, lambda below: st.lists(below, max_size=2) | st.dictionaries(PATHS | st.integers(), below)
        ),
        max_size=5,
    )
)
def test_any_mapping(overrides: dict[str, object]) -> None:
    problems_of(lambda: from_mapping(overrides))


@pytest.mark.parametrize("row", [row for row in ROWS if "<" not in row.key], ids=lambda row: row.key)
@settings(parent=unhurried, max_examples=50)
@given(value=SCALARS)
def test_any_value_of_any_key(row: Row, value: object) -> None:
    problems = problems_of(lambda: from_mapping({row.key: value}))
    assert {problem.key.split(".")[0] for problem in problems} <= {row.key.split(".")[0]}
    assert len(problems) <= 1
