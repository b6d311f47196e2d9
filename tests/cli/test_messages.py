"""`pub` and `sub` without a broker: what goes to a terminal, and streams that are closed or full."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import whimbrel
from whimbrel.cli import main, messages
from whimbrel.cli.messages import _password, _payloads, _shown

HOSTILE = b"\x1b[2J\xff caf\xc3\xa9"


def test_a_terminal_gets_escapes_and_everything_else_the_octets() -> None:
    assert _shown(HOSTILE, is_terminal=True) == "\\u001b[2J\\xff café".encode()
    assert _shown(HOSTILE, is_terminal=False) == HOSTILE


def test_octets_that_are_no_text_are_sent_as_they_were_typed() -> None:
    assert list(_payloads("\udcff", None)) == [b"\xff"]


def test_a_closed_standard_input_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(messages._Refused, match="standard input is closed"):
        list(_payloads(None, None))


def test_a_full_disk_behind_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "whimbrel", "version"]
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, "error: no space left on device\n")


def test_a_password_comes_from_the_first_line_of_a_file_or_the_command_but_not_from_both(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"p\xffss word\r\nsecond\n")
    assert _password(None, file) == b"p\xffss word"
    assert (_password("typed", None), _password(None, None)) == (b"typed", None)
    with pytest.raises(click.UsageError, match="only one of -P and --password-file"):
        _password("typed", file)


def test_the_version_is_an_option_like_anywhere() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"whimbrel {whimbrel.__version__}\n")
