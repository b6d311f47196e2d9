"""How the command logs: one line per record on standard error, UTC, level, logger, text.

Knows the standard library's logging and nothing of the broker. The command calls `configure` once; programs that embed
the broker keep their own logging and never call it. No caller logs passwords, payloads or whole questions.
"""

import logging
import sys
import time
from typing import Final, TextIO

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# A second line would look like a second record; what else a terminal might obey is shown by its number.
_LINE_ENDS: Final = "\n\u2028"


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z warning whimbrel.hooks: text`, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record; a traceback follows its text on the same line, with visible line ends."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = record.levelname.lower()
        return f"{moment}.{int(record.msecs):03d}Z {level} {record.name}: {_visible(text)}"


def _visible(text: str) -> str:
    # Control characters would let a client id forge a record or drive a terminal, and so would those that turn the
    # direction of writing.
    return text if text.isprintable() else "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(letter: str) -> str:
    if letter in _LINE_ENDS:
        return "\\n"
    code = ord(letter)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send records of `level` ("debug", "info", "warning", "error") and above to `stream` (standard error).

    Replaces what an earlier call set up. Raises KeyError for an unknown level; the settings have checked it before.
    """
    target = logging.StreamHandler(stream or sys.stderr)
    target.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(LEVELS[level])
