"""Is there a Rust toolchain that can build this product? One question, one clear answer.

Knows: the minimum version written in the workspace's Cargo.toml, and how a missing or old toolchain is mended.
Must not know: maturin, pip, make. Driven by the build backend and, as a script, by the Makefile.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parent.parent / "Cargo.toml"
PROBE_TIMEOUT_S = 60
MENDING = """\
  Debian   apt-get install cargo-web rustc-web
  else     install Rust with rustup, or update it with `rustup update stable`
  then     open a new shell, so that PATH is read again, and repeat the command"""

Version = tuple[int, int, int]


class ToolchainError(Exception):
    """The toolchain cannot build this product; the text says what was found, what is needed and how to mend it."""


def required_version(workspace: Path = WORKSPACE) -> Version:
    """The workspace's `rust-version`; (0, 0, 0) where it states none. Raises OSError, tomllib.TOMLDecodeError."""
    package = tomllib.loads(workspace.read_text(encoding="utf-8")).get("workspace", {}).get("package", {})
    return parse_version(package.get("rust-version", "")) or (0, 0, 0)


def parse_version(text: str) -> Version | None:
    """The first version number in `text`: "cargo 1.85.1 (d73d2caf9)" is (1, 85, 1), "1.85" is (1, 85, 0)."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def check(required: Version, search_path: str | None = None) -> None:
    """Raises ToolchainError unless cargo and rustc run and are at least `required`; PATH where no path is given."""
    for program in ("cargo", "rustc"):
        location = shutil.which(program, path=search_path)
        if location is None:
            raise ToolchainError(explain(f"{program} was not found on PATH", required))
        found = version_of(location, required)
        if found < required:
            raise ToolchainError(explain(f"{location} is too old: {spell(found)}", required))


def version_of(location: str, required: Version) -> Version:
    """What the program at `location` says its version is. Raises ToolchainError where it says none."""
    try:
        run = subprocess.run(
            [location, "--version"], capture_output=True, text=True, check=False, timeout=PROBE_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(explain(f"{location} does not run: {error}", required)) from error
    found = parse_version(run.stdout) if run.returncode == 0 else None
    if found is None:
        complaint = (run.stderr or run.stdout).strip().splitlines() or [f"exit code {run.returncode}"]
        raise ToolchainError(explain(f"{location} does not run: {complaint[0]}", required))
    return found


def explain(problem: str, required: Version) -> str:
    """The one text that a user sees when the toolchain is not good enough."""
    return (
        f"whimbrel cannot be built: {problem}\n"
        f"  needed   cargo and rustc {spell(required)} or newer; they compile the data plane\n"
        f"{MENDING}"
    )


def spell(version: Version) -> str:
    """As cargo writes it."""
    return ".".join(map(str, version))


def main() -> int:
    """Exit code 0 where the toolchain is good; else 1, with the reason on stderr."""
    try:
        check(required_version())
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
