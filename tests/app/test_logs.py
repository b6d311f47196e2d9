"""Log lines: one per record, UTC, and nothing a client chose can forge another."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from whimbrel import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_with_time_level_and_logger(stream: io.StringIO) -> None:
    logs.configure("info", stream=stream)
    logging.getLogger("whimbrel.x").info("hello %s", "you")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info whimbrel\.x: hello you\n", stream.getvalue())


def test_a_traceback_and_hostile_text_stay_on_their_line(stream: io.StringIO) -> None:
    logs.configure("debug", stream=stream)
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("whimbrel").exception("client %s", "\x1b[31m\r\nroot: fine\u2028x")
    shown = stream.getvalue()
    assert shown.count("\n") == 1
    assert "client \\x1b[31m\\x0d\\nroot: fine\\nx" in shown
    assert "ValueError: a\\nb" in shown


def test_what_turns_the_direction_of_writing_or_is_no_unicode_is_shown_by_number(stream: io.StringIO) -> None:
    logs.configure("debug", stream=stream)
    logging.getLogger("whimbrel").info("%s", "a\u202eb\udcffc\u00e9")
    assert stream.getvalue().endswith("a\\u202eb\\udcffc\u00e9\n")


def test_the_level_of_the_settings_is_the_lowest_that_is_shown(stream: io.StringIO) -> None:
    logs.configure("warning", stream=stream)
    logging.getLogger("whimbrel").info("no")
    assert stream.getvalue() == ""
