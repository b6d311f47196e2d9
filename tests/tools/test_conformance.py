"""The table of normative statements names tests that exist, tags that are known, and its page is fresh."""

from pathlib import Path

import pytest

from tools import conformance
from tools.conformance import Statement

ONE = Statement("5.0", "1.2.3-4", "Be kind", ("a_test",))


def test_every_named_test_exists_and_every_tag_in_the_source_is_in_the_file() -> None:
    found = conformance.problems(conformance.read(), conformance.proofs_by_name(), conformance.places_by_tag())
    assert found == []


def test_the_page_is_what_the_file_makes_of_it() -> None:
    page = (conformance.ROOT / conformance.PAGE).read_text(encoding="utf-8")
    assert page == conformance.page(conformance.read(), conformance.proofs_by_name()), "run `make docs`"


def test_no_statement_stands_twice_and_each_says_something() -> None:
    statements = conformance.read()
    assert len({(one.version, one.tag) for one in statements}) == len(statements)
    assert all(one.says and len(set(one.tests)) == len(one.tests) for one in statements)


@pytest.mark.parametrize(
    ("tests", "places", "expected"),
    [
        ({"a_test": ["x.rs"]}, {"1.2.3-4": ["x.rs"]}, []),
        ({}, {}, ["5.0 1.2.3-4 names the test a_test, which does not exist"]),
        ({"a_test": ["x.rs"]}, {"9.9.9-9": ["y.rs"]}, ["y.rs holds the tag 9.9.9-9, which is not in"]),
    ],
)
def test_what_does_not_fit_is_told(
    tests: dict[str, list[str]], places: dict[str, list[str]], expected: list[str]
) -> None:
    found = conformance.problems([ONE], tests, places)
    assert [sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)] == [True] * len(found)


def test_tests_and_tags_are_found_where_they_are_written(tmp_path: Path) -> None:
    for folder in ("crates/a/src", "crates/a/target", "python", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    rust = (
        "#[test]\nfn first() {}\nfn helper() {}\n#[test]\n/// Words.\n#[ignore]\nfn second() {} // [MQTT-"
        + "1.2.3-4]\n"
    )
    (tmp_path / "crates/a/src/x.rs").write_text(rust)
    (tmp_path / "crates/a/target/y.rs").write_text("#[test]\nfn built() {}\n")
    (tmp_path / "tests/test_z.py").write_text("async def test_third() -> None: ...\n")
    assert conformance.proofs_by_name(tmp_path) == {
        "first": ["crates/a/src/x.rs"],
        "second": ["crates/a/src/x.rs"],
        "test_third": ["tests/test_z.py"],
    }
    assert conformance.places_by_tag(tmp_path) == {"1.2.3-4": ["crates/a/src/x.rs"]}
