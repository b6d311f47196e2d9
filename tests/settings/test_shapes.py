"""Each shape alone: what it reads, and that what it writes reads back as the same value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.settings.model import TcpBind
from whimbrel.settings.shapes import (
    DAY,
    HOUR,
    KB,
    MB,
    SECOND,
    TB,
    Address,
    Duration,
    Line,
    NodeName,
    Priorities,
    Refusal,
    Size,
    Whole,
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("4096B", 4096),
        ("1KB", 1024),
        ("1kb", 1024),
        ("1 MB", 1024**2),
        ("3GB", 3 * 1024**3),
        ("1TB", 1024**4),
        ("0", 0),
    ],
    ids=repr,
)
def test_sizes(written: object, expected: int) -> None:
    assert Size(0, TB).read(written) == expected


@pytest.mark.parametrize(
    "written",
    ["", "MB", "-1", "1 000", "1MiB", "1.5MB", "٣MB", 1.0, True, None, "9" * 5000],
    ids=lambda written: repr(written)[:20],
)
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(Refusal):
        Size(0, TB).read(written)


@pytest.mark.parametrize(
    ("written", "expected_ms"),
    [
        ("500ms", 500),
        ("15s", 15_000),
        ("15", 15_000),
        (15, 15_000),
        (0.5, 500),
        ("90m", 90 * 60_000),
        ("2h", 2 * HOUR),
        ("7d", 7 * DAY),
        ("1h30m", 90 * 60_000),
        ("0s", 0),
    ],
    ids=repr,
)
def test_durations(written: object, expected_ms: int) -> None:
    assert Duration(0, 7 * DAY).read(written) == expected_ms


@pytest.mark.parametrize("written", ["", "s", "-1s", "1.5s", "1w", "1h 30m", "30m1", float("nan"), 1e308, -1, True, []])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(Refusal):
        Duration(0, 7 * DAY).read(written)


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("127.0.0.1:1883", "127.0.0.1", 1883),
        ("[::1]:1883", "::1", 1883),
        ("[0:0::1]:1883", "::1", 1883),
        ("*:1883", "0.0.0.0", 1883),
        (":1883", "0.0.0.0", 1883),
        ("[::]:1883", "::", 1883),
        ("localhost:1883", "127.0.0.1", 1883),
        ("1883", "127.0.0.1", 1883),
        (1883, "127.0.0.1", 1883),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("10.1.2.3:00080", "10.1.2.3", 80),
    ],
    ids=repr,
)
def test_addresses(written: object, host: str, port: int) -> None:
    assert Address().read(written) == TcpBind(host=host, port=port)


@pytest.mark.parametrize(
    "written", ["", ":", "127.0.0.1:", "[]:1", "[::1]", "1.2.3:1", "01.2.3.4:1", "a b:1", "::", -1, 65536, True, 1.5]
)
def test_what_is_no_address(written: object) -> None:
    with pytest.raises(Refusal):
        Address().read(written)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.1", False), ("::ffff:7f00:1", False)],
)  # fmt: skip
def test_which_binds_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert TcpBind(host=host, port=1).is_local is expected


@pytest.mark.parametrize("written", ["a@b", "node-1@10.0.0.1", "n_1@host.example", "n@::1"])
def test_node_names(written: str) -> None:
    assert NodeName().read(written) == written


@pytest.mark.parametrize("written", ["", "reply/to/", "é", "x" * 9])
def test_lines(written: str) -> None:
    assert Line(9).read(written) == written


@pytest.mark.parametrize("written", ["x" * 10, "a\nb", "\x00", "\udc80", 1, None], ids=repr)
def test_what_is_no_line(written: object) -> None:
    with pytest.raises(Refusal):
        Line(9).read(written)


@given(st.integers(0, 2 * TB) | st.integers(0, 2048).map(lambda number: number * MB))
def test_a_written_size_reads_back(number: int) -> None:
    shape = Size(0, 2 * TB)
    assert shape.read(shape.write(number).strip('"')) == number


@given(st.integers(0, 100 * DAY) | st.integers(0, 100).map(lambda number: number * HOUR))
def test_a_written_duration_reads_back(span_ms: int) -> None:
    shape = Duration(0, 100 * DAY)
    assert shape.read(shape.write(span_ms).strip('"')) == span_ms


@given(st.integers(0, 10_000))
def test_a_written_duration_of_whole_seconds_reads_back(span_s: int) -> None:
    shape = Duration(0, 100 * DAY, unit_ms=SECOND)
    assert shape.read(shape.write(span_s).strip('"')) == span_s


@given(st.ip_addresses(), st.integers(0, 65535))
def test_a_written_address_reads_back(host: object, port: int) -> None:
    bind = TcpBind(host=str(host), port=port)
    assert Address().read(Address().write(bind).strip('"')) == bind


@given(st.integers())
def test_a_whole_number_is_taken_in_its_range_only(number: int) -> None:
    shape = Whole(-5, KB)
    if -5 <= number <= KB:
        assert shape.read(number) == number
    else:
        with pytest.raises(Refusal):
            shape.read(number)


def test_priorities_read_and_write_back() -> None:
    value = Priorities().read(" alarm/fire = 255,a=b=1 ,s=7")
    assert value == (("alarm/fire", 255), ("a=b", 1), ("s", 7))
    assert Priorities().read(Priorities().write(value).strip('"')) == value
    assert Priorities().read("") == ()


@pytest.mark.parametrize(
    "written",
    ["a", "a=", "=1", "a=0", "a=256", "a=0001", "a=-1", "a=1.0", "a=٣", "a/+=1", "#=1", "a=1,", "a=1,a=2", 7, None],
    ids=repr,
)
def test_what_is_no_list_of_priorities(written: object) -> None:
    with pytest.raises(Refusal):
        Priorities().read(written)
