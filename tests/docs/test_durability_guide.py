"""The page about durability, executed: modes and zones under SIGKILL, the commands as they stand, who may read what.

Knows the page's tables and shell blocks. Which acknowledgement waits for what, packet by packet, is told by the
server's tests and tests/crash; what the loss of power leaves by those of crates/storage.
"""

import os
import re
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_client import RawClient
from tests.raw_packets import Property
from tests.wire.product import FREE_PORT, Product, clean_environment, command, running
from whimbrel.settings.table import ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/durability.md").read_text(encoding="utf-8")
SOURCES = [ROOT / "crates/server/src/ledger.rs", ROOT / "crates/server/src/durable/mod.rs"]
COUNTER = re.compile(r"whimbrel\.storage\.[a-z_]+")
A_DAY = {Property.SESSION_EXPIRY_INTERVAL: 86_400}
SLEEPER, COUNT = "sleeper", 5


def test_every_counter_of_the_store_is_explained() -> None:
    counters = {name for source in SOURCES for name in COUNTER.findall(source.read_text(encoding="utf-8"))}
    assert len(counters) > 15
    assert set(COUNTER.findall(PAGE)) == counters


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def survivals() -> dict[str, str]:
    """Mode -> what its row says of the end of the process; the default's name has a remark behind it."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section("Modes").splitlines() if line[:3] == "| `"
    ]
    return {row[0]: row[1] for row in rows if len(row) == 4 and row[1] in ("yes", "no")}


def test_the_table_of_modes_has_every_mode_and_the_default() -> None:
    (row,) = (row for row in ROWS if row.key == "storage.durability")
    assert list(survivals()) == [f"`{row.default}` (default)", "`os`", "`off`"]


def connected(product: Product, client_id: str, *, listener: str = "tcp:default") -> tuple[RawClient, bool]:
    """A client whose session lasts a day, and whether there was one."""
    client = RawClient(product.address(listener), level=5)
    code, was_present = client.connect(client_id, clean=False, properties=A_DAY)
    assert code == 0
    return client, was_present


def fill(product: Product, *, listener: str = "tcp:default") -> None:
    """A session that sleeps on some messages, and a retained one; everything is acknowledged."""
    sleeper, _ = connected(product, SLEEPER, listener=listener)
    with sleeper:
        assert sleeper.subscribe("queue", qos=1) == 1
    with RawClient(product.address(listener), level=5) as publisher:
        publisher.connect("publisher")
        for number in range(COUNT):
            assert publisher.publish_confirmed("queue", bytes([number]), qos=1) == 0
        publisher.publish_confirmed("kept", b"retained", qos=1, retain=True)


def found(product: Product, *, listener: str = "tcp:default") -> tuple[list[bytes], list[bytes]]:
    """What the session gets when it comes back, and what is retained."""
    sleeper, was_present = connected(product, SLEEPER, listener=listener)
    with sleeper:
        queued = [sleeper.publication().payload for _ in range(COUNT)] if was_present else []
    with RawClient(product.address(listener), level=5) as late:
        late.connect("late")
        late.subscribe("kept")
        return queued, [one.payload for one in late.published_so_far()]


ALL = ([bytes([number]) for number in range(COUNT)], [b"retained"])
NOTHING: tuple[list[bytes], list[bytes]] = ([], [])


def after_a_kill(data_dir: Path, *sets: str, listener: str = "tcp:default") -> tuple[list[bytes], list[bytes]]:
    """What is there after SIGKILL of a broker with these settings."""
    with running(data_dir, *sets) as product:
        fill(product, listener=listener)
        # Where publishers wait for nothing: what came before an acknowledgement that waits is stored when it comes.
        connected(product, "afterwards")[0].close()
        assert product.stop(signal.SIGKILL) == -signal.SIGKILL
    with running(data_dir, *sets) as again:
        return found(again, listener=listener)


@pytest.mark.parametrize(("mode", "survives"), survivals().items())
def test_a_mode_survives_the_end_of_the_process_as_its_row_says(tmp_path: Path, mode: str, survives: str) -> None:
    written = [] if "(default)" in mode else [f"storage.durability={mode.strip('`')}"]
    assert after_a_kill(tmp_path, *written) == (ALL if survives == "yes" else NOTHING)


# What is retained is kept whoever published it, as long as there is a store. All pairs: tests/settings/test_promises.
ZONES = [("sync", "off", ([], ALL[1])), ("off", "sync", ALL)]


@pytest.mark.parametrize(("broker", "zone", "expected"), ZONES, ids=[f"{one}-{two}" for one, two, _ in ZONES])
def test_the_listeners_of_a_zone_get_at_least_what_it_asks_for(
    tmp_path: Path, broker: str, zone: str, expected: tuple[list[bytes], list[bytes]]
) -> None:
    sets = (
        f"storage.durability={broker}",
        f"zones.z.mqtt.durability={zone}",
        "listeners.tcp.z.bind=127.0.0.1:0",
        "listeners.tcp.z.zone=z",
    )
    assert after_a_kill(tmp_path, *sets, listener="tcp:z") == expected


def test_what_is_stored_comes_back_after_a_time_without_the_store(tmp_path: Path) -> None:
    with running(tmp_path) as product:
        fill(product)
    with running(tmp_path, "storage.durability=off") as product:
        assert found(product) == NOTHING
    with running(tmp_path, "storage.durability=os") as product:
        assert found(product) == ALL


def commands(title: str) -> list[list[str]]:
    """The words of every line of the shell blocks of a section, without remarks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def played(words: list[str], places: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One of the page's commands, with folders of the test for those of the page."""
    for name, path in places.items():
        words = [re.sub(rf"^{name}(?=/|$)", path, word) for word in words]
    words = [command(), *words[1:]] if words[0] == "whimbrel" else words
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The page's names -> paths."""
    (tmp_path / "backups").mkdir()
    names = {"DIR": "data", "OTHER": "other", "/backups": "backups", "lines.jsonl": "lines.jsonl"}
    return {name: str(tmp_path / path) for name, path in names.items()}


def test_a_backup_is_restored_over_a_store_that_has_gone_on(places: dict[str, str]) -> None:
    backup, *restore = commands("Back up and restore")
    data_dir = Path(places["DIR"])
    with running(data_dir) as product:
        fill(product)
        assert played(backup, places).returncode == 0
        assert found(product) == ALL
        # It goes on after the copy, and ends with something that is in its newest files alone.
        with RawClient((product.host, product.port), level=5) as publisher:
            publisher.connect("publisher")
            publisher.publish_confirmed("kept", b"newer", qos=1, retain=True)
        product.stop(signal.SIGKILL)
    assert [words[0] for words in restore] == ["install", "install", "whimbrel"]
    for words in restore:
        done = played(words, places)
        assert done.returncode == 0, done.stderr
    with running(data_dir) as product:
        assert found(product) == ALL


def open_to_others(folder: Path) -> list[str]:
    return [
        f"{path.relative_to(folder)} {stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in (folder, *sorted(folder.rglob("*")))
        if path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
def test_the_tools_do_what_the_page_says_and_nothing_is_open_to_others(places: dict[str, str]) -> None:
    data_dir = Path(places["DIR"])
    with running(data_dir, "listeners.unix.local.bind=mqtt.sock") as product:
        fill(product)
        held = played(commands("Look at it")[0], places)
        assert (held.returncode, f"(pid {product.process.pid})" in held.stderr) == (1, True)
        assert played(commands("Back up and restore")[0], places).returncode == 0
        assert {path.name for path in data_dir.iterdir()} >= {"lock", "control.sock", "store", "mqtt.sock"}
        # To everybody who can reach it, which is nobody but the owner: the folder is closed.
        assert [name for name in open_to_others(data_dir) if not name.startswith("mqtt.sock")] == []
    assert len(commands("Look at it")) == 4
    for words in commands("Look at it"):
        done = played(words, places)
        assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(os.stat(places["/backups"] + "/store.redb").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(places["lines.jsonl"]).st_mode) == 0o600
    with running(Path(places["OTHER"])) as product:
        assert found(product) == ALL
    assert open_to_others(Path(places["OTHER"])) == []
    damage(data_dir / "store" / "store.redb", b"retained")
    checked = played(commands("Look at it")[1], places)
    assert (checked.returncode, "set aside" in checked.stderr) == (1, True)
    assert open_to_others(data_dir) == []


def damage(file: Path, needle: bytes) -> None:
    octets = bytearray(file.read_bytes())
    octets[octets.index(needle)] ^= 1
    file.write_bytes(octets)


def test_a_folder_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "store").mkdir(mode=0o755)
    with running(tmp_path):
        assert open_to_others(tmp_path / "store") == []


def test_the_default_folders_are_those_of_the_page(tmp_path: Path) -> None:
    named = re.search(
        r"`/var/lib/whimbrel` for root and `~/(\S+)` for others", section("Where it lies, and who may read it")
    )
    assert named is not None
    environment = {**clean_environment(), "HOME": str(tmp_path)}
    environment.pop("XDG_STATE_HOME", None)
    shown = subprocess.run([command(), "config"], capture_output=True, text=True, env=environment, check=True).stdout
    expected = "/var/lib/whimbrel" if os.geteuid() == 0 else str(tmp_path / named[1])
    assert f'node.data_dir = "{expected}"' in shown


def test_a_store_that_cannot_be_opened_ends_the_start_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store" / "store.redb").mkdir(parents=True)
    product = Product(tmp_path, FREE_PORT)
    assert product.ended() == 1
    assert product.errors().startswith(f"error: cannot use the store in {tmp_path / 'store'}: ")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.redb"]


def test_the_harness_is_called_as_the_page_says() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = makefile.partition("\ncrash: ")[2].partition("\n\n")[0]
    variables = set(re.findall(r"`make crash (\w+)=", PAGE))
    assert variables == {"KILLS", "SEED"}
    assert all(f"$({name})" in target for name in variables)
