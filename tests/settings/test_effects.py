"""No setting is written in vain: each row of the table changes what somebody is told, and somebody reads it.

Knows a second value for each row. What the data plane is told is compared as options; that the data plane looks at it
is looked up in its source, because an option that nobody reads would be one that was forgotten on the way.
"""

import re
from pathlib import Path

import pytest

from whimbrel.engine.options import from_settings
from whimbrel.settings import from_mapping
from whimbrel.settings.shapes import Choice, Duration, Line, Priorities, Shape, Size, Truth, Whole
from whimbrel.settings.table import ROWS, Row

CRATES = Path(__file__).parents[2] / "crates"

TLS = {"cert_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/a.pem", "verify": "required", "crl_file": "/r.pem"}
BASE: dict[str, object] = {
    "node.data_dir": "/data",
    "flapping.enable": True,
    "zones.fast.mqtt.max_inflight": 7,
    "listeners.tcp.default.bind": "127.0.0.1:1883",
    "listeners.tcp.default.proxy_protocol": True,
    "listeners.wss.default.bind": "127.0.0.1:8084",
    **{f"listeners.wss.default.{name}": path for name, path in TLS.items()},
    "listeners.unix.default.bind": "/run/whimbrel.sock",
    "listeners.unix.default.proxy_protocol": True,
}

# What no shape can guess.
OTHERS: dict[str, object] = {
    "node.name": "other@127.0.0.1",
    "listeners.<tcp|tls|ws|wss>.<name>.bind": "127.0.0.1:2000",
    "listeners.unix.<name>.bind": "/run/other.sock",
    "listeners.<tcp|tls|ws|wss|unix>.<name>.zone": "fast",
    "listeners.<tls|wss>.<name>.verify": "optional",
    "listeners.<tcp|tls|ws|wss>.<name>.proxy_trusted": ["10.0.0.0/8"],
    "listeners.unix.<name>.proxy_trusted": [4321],
    "auth.allow_anonymous": False,
    "mqtt.durability": "off",
}
SECOND_VALUES: dict[type[Shape], object] = {Size: "99KB", Duration: "31s", Line: "other", Priorities: "a=1"}
IN_BASE = ("flapping.enable", "listeners.<tcp|tls|ws|wss|unix>.<name>.proxy_protocol")

# Read by the process around the data plane, each with tests of its own there.
ELSEWHERE = {"log.level", "sys.interval", "sys.heartbeat"}
ELSEWHERE |= {row.key for row in ROWS if row.section in ("alarm", "sysmon")}


_DEFAULTS = {row.key: row.default for row in ROWS}


def _other(row: Row) -> object:
    key, shape = row.key.removeprefix("zones.<name>."), row.shape
    default = _DEFAULTS[key]
    if key in OTHERS:
        return OTHERS[key]
    if isinstance(shape, Whole):
        return 3 if shape.high >= 3 else shape.low
    if isinstance(shape, Choice):
        return next(word for word in shape.words if word != default)
    if isinstance(shape, Truth):
        return not (default or key in IN_BASE)
    return SECOND_VALUES.get(type(shape), "/other")


def _key(row: Row) -> str:
    key = row.key.replace("zones.<name>", "zones.fast").replace("<name>", "default")
    kinds = re.search(r"<(.+?)>", key)
    return (
        key if kinds is None else key.replace(kinds[0], "wss" if "wss" in kinds[1] and "tcp" not in kinds[1] else "tcp")
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.key not in ELSEWHERE], ids=lambda row: row.key)
def test_each_row_changes_what_the_data_plane_is_told(row: Row) -> None:
    base = from_settings(from_mapping(BASE))
    changed = from_settings(from_mapping({**BASE, _key(row): _other(row)}))
    assert changed != base


def _fields(struct: str) -> set[str]:
    found = [re.search(rf"pub struct {struct} \{{\n(.*?)\n\}}", path.read_text(), re.S) for path in _sources()]
    bodies = [match[1] for match in found if match is not None]
    assert len(bodies) == 1, struct
    return set(re.findall(r"^    pub (\w+):", bodies[0], re.M))


def _sources() -> list[Path]:
    return [path for crate in ("protocol", "server") for path in (CRATES / crate / "src").rglob("*.rs")]


@pytest.mark.parametrize(
    "struct", ["Limits", "QueueRules", "Options", "ListenerOptions", "LayerOptions", "TlsOptions", "Flapping"]
)
def test_each_option_is_read_by_the_data_plane(struct: str) -> None:
    bodies = [path.read_text().partition("#[cfg(test)]")[0] for path in _sources()]
    code = "\n".join(line.partition("//")[0] for body in bodies for line in body.splitlines())
    unread = {field for field in _fields(struct) if not re.search(rf"\.{field}\b", code)}
    # Told for the sake of what comes: topics that carry the node's name.
    assert unread <= {"node_name"}
