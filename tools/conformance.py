"""The table of normative statements: what MQTT asks of a server, and the tests that prove it. Prints the page.

A row is proven by tests, or says why no test of a server can prove it, or is open. The reason codes of MQTT 5 have a
table of the same shape.

Knows docs/conformance/statements.toml, where tests have names, and where tags stand in the source. Must not know
whether a test proves what it is said to prove: a person looked at that before writing it down. Driven by `make docs`
and by its test, which fails when a named test is gone, a tag in the source is not in the file, or the page is stale.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATEMENTS = "docs/conformance/statements.toml"
PAGE = "docs/reference/conformance.md"

_RUST_TEST = re.compile(r"#\[test\]\s*(?:(?:///[^\n]*|#\[[^\n]*\])\s*)*fn (\w+)")
_PYTHON_TEST = re.compile(r"def (test_\w+)")
_TAG = re.compile(r"\[MQTT-(\d+\.\d+\.\d+-\d+)\]")
_BUILT = frozenset({"target", "node_modules", "__pycache__"})
_CLIENTS = "clients"
_CODES = "reason codes"
_NOBODY: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True, slots=True)
class Statement:
    """One of them: version and tag of the specification, our words, and the names of the tests.

    `because` says why no test proves it; it is empty where one does or should.
    """

    version: str
    tag: str
    says: str
    tests: tuple[str, ...]
    because: str = ""

    @property
    def is_open(self) -> bool:
        """Neither proven nor explained."""
        return not (self.tests or self.because)


def read(root: Path = ROOT) -> list[Statement]:
    """The statements and the reason codes in the order of the file; those of clients are `of_clients`."""
    return [
        _statement(version, tag, row)
        for version, rows in _load(root).items()
        if version != _CLIENTS
        for tag, row in rows.items()
    ]


def of_clients(root: Path = ROOT) -> dict[str, list[str]]:
    """By version, the tags of the statements that bind clients alone."""
    tags: dict[str, list[str]] = _load(root).get(_CLIENTS, {})
    return tags


def _load(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / STATEMENTS).read_text(encoding="utf-8"))


def _statement(version: str, tag: str, row: list[str] | dict[str, str]) -> Statement:
    if isinstance(row, dict):
        return Statement(version, tag, row["says"], (), row["because"])
    return Statement(version, tag, row[0], tuple(row[1:]))


def proofs_by_name(root: Path = ROOT) -> dict[str, list[str]]:
    """Where each test lies; one name may lie in several files."""
    found: dict[str, list[str]] = {}
    for folder, suffix, pattern in (("crates", ".rs", _RUST_TEST), ("tests", ".py", _PYTHON_TEST)):
        for path, text in _files(root, folder, suffix):
            for name in pattern.findall(text):
                found.setdefault(name, []).append(path)
    return found


def places_by_tag(root: Path = ROOT) -> dict[str, list[str]]:
    """Source files in which each tag stands."""
    found: dict[str, list[str]] = {}
    for folder, suffix in (("crates", ".rs"), ("python", ".py"), ("tests", ".py")):
        for path, text in _files(root, folder, suffix):
            for tag in dict.fromkeys(_TAG.findall(text)):
                found.setdefault(tag, []).append(path)
    return found


def _files(root: Path, folder: str, suffix: str) -> Iterator[tuple[str, str]]:
    for path in sorted((root / folder).rglob(f"*{suffix}")):
        if not _BUILT.intersection(path.parts):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def problems(
    statements: Sequence[Statement], tests: Mapping[str, Sequence[str]], places: Mapping[str, Sequence[str]]
) -> list[str]:
    """What does not fit together, in sentences."""
    gone = [
        f"{one.version} {one.tag} names the test {name}, which does not exist: name another one, or leave it open"
        for one in statements
        for name in one.tests
        if name not in tests
    ]
    known = {one.tag for one in statements if one.version != _CODES}
    unknown = [
        f"{paths[0]} holds the tag {tag}, which is not in {STATEMENTS}: add it there, or mend the tag"
        for tag, paths in sorted(places.items())
        if tag not in known
    ]
    return gone + unknown


def page(
    statements: Sequence[Statement], tests: Mapping[str, Sequence[str]], clients: Mapping[str, Sequence[str]] = _NOBODY
) -> str:
    """The page in Markdown; `clients`: tags that bind clients alone, by version."""
    lines = [
        "# Conformance",
        "",
        f"Made by `python tools/conformance.py` from `{STATEMENTS}`; do not edit. The statements",
        "of the specifications that concern a server, in our words, and the tests that prove them. *no test*: none",
        "can, for the reason given. *open*: no test is known that proves it, which does not say that we break it.",
    ]
    for version in dict.fromkeys(one.version for one in statements):
        rows = [one for one in statements if one.version == version]
        is_codes = version == _CODES
        lines += ["", "## Reason codes of MQTT 5.0" if is_codes else f"## MQTT {version}", "", _sums(rows)]
        if tags := clients.get(version):
            lines += ["", "Statements that bind clients alone: " + ", ".join(tags) + "."]
        head = "Code | When we send it" if is_codes else "Statement | What it asks of a server"
        lines += ["", f"| {head} | Proven by |", "| --- | --- | --- |"]
        prefix = "" if is_codes else "MQTT-"
        lines += [f"| {prefix}{one.tag} | {one.says} | {_proof(one, tests)} |" for one in rows]
    return "\n".join(lines) + "\n"


def _sums(rows: Sequence[Statement]) -> str:
    proven, explained = sum(bool(one.tests) for one in rows), sum(bool(one.because) for one in rows)
    are_open = sum(one.is_open for one in rows)
    return f"{proven} of {len(rows)} are proven by tests, {explained} cannot be, {are_open} are open."


def _proof(statement: Statement, tests: Mapping[str, Sequence[str]]) -> str:
    if statement.because:
        return f"*no test*: {statement.because}"
    links = [f"[{name}](../../{tests[name][0]})" for name in statement.tests if name in tests]
    return ", ".join(links) or "*open*"


def main() -> int:
    """Print the page; on standard error what does not fit. Exit code 1 where something does not."""
    statements, tests = read(), proofs_by_name()
    found = problems(statements, tests, places_by_tag())
    for sentence in found:
        sys.stderr.write(f"{sentence}\n")
    sys.stdout.write(page(statements, tests, of_clients()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
