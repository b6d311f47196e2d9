"""The operator's side of the store: a disk without room, copies, tools, and a store that cannot be used.

The product's own process, its management line and its command. A disk without room is a limit on the size of files
(RLIMIT_FSIZE), which needs no privilege, hits the store's file alone, and can be lifted from outside.
"""

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.raw_client import PUBACK, RawClient
from tests.raw_packets import Property
from tests.waiting import wait_until
from tests.wire.product import NO_WEBSOCKET, Product, clean_environment, command, running
from whimbrel.control.client import ControlClient

SYNC = "storage.durability=sync"
A_DAY = {Property.SESSION_EXPIRY_INTERVAL: 86_400}
QUOTA_EXCEEDED = 0x97


def tool(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command with these words, ended."""
    return subprocess.run(
        [command(), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )


def count(product: Product, name: str) -> int:
    with ControlClient(product.data_dir) as control:
        found: int = control.request("metrics")[name]
        return found


def entered(product: Product, client_id: str, *, level: int = 5, is_durable: bool = False) -> RawClient:
    client = RawClient((product.host, product.port), level=level)
    properties = A_DAY if is_durable and level == 5 else {}
    code, _ = client.connect(client_id, clean=not is_durable, properties=properties)
    assert code == 0
    return client


def filled(data_dir: Path) -> None:
    """A store with a session that sleeps, its subscriptions, twenty messages for it, and retained messages."""
    with running(data_dir, SYNC) as product:
        with entered(product, "sleeper", is_durable=True) as sleeper:
            assert sleeper.subscribe_all([("a/#", 2), ("b", 1)]) == [2, 1]
        with entered(product, "publisher") as publisher:
            for number in range(20):
                publisher.publish_confirmed(f"a/{number}", bytes([number, 255]) * 100, qos=1)
            publisher.publish_confirmed("kept", b"retained", qos=1, retain=True)


def fetched(data_dir: Path) -> tuple[list[bytes], list[bytes]]:
    """What the sleeping session gets, and what is retained."""
    with running(data_dir, SYNC) as product:
        sleeper = RawClient((product.host, product.port), level=5)
        with sleeper:
            code, _ = sleeper.connect("sleeper", clean=False, properties=A_DAY)
            assert code == 0
            queued = [sleeper.publication().payload for _ in range(20)]
        with entered(product, "late") as late:
            late.subscribe("kept")
            return queued, [late.publication().payload]


EXPECTED = ([bytes([number, 255]) * 100 for number in range(20)], [b"retained"])


@contextmanager
def without_room(product: Product) -> Iterator[None]:
    """No file of the product's process can grow beyond the size that its store has now."""
    pid, (_, hard) = product.process.pid, resource.prlimit(product.process.pid, resource.RLIMIT_FSIZE)
    size = (product.data_dir / "store" / "store.redb").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def fill_up(product: Product, filler: RawClient) -> None:
    """Publish for the sleeping session until the store takes no more; the last message waits for its answer."""

    def is_full() -> bool:
        return count(product, "whimbrel.storage.refusing") == 1

    for packet_id in range(1, 60_000):
        filler.publish("d/x", b"x" * 60_000, qos=1, packet_id=packet_id)
        wait_until(lambda: filler.hears_within(0) or is_full(), what="an acknowledgement, or a full disk")
        if not filler.hears_within(0):
            return
        filler.expect(PUBACK)


def test_a_full_disk_refuses_what_must_be_stored_serves_the_rest_and_recovers(tmp_path: Path) -> None:
    with running(tmp_path, SYNC) as product:
        with entered(product, "sleeper", is_durable=True) as sleeper:
            sleeper.subscribe("d/#", qos=1)
        with entered(product, "filler") as filler, without_room(product):
            fill_up(product, filler)
            with entered(product, "five") as five:
                assert five.publish_confirmed("d/y", b"no", qos=1) == QUOTA_EXCEEDED
                assert five.publish_confirmed("nobody", b"yes", qos=1) == 0x10
            three = entered(product, "three", level=4)
            three.publish("d/z", b"waits", qos=1, packet_id=9)
            wait_until(lambda: count(product, "whimbrel.storage.held_back") == 1, what="a publisher that waits")
            with RawClient((product.host, product.port), level=5) as new:
                assert new.connect("new", clean=False, properties=A_DAY)[0] == QUOTA_EXCEEDED
            assert not three.hears_within(0)
        with three:
            assert three.expect(PUBACK).body[:2] == b"\0\x09"
        wait_until(lambda: count(product, "whimbrel.storage.refusing") == 0, what="room")
        with entered(product, "five") as five:
            assert five.publish_confirmed("d/last", b"last", qos=1) == 0
    lines = [line for line in product.errors().splitlines() if "store: " in line]
    assert len(lines) == 2, lines
    assert " warning " in lines[0]
    assert "make room" in lines[0]
    assert "takes in again" in lines[1]


def test_a_copy_is_made_while_serving_and_can_take_the_store_s_place(tmp_path: Path) -> None:
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy.redb"
    filled(first)
    with running(first, SYNC):
        made = tool("ctl", "backup", str(copy), "--data-dir", str(first))
        assert (made.returncode, made.stderr) == (0, "")
        again = tool("ctl", "backup", str(copy), "--data-dir", str(first))
        assert again.returncode == 1
        assert "something is there already" in again.stderr
        nowhere = tool("ctl", "backup", str(tmp_path / "no" / "copy"), "--data-dir", str(first))
        assert nowhere.returncode == 1
        assert "no such file" in nowhere.stderr.lower()
    assert copy.stat().st_mode & 0o777 == 0o600
    (second / "store").mkdir(parents=True, mode=0o700)
    shutil.copy(copy, second / "store" / "store.redb")
    assert fetched(second) == EXPECTED


def test_a_broker_without_a_store_has_nothing_to_copy(tmp_path: Path) -> None:
    with running(tmp_path, "storage.durability=off"):
        made = tool("ctl", "backup", str(tmp_path / "copy"), "--data-dir", str(tmp_path))
    assert made.returncode == 1
    assert "storage.durability is off" in made.stderr


def test_an_export_comes_back_byte_for_byte(tmp_path: Path) -> None:
    first, second, lines = tmp_path / "first", tmp_path / "second", tmp_path / "lines"
    filled(first)
    made = tool("store", "export", str(lines), "--data-dir", str(first))
    assert (made.returncode, made.stderr) == (0, "")
    assert lines.stat().st_mode & 0o777 == 0o600
    kinds = [json.loads(line)["type"] for line in lines.read_text().splitlines()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "whimbrel-store": 1,
        "session": 1,
        "subscription": 2,
        "message": 20,
        "retained": 1,
        "keyed": 1,  # when the broker was last alive
        "end": 1,
    }
    taken = tool("store", "import", "--data-dir", str(second), stdin=lines.read_text())
    assert (taken.returncode, taken.stderr) == (0, f"25 rows are in {second / 'store'}\n")
    assert tool("store", "export", "--data-dir", str(second)).stdout == lines.read_text()
    assert fetched(second) == EXPECTED
    refused = tool("store", "import", str(lines), "--data-dir", str(second))
    assert refused.returncode == 1
    assert "holds a store already" in refused.stderr


def test_what_is_in_a_store_is_counted_and_checked(tmp_path: Path) -> None:
    filled(tmp_path)
    stats = tool("store", "stats", "--json", "--data-dir", str(tmp_path))
    found = json.loads(stats.stdout)
    assert {key: found[key] for key in ("sessions", "subscriptions", "messages", "deliveries", "retained")} == {
        "sessions": 1,
        "subscriptions": 2,
        "messages": 20,
        "deliveries": 20,
        "retained": 1,
    }
    whole = tool("store", "check", "--data-dir", str(tmp_path))
    assert (whole.returncode, whole.stdout.splitlines()[-1]) == (0, "the store is whole")
    file = tmp_path / "store" / "store.redb"
    octets = bytearray(file.read_bytes())
    at = octets.index(bytes([7, 255]) * 100)
    octets[at] ^= 1
    file.write_bytes(octets)
    damaged = tool("store", "check", "--data-dir", str(tmp_path))
    assert damaged.returncode == 1
    assert "damaged: " in damaged.stdout
    assert "set aside" in damaged.stderr


@pytest.mark.parametrize("operation", ["stats", "check", "export"])
def test_tools_say_where_there_is_no_store_and_who_holds_it(tmp_path: Path, operation: str) -> None:
    nothing = tool("store", operation, "--data-dir", str(tmp_path))
    assert (nothing.returncode, "there is no store in" in nothing.stderr) == (1, True)
    with running(tmp_path, SYNC) as product:
        held = tool("store", operation, "--data-dir", str(tmp_path))
        assert (held.returncode, f"another broker (pid {product.process.pid})" in held.stderr) == (1, True)


HEAD = '{"type":"whimbrel-store","format":1}\n'
LINES = (
    ('{"type":"whimbrel-store","format":2}\n', "line 1: it has format 2"),
    ('{"type":"session"}\n', "line 1: this is not the export of a store"),
    (HEAD, "line 1: the last line is missing"),
    (HEAD + '{"type":"end","rows":1}\n', "there should be 1 rows, and there are 0"),
    (HEAD + "x\n", "line 2: this is not JSON"),
    (HEAD + '{"type":"keyed","space":300,"key":"","value":""}\n', "line 2: this is no row: "),
    (HEAD + '{"type":"keyed","space":1,"key":"?","value":""}\n', "line 2: this is no row"),
    (HEAD + '{"type":"sessions"}\n', "there is no row of type"),
)


@pytest.mark.parametrize(("lines", "sentence"), LINES, ids=[sentence for _, sentence in LINES])
def test_lines_that_make_no_sense_are_named_and_leave_nothing_behind(tmp_path: Path, lines: str, sentence: str) -> None:
    taken = tool("store", "import", "--data-dir", str(tmp_path), stdin=lines)
    assert taken.returncode == 1
    assert sentence in taken.stderr
    assert "Traceback" not in taken.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_store_that_cannot_be_used_is_one_sentence_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    product = Product(tmp_path, "listeners.tcp.default.bind=127.0.0.1:0", NO_WEBSOCKET, SYNC)
    assert product.ended() == 1
    (line,) = product.errors().splitlines()
    assert line.startswith(f"error: cannot use the store in {tmp_path / 'store'}: ")
    assert "let this user write there" in line
