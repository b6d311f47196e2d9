"""The table of normative statements names tests that exist, tags that are known, and its page is fresh."""

from pathlib import Path

import pytest

from tools import conformance
from tools.conformance import Statement

# Every tag of the specifications' conformance statements, those in the text that their appendices forgot included.
SPECIFIED = {
    "5.0": (
        "1.5.4-1..3 1.5.5-1 1.5.7-1 2.1.3-1 2.2.1-2..6 2.2.2-1 3.1.0-1..2 3.1.2-1..30 3.1.3-1..12 3.1.4-1..6 3.2.0-1..2"
        " 3.2.2-1..22 3.3.1-1..13 3.3.2-1..20 3.3.4-1..10 3.4.2-1..3 3.5.2-1..3 3.6.1-1 3.6.2-1..3 3.7.2-1..3 3.8.1-1"
        " 3.8.3-1..5 3.8.4-1..8 3.9.2-1..2 3.9.3-1..2 3.10.1-1 3.10.3-1..2 3.10.4-1..6 3.11.2-1..2 3.11.3-1..2 3.12.4-1"
        " 3.14.0-1 3.14.1-1 3.14.2-1..4 3.14.4-1..3 3.15.1-1 3.15.2-1..3 4.1.0-1..2 4.2.0-1 4.3.1-1 4.3.2-1..5"
        " 4.3.3-1..13 4.4.0-1..2 4.5.0-1..2 4.6.0-1..6 4.7.0-1 4.7.1-1..2 4.7.2-1 4.7.3-1..4 4.8.2-1..6 4.9.0-1..3"
        " 4.12.0-1..7 4.12.1-1..2 4.13.1-1 4.13.2-1 6.0.0-1..4"
    ),
    "3.1.1": (
        "1.5.3-1..3 2.2.2-1..2 2.3.1-1..7 3.1.0-1..2 3.1.2-1..24 3.1.3-1..11 3.1.4-1..5 3.2.0-1 3.2.2-1..6 3.3.1-1..12"
        " 3.3.2-1..3 3.3.4-1 3.3.5-1..2 3.6.1-1 3.8.1-1 3.8.3-1..4 3.8.4-1..6 3.9.3-1..2 3.10.1-1 3.10.3-1..2"
        " 3.10.4-1..6 3.12.4-1 3.14.1-1 3.14.4-1..3 4.1.0-1..2 4.3.1-1 4.3.2-1..2 4.3.3-1..2 4.4.0-1 4.5.0-1..2"
        " 4.6.0-1..6 4.7.1-1..3 4.7.2-1 4.7.3-1..4 4.8.0-1..2 6.0.0-1..4 7.0.0-1..2 7.1.1-1 7.1.2-1"
    ),
}

ONE = Statement("5.0", "1.2.3-4", "Be kind", ("a_test",))


def test_every_named_test_exists_and_every_tag_in_the_source_is_in_the_file() -> None:
    found = conformance.problems(conformance.read(), conformance.proofs_by_name(), conformance.places_by_tag())
    assert found == []


def test_the_page_is_what_the_file_makes_of_it() -> None:
    page = (conformance.ROOT / conformance.PAGE).read_text(encoding="utf-8")
    made = conformance.page(conformance.read(), conformance.proofs_by_name(), conformance.of_clients())
    assert page == made, "run `make docs`"


def test_no_statement_is_open() -> None:
    assert [f"{one.version} {one.tag}" for one in conformance.read() if one.is_open] == []


def test_no_tag_of_clients_is_one_of_ours_and_each_stands_once() -> None:
    for version, tags in conformance.of_clients().items():
        ours = [one.tag for one in conformance.read() if one.version == version]
        assert ours
        assert len(set(tags) | set(ours)) == len(tags) + len(ours)


@pytest.mark.parametrize("version", SPECIFIED)
def test_every_statement_of_the_specification_is_ours_or_of_clients(version: str) -> None:
    specified: set[str] = set()
    for run in SPECIFIED[version].split():
        section, _, numbers = run.partition("-")
        first, _, last = numbers.partition("..")
        specified.update(f"{section}-{number}" for number in range(int(first), int(last or first) + 1))
    ours = {one.tag for one in conformance.read() if one.version == version}
    assert ours | set(conformance.of_clients()[version]) == specified


def test_every_reason_code_of_the_specification_has_its_row() -> None:
    # MQTT 5.0, section 2.4.
    codes = [0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19, *range(0x80, 0xA3)]
    rows = [one.tag for one in conformance.read() if one.version == "reason codes"]
    assert rows == [f"0x{code:02X}" for code in codes]


def test_the_page_tells_what_no_test_can_prove_and_whom_the_rest_binds() -> None:
    explained = Statement("5.0", "1.2.3-5", "Be brief", (), "nobody listens")
    made = conformance.page([ONE, explained], {"a_test": ["x.rs"]}, {"5.0": ["9.9.9-9"]})
    assert "1 of 2 are proven by tests, 1 cannot be, 0 are open." in made
    assert "| MQTT-1.2.3-5 | Be brief | *no test*: nobody listens |" in made
    assert "Statements that bind clients alone: 9.9.9-9." in made


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
