"""The check for cargo and rustc, with small programs on a PATH of the test's own instead of a real toolchain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import toolchain

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (1, 88, 0)
ADVICE = """\
  needed   cargo and rustc 1.88.0 or newer; they compile the data plane
  Debian   apt-get install cargo-web rustc-web
  else     install Rust with rustup, or update it with `rustup update stable`
  then     open a new shell, so that PATH is read again, and repeat the command"""


def install(folder: Path, name: str, script: str) -> Path:
    """An executable shell script; it needs no PATH, because the check runs it with the test's."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def install_pair(folder: Path, *, cargo: str, rustc: str) -> None:
    install(folder, "cargo", f"echo 'cargo {cargo} (abc 2026-01-01)'")
    install(folder, "rustc", f"echo 'rustc {rustc} (abc 2026-01-01)'")


def complaint(folder: Path) -> str:
    with pytest.raises(toolchain.ToolchainError) as caught:
        toolchain.check(NEEDED, str(folder))
    return str(caught.value)


@pytest.mark.parametrize("version", ["1.88.0", "1.88.1", "1.96.0", "2.0.0"])
def test_a_toolchain_of_the_needed_version_or_newer_is_accepted(tmp_path: Path, version: str) -> None:
    install_pair(tmp_path, cargo=version, rustc=version)

    toolchain.check(NEEDED, str(tmp_path))


def test_without_cargo_the_message_says_what_to_install(tmp_path: Path) -> None:
    assert complaint(tmp_path) == f"whimbrel cannot be built: cargo was not found on PATH\n{ADVICE}"


def test_cargo_without_rustc_is_told_apart(tmp_path: Path) -> None:
    install(tmp_path, "cargo", "echo 'cargo 1.96.0'")

    assert complaint(tmp_path) == f"whimbrel cannot be built: rustc was not found on PATH\n{ADVICE}"


def test_an_old_cargo_is_named_with_its_place_and_version(tmp_path: Path) -> None:
    install_pair(tmp_path, cargo="1.66.0", rustc="1.63.0")

    assert complaint(tmp_path) == f"whimbrel cannot be built: {tmp_path}/cargo is too old: 1.66.0\n{ADVICE}"


def test_an_old_rustc_behind_a_new_cargo_is_found(tmp_path: Path) -> None:
    install_pair(tmp_path, cargo="1.96.0", rustc="1.87.9")

    assert complaint(tmp_path) == f"whimbrel cannot be built: {tmp_path}/rustc is too old: 1.87.9\n{ADVICE}"


def test_a_cargo_that_fails_is_quoted_and_its_numbers_are_not_taken_for_a_version(tmp_path: Path) -> None:
    install(tmp_path, "cargo", "echo 'error: toolchain 1.99.0 is not installed' >&2; exit 1")

    problem = f"{tmp_path}/cargo does not run: error: toolchain 1.99.0 is not installed"
    assert complaint(tmp_path) == f"whimbrel cannot be built: {problem}\n{ADVICE}"


def test_a_cargo_that_says_nothing_is_told_with_its_exit_code(tmp_path: Path) -> None:
    install(tmp_path, "cargo", "exit 3")

    assert f"{tmp_path}/cargo does not run: exit code 3\n" in complaint(tmp_path)


def test_a_cargo_that_cannot_be_executed_is_no_stack_trace(tmp_path: Path) -> None:
    broken = tmp_path / "cargo"
    broken.write_text("#!/nowhere/interpreter\n", encoding="utf-8")
    broken.chmod(0o755)

    assert f"{broken} does not run: " in complaint(tmp_path)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cargo 1.85.1 (d73d2caf9 2024-12-31)", (1, 85, 1)),
        ("rustc 1.97.0-nightly (abc 2026-05-01)", (1, 97, 0)),
        ("1.88", (1, 88, 0)),
        ("cargo", None),
        ("", None),
    ],
)
def test_versions_are_read_as_cargo_and_manifests_write_them(text: str, version: tuple[int, int, int] | None) -> None:
    assert toolchain.parse_version(text) == version


def test_the_minimum_is_the_workspaces_own(tmp_path: Path) -> None:
    manifest = tmp_path / "Cargo.toml"
    manifest.write_text('[workspace.package]\nrust-version = "1.91"\n', encoding="utf-8")

    assert toolchain.required_version(manifest) == (1, 91, 0)


def test_a_workspace_without_a_minimum_asks_for_none(tmp_path: Path) -> None:
    manifest = tmp_path / "Cargo.toml"
    manifest.write_text("[workspace]\n", encoding="utf-8")

    assert toolchain.required_version(manifest) == (0, 0, 0)


def test_the_repository_states_a_minimum() -> None:
    assert toolchain.required_version() > (1, 80, 0)


def test_pip_without_cargo_shows_the_message_and_no_stack_trace(tmp_path: Path) -> None:
    """What a user sees: pip runs our first hook, which ends the build."""
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    run = subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), str(ROOT)],
        env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", str(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    seen = run.stdout + run.stderr
    assert run.returncode == 1
    assert "whimbrel cannot be built: cargo was not found on PATH" in seen
    assert "apt-get install cargo-web rustc-web" in seen
    assert "Traceback" not in seen
    assert not (tmp_path / "site").exists()
