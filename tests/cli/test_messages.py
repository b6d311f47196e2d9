"""`pub` and `sub` without a broker: what goes to a terminal, and streams that are closed or full."""

import subprocess
import sys

import pytest

from whimbrel.cli import messages
from whimbrel.cli.messages import _payloads, _shown

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
