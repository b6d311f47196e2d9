"""Whatever is written, settings load or `SettingsError` says why; no other exception leaves the package.

A part of what `fuzz_target` tries, small enough for each run; `make fuzz FUZZ_TARGET=config` tries the rest.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.settings.fuzz_target import (
    BYTES,
    DOCUMENTS,
    ENVIRONMENTS,
    FLAGS,
    MUTATED,
    PATHS,
    SWOLLEN,
    Input,
    judge,
    judge_memory,
    problems_of,
    run,
    unhurried,
)
from whimbrel.settings import from_mapping
from whimbrel.settings.table import ROWS, Row

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


@unhurried
@given(BYTES)
def test_any_bytes_as_a_file(tmp_path: Path, content: bytes) -> None:
    judge(Input(content), tmp_path)


@settings(parent=unhurried, max_examples=300)
@given(DOCUMENTS)
def test_any_lines_as_a_file(tmp_path: Path, content: bytes) -> None:
    judge(Input(content), tmp_path)


@settings(parent=unhurried, max_examples=150)
@given(MUTATED)
def test_a_whole_file_with_mistakes_in_it(tmp_path: Path, content: bytes) -> None:
    judge(Input(content), tmp_path)


@settings(parent=unhurried, max_examples=20)
@given(SWOLLEN)
def test_a_file_of_any_size_takes_neither_long_nor_much_memory(tmp_path: Path, content: bytes) -> None:
    judge_memory(content, tmp_path)


@unhurried
@given(environment=ENVIRONMENTS, sets=FLAGS)
def test_any_environment_and_flags(tmp_path: Path, environment: dict[str, str], sets: list[str]) -> None:
    judge(Input(b"", environment, sets), tmp_path)


def test_the_long_run_is_the_same_target(tmp_path: Path) -> None:
    assert run(0.01, tmp_path) >= 100


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
