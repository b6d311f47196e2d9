"""The fuzz target "config": whatever bytes are written as file, environment or flags, settings load or say why not.

What must hold is in `judge`; what is tried is in the strategies below it. `test_fuzz` tries some of it each time, and
`python -m tests.settings.fuzz_target SECONDS` (`make fuzz`) goes on for as long as one likes.
"""

import faulthandler
import os
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.settings.conftest import HOME
from whimbrel.settings import Problem, Settings, SettingsError, explain, load
from whimbrel.settings.sources import FILE_BYTES_MAX
from whimbrel.settings.table import ROWS

CPU_S: Final = 10
"""No input of a size that is read may take longer; most take a millisecond."""
MEMORY_BYTES: Final = 256 * 1024 * 1024
"""What reading one input may take at its peak."""
HANG_S: Final = 120


class Input(NamedTuple):
    """What an operator wrote. `content` None: no file."""

    content: bytes | None = None
    environment: Mapping[str, str] = {}
    sets: Sequence[str] = ()


def problems_of(attempt: Callable[[], Settings]) -> tuple[Problem, ...]:
    """What was refused, nothing where it loads; the text of the error can be printed."""
    try:
        attempt()
    except SettingsError as error:
        refused = error
    else:
        return ()
    assert all(letter == "\n" or letter.isprintable() for letter in str(refused))
    str(refused).encode()
    return refused.problems


def judge(written: Input, folder: Path) -> tuple[Problem, ...]:
    """Load it; every problem names its place, what was found and what is allowed. Returns the problems."""
    file = folder / "broker.toml"
    if written.content is not None:
        file.write_bytes(written.content)
    path, environment = (None if written.content is None else file), {**HOME, **written.environment}
    began_s = time.process_time()
    problems = problems_of(lambda: load(file=path, environment=environment, sets=written.sets))
    took_s = time.process_time() - began_s
    assert took_s < CPU_S, f"it took {took_s:.1f} s"
    for problem in problems:
        assert problem.found, problem
        assert problem.allowed, problem
        assert _is_placed(problem.origin, written, str(file)), problem
    return problems


def _is_placed(origin: str, written: Input, file: str) -> bool:
    """A file's problem stands at a line and column of the file; any other names its variable or flag."""
    if not origin.startswith(file):
        return origin.startswith(("WHIMBREL__", "--set ")) or origin == "default"
    if len(written.content or b"") > FILE_BYTES_MAX:
        return origin == file
    match = re.fullmatch(r":([1-9]\d*):([1-9]\d*)", origin.removeprefix(file))
    lines = (written.content or b"").decode("utf-8-sig", errors="replace").split("\n")
    return match is not None and int(match[1]) <= len(lines) and int(match[2]) <= len(lines[int(match[1]) - 1]) + 1


KEYS: Final = [re.sub(r"<[a-z]+\|.*?>", "tcp", row.key).replace("<name>", "a") for row in ROWS]
WORDS: Final = sorted({part for key in KEYS for part in key.split(".")} | {"unix", "wss", "default", "x", "a b", ""})
PATHS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(".".join) | st.sampled_from(KEYS)
VALUES: Final = ("1", "0", '"off"', '":1"', "true", "{}", "[]", '"1h"', "{ bind = 1 }", "'", "nan", "1 # x", "\\")
LINES = st.builds(
    "{}{}{}".format, PATHS, st.sampled_from([" = ", "=", "", " . "]), st.sampled_from(VALUES)
) | st.builds("[{}]".format, PATHS)
MARKS: Final = (
    *"=.[]{}\"'#,\\\n\r\t \ufeff\0é",
    *(
        '"""',
        "'''",
        "[[",
        "]]",
        "a.",
        ".a",
        "1e",
        "0x",
        "-",
        "2024-02-31",
        "25:00:00",
        "9" * 5000,
        "inf",
        "\\U0011ffff",
    ),
    *("{a=", "[a]\n", "[[a]]\n", "a=1\n", "listeners.tcp.", "zones.a.mqtt.", "= ", "a" * 1000, "\ud800"),
)


def _whole() -> str:
    """A document with every setting that has a value."""
    rows = explain(file=None, environment=HOME, sets=["zones.a.mqtt.max_inflight=1", "listeners.unix.u.bind=u.sock"])
    return "".join(f"{row.key} = {row.value}\n" for row in rows)


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for at, length, mark in edits:
        start = at % (len(text) + 1)
        text = text[:start] + mark + text[start + length :]
    return text


def _octets(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30), st.sampled_from(MARKS)), min_size=1, max_size=6)
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(MARKS), max_size=5).map("".join)
BYTES = st.binary() | st.text().map(lambda text: text.encode(errors="replace"))
DOCUMENTS = st.lists(LINES, max_size=8).map("\n".join).map(_octets)
MUTATED = EDITS.map(lambda edits: _octets(_edited(_whole(), edits)))
SWOLLEN = st.builds(
    lambda head, part, tail, octets: _octets(head + part * (octets // max(len(_octets(part)), 1)) + tail),
    TEXTS,
    st.lists(st.sampled_from(MARKS) | LINES, min_size=1, max_size=4).map("".join),
    TEXTS,
    st.sampled_from([3_000, 100_000, FILE_BYTES_MAX]),
)
VARIABLES = st.builds("WHIMBREL__{}".format, TEXTS | PATHS.map(lambda key: key.upper().replace(".", "__")))
ENVIRONMENTS = st.dictionaries(VARIABLES, TEXTS, max_size=5)
FLAGS = st.lists(TEXTS | st.builds("{}={}".format, PATHS, TEXTS) | LINES, max_size=5)
INPUTS = st.builds(Input, BYTES | DOCUMENTS | MUTATED | st.none(), ENVIRONMENTS, FLAGS)

unhurried = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
)


def judge_memory(content: bytes, folder: Path) -> None:
    """A file, looked at for what it takes at its peak."""
    tracemalloc.start()
    try:
        judge(Input(content), folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES, f"it took {peak} bytes"


def run(seconds: float, folder: Path) -> int:
    """Try inputs for so long; returns how many. Raises what an input broke, with the input."""
    tried = 0
    end_s = time.monotonic() + seconds

    def once(written: Any) -> None:
        nonlocal tried
        tried += 1
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        judge(written if isinstance(written, Input) else Input(written), folder)

    while time.monotonic() < end_s:
        settings(parent=unhurried, max_examples=100)(given(INPUTS)(once))()
        settings(parent=unhurried, max_examples=4)(given(SWOLLEN)(once))()
    faulthandler.cancel_dump_traceback_later()
    return tried


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)  # What hypothesis finds stays out of the repository.
        sys.stderr.write(f"config: {run(float(sys.argv[1]), Path(place))} inputs, none broke anything\n")
