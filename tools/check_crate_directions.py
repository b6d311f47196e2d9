"""Do the crates depend on each other in the one allowed direction? Fails on any edge that nobody allowed here.

Knows: the allowed edges between crates, and which crates must stay free of foreign dependencies.
Must not know: what a crate contains. Driven by `make lint`; reads `cargo metadata` from stdin with `-`, else runs it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

# Crate (its directory below crates/) and the crates that it may name. What is absent is forbidden.
ALLOWED: Mapping[str, frozenset[str]] = {
    "protocol": frozenset(),
    "router": frozenset({"protocol"}),
    "storage": frozenset({"protocol"}),
    "server": frozenset({"protocol", "router", "storage"}),
    "bench": frozenset({"protocol"}),
    "python": frozenset({"protocol", "server", "bench"}),
    "sim": frozenset({"protocol", "router", "storage", "server"}),
}
# The MQTT rules stay readable, portable and quick to test: no sockets, no clock, no runtime can slip in.
FOREIGN_ALLOWED: Mapping[str, frozenset[str]] = {"protocol": frozenset({"bytes"})}

Metadata = Mapping[str, Any]  # the JSON of `cargo metadata --no-deps`


def violations(metadata: Metadata) -> Iterator[str]:
    """One sentence for every edge or crate that the tables above do not allow."""
    for package in metadata["packages"]:
        crate = crate_of(package["manifest_path"])
        if crate not in ALLOWED:
            yield f"{crate}: a crate without a place; add it and what it may name to ALLOWED in {__file__}"
            continue
        for dependency in package["dependencies"]:
            yield from judge(crate, dependency)


def judge(crate: str, dependency: Mapping[str, Any]) -> Iterator[str]:
    """Foreign development dependencies are free; edges between crates count whatever their kind."""
    path = dependency.get("path")
    if path is not None:
        target = PurePath(path).name
        if target not in ALLOWED[crate]:
            yield f"{crate} -> {target}: not allowed; {crate} may name {spell(ALLOWED[crate])}"
    elif dependency["kind"] != "dev" and crate in FOREIGN_ALLOWED:
        name = dependency["name"]
        if name not in FOREIGN_ALLOWED[crate]:
            yield f"{crate} -> {name} (foreign): not allowed; {crate} may use {spell(FOREIGN_ALLOWED[crate])}"


def crate_of(manifest_path: str) -> str:
    """The directory that holds the manifest is the crate's short name."""
    return PurePath(manifest_path).parent.name


def spell(names: frozenset[str]) -> str:
    """The names in a fixed order, for a message."""
    return ", ".join(sorted(names)) or "no other"


def read_metadata(arguments: Sequence[str]) -> Metadata:
    """From stdin where the argument is "-". Where cargo fails, it has said why on stderr, and its exit code is ours."""
    if arguments == ["-"]:
        text = sys.stdin.read()
    else:
        command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            sys.exit(run.returncode)
        text = run.stdout
    metadata: Metadata = json.loads(text)
    return metadata


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 where an edge is not allowed."""
    found = list(violations(read_metadata(arguments)))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
