"""Which source wins, what holds where nobody wrote anything, and what `explain` says about it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.settings.conftest import HOME, Written
from whimbrel.settings import (
    Auth,
    Flapping,
    History,
    Hooks,
    Listener,
    Log,
    Mqtt,
    Node,
    Retained,
    Settings,
    SettingsError,
    Storage,
    Sys,
    Sysmon,
    TcpBind,
    Tls,
    UnixBind,
    explain,
    from_mapping,
    load,
)

PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
CORES = min(len(os.sched_getaffinity(0)), 256)

DEFAULT_MQTT = Mqtt(
    max_packet_size_bytes=1024 * 1024,
    max_clientid_len=65535,
    max_topic_levels=128,
    max_qos_allowed=2,
    max_topic_alias=64,
    max_topic_alias_out=16,
    max_inflight=32,
    receive_maximum=1024,
    max_awaiting_rel=1024,
    await_rel_timeout_s=300,
    retry_interval_ms=0,
    max_mqueue_len=1000,
    max_mqueue_bytes=64 * 1024 * 1024,
    mqueue_drop_policy="oldest",
    mqueue_priorities=(),
    mqueue_default_priority="lowest",
    is_qos0_stored=False,
    max_subscriptions=100_000,
    max_outbox_bytes=1024 * 1024,
    server_keepalive_s=0,
    response_information="",
    force_shutdown_bytes=0,
    idle_timeout_ms=15_000,
    max_publish_rate=0,
    max_bytes_rate=0,
    session_expiry_s=2 * 60 * 60,
    session_expiry_max_s=7 * 24 * 60 * 60,
    max_sessions=1_000_000,
    is_retain_available=True,
    is_wildcard_available=True,
    is_shared_available=True,
    durability="broker",
    share_strategy="round_robin",
)


DEFAULT_SYSMON = Sysmon(
    interval_ms=60_000,
    cpu_high=80,
    cpu_low=60,
    system_memory_high=70,
    system_memory_low=65,
    process_memory_high=50,
    process_memory_low=45,
    disk_high=90,
    disk_low=85,
    tasks_high=80,
    tasks_low=60,
    max_tasks=10_000,
    congestion_bytes=512 * 1024,
    congestion_len=500,
)


def embedded(**changes: object) -> Settings:
    values: dict[str, object] = {
        "node": Node(name="whimbrel@127.0.0.1", data_dir=None),
        "workers": CORES,
        "listeners": (),
        "auth": Auth(allow_anonymous=None),
        "storage": Storage(durability="sync"),
        "mqtt": DEFAULT_MQTT,
        "zones": {},
        "hooks": Hooks(deadline_ms=5000),
        "flapping": Flapping(is_enabled=False, max_count=15, window_ms=60_000, ban_ms=300_000),
        "retained": Retained(max_messages=1_000_000, max_bytes=256 * 1024 * 1024),
        "sys": Sys(interval_ms=60_000, heartbeat_ms=30_000, is_presence_published=True, readers="local"),
        "alarm": History(size_limit=1_000, validity_ms=86_400_000),
        "sysmon": DEFAULT_SYSMON,
        "log": Log(level="info"),
        **changes,
    }
    return Settings(**values)  # type: ignore[arg-type]  # one dictionary for fields of all types


def loopback(name: str = "default", *, port: int = 1883, zone: str | None = None) -> Listener:
    return Listener(
        kind="tcp",
        name=name,
        bind=TcpBind(host="127.0.0.1", port=port),
        zone=zone,
        max_connections=1_000_000,
        max_conn_rate=0,
        is_anonymous_allowed=True,
    )


WEBSOCKET = Listener(
    kind="ws",
    name="default",
    bind=TcpBind(host="127.0.0.1", port=8083),
    zone=None,
    max_connections=1_000_000,
    max_conn_rate=0,
    is_anonymous_allowed=True,
    path="/mqtt",
)


def test_without_any_source_the_defaults_hold() -> None:
    settings = load(file=None, environment=HOME, sets=())
    node = Node(name="whimbrel@127.0.0.1", data_dir=Path("/state/whimbrel"))
    assert settings == embedded(node=node, listeners=(loopback(), WEBSOCKET))


def test_an_embedded_broker_has_no_listener_and_no_directory_of_its_own() -> None:
    assert from_mapping({}) == embedded()


def test_each_source_covers_the_one_before(written: Written) -> None:
    text = "hooks.deadline = 1\nretained.max_messages = 1\nmqtt.max_inflight = 1\nworkers = 1"
    environment = {
        "WHIMBREL__RETAINED__MAX_MESSAGES": "2",
        "WHIMBREL__MQTT__MAX_INFLIGHT": "2",
        "WHIMBREL__NODE__DATA_DIR": "/environment",
    }
    sets = ["mqtt.max_inflight=3", "node.data_dir=/set", "workers=4", "workers=5"]
    settings = written(text, environment=environment, sets=sets, data_dir=Path("/flag"))
    assert settings.hooks.deadline_ms == 1000
    assert settings.retained.max_messages == 2
    assert settings.mqtt.max_inflight == 3
    assert settings.workers == 5
    assert settings.node.data_dir == Path("/flag")


@pytest.mark.parametrize(
    ("environment", "user", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/ada"}, 1000, "/state/whimbrel"),
        ({"XDG_STATE_HOME": "/state"}, 0, "/state/whimbrel"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/ada"}, 1000, "/home/ada/.local/state/whimbrel"),
        ({"HOME": "/home/ada"}, 1000, "/home/ada/.local/state/whimbrel"),
        ({"HOME": "/root"}, 0, "/var/lib/whimbrel"),
    ],
)
def test_the_data_directory_follows_the_user(
    environment: dict[str, str], user: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert load(file=None, environment=environment, sets=()).node.data_dir == Path(expected)


def test_a_user_without_home_must_name_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(SettingsError) as caught:
        load(file=None, environment={}, sets=())
    assert str(caught.value) == (
        "default: node.data_dir\n"
        "  found:   no home directory\n"
        "  allowed: a directory of the broker's own\n"
        "  hint:    start with --data-dir DIRECTORY"
    )
    assert load(file=None, environment={}, sets=(), data_dir=Path("/d")).node.data_dir == Path("/d")


def test_a_relative_data_directory_starts_at_the_working_directory(written: Written, tmp_path: Path) -> None:
    assert written('node.data_dir = "state"').node.data_dir == tmp_path / "state"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("listeners.tcp.default.bind=127.0.0.1:18830", "127.0.0.1:18830"),
        ("listeners.tcp.default.bind='127.0.0.1:18830'", "127.0.0.1:18830"),
        ('listeners.tcp.default={ bind = "127.0.0.1:18830" }', "127.0.0.1:18830"),
        (" listeners.tcp.default.bind = 18830 ", "127.0.0.1:18830"),
        ("listeners.tcp.default.bind=[::1]:18830", "[::1]:18830"),
        ("listeners.tcp.default.bind=LocalHost:0", "127.0.0.1:0"),
    ],
)
def test_a_flag_takes_toml_and_bare_text(flag: str, expected: str) -> None:
    listener, _ = load(file=None, environment=HOME, sets=[flag]).listeners
    assert str(listener.bind) == expected


def test_text_that_looks_like_a_number_stays_text_where_text_is_meant() -> None:
    sets = ["zones.7.mqtt.max_inflight=9", "listeners.tcp.default.zone=7"]
    settings = load(file=None, environment={**HOME, "WHIMBREL__NODE__DATA_DIR": "2024"}, sets=sets)
    assert settings.listeners == (loopback(zone="7"), WEBSOCKET)
    assert settings.node.data_dir == Path("2024").absolute()


@pytest.mark.parametrize("off", ["off", '"off"'])
def test_off_switches_a_listener_off(off: str) -> None:
    assert load(file=None, environment=HOME, sets=[f"listeners.tcp.default.bind={off}"]).listeners == (WEBSOCKET,)


def test_a_listener_that_is_off_needs_nothing_else(written: Written) -> None:
    text = '[listeners.tls.later]\nbind = "off"\nzone = "none"\n[listeners.tcp.a]\nbind = "off"\nzone = "none"'
    assert written(text).listeners == (loopback(), WEBSOCKET)


def test_written_listeners_join_the_standing_one(written: Written) -> None:
    text = '[listeners.tcp.second]\nbind = 1884\n[listeners.unix.local]\nbind = "w.sock"\nmax_connections = 5'
    unix = Listener(
        kind="unix",
        name="local",
        bind=UnixBind(path=Path("/state/whimbrel/w.sock")),
        zone=None,
        max_connections=5,
        max_conn_rate=0,
        is_anonymous_allowed=True,
    )
    assert written(text).listeners == (loopback(), loopback("second", port=1884), unix, WEBSOCKET)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False)])
def test_a_written_allow_anonymous_holds_on_every_listener(written: Written, value: str, expected: bool) -> None:
    text = f'auth.allow_anonymous = {value}\n[listeners.tcp.lan]\nbind = "*:1884"'
    settings = written(text)
    assert [listener.is_anonymous_allowed for listener in settings.listeners] == [expected] * 3
    assert settings.listeners[1].bind == TcpBind(host="0.0.0.0", port=1884)


@pytest.mark.parametrize("bind", ["127.0.0.1:1884", "127.9.9.9:1884", "[::1]:1884", "localhost:1884", "1884"])
def test_loopback_needs_no_authentication(bind: str) -> None:
    settings = load(file=None, environment=HOME, sets=[f"listeners.tcp.a.bind={bind}"])
    assert all(listener.is_anonymous_allowed for listener in settings.listeners)


def test_a_zone_inherits_what_it_does_not_say(written: Written) -> None:
    text = """
    [mqtt]
    max_inflight = 7
    max_qos_allowed = 1
    [zones.sensors.mqtt]
    max_inflight = 9
    [zones.plain]
    [listeners.tcp.default]
    zone = "sensors"
    """
    settings = written(text)
    assert (settings.zones["sensors"].max_inflight, settings.zones["sensors"].max_qos_allowed) == (9, 1)
    assert settings.zones["plain"] == settings.mqtt
    assert settings.listeners == (loopback(zone="sensors"), WEBSOCKET)


def test_an_embedding_program_may_nest_or_dot_its_keys() -> None:
    overrides = {
        "node.data_dir": Path("/d"),
        "listeners": {"unix": {"a": {"bind": Path("a.sock")}}, "tcp.b": {"bind": 0}},
        "auth": {"allow_anonymous": None},
        "hooks.deadline": 0.25,
        "mqtt": {"retain_available": False},
    }
    settings = from_mapping(overrides)
    assert [str(listener.bind) for listener in settings.listeners] == ["127.0.0.1:0", "/d/a.sock"]
    assert settings.hooks.deadline_ms == 250
    assert not settings.mqtt.is_retain_available


def test_an_embedded_socket_without_data_directory_is_absolute() -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping({"listeners.unix.a.bind": "a.sock"})
    assert str(caught.value) == (
        "overrides: listeners.unix.a.bind\n"
        '  found:   "a.sock"\n'
        "  allowed: an absolute path, as there is no data directory"
    )


def test_an_embedding_program_hears_of_every_mistake_too() -> None:
    deep: dict[str, object] = {}
    deep["again"] = deep
    with pytest.raises(SettingsError) as caught:
        from_mapping({"workers": 10**6000, "log": {1: "x"}, "mqtt.max_inflight": {1, 2}, "node": deep})
    assert [(problem.key, problem.found) for problem in caught.value.problems] == [
        ("workers", "a number of 19932 bits"),
        ("log.1", 'unknown key "1"'),
        ("mqtt.max_inflight", "a value of type set"),
        ("node.again", 'unknown key "again"'),
    ]


def test_explain_names_the_origin_of_each_value(written: Written) -> None:
    written('workers = 3\n[zones.a.mqtt]\n  max_inflight = 4\n[listeners.tcp.default]\nbind="off"')
    rows = explain(
        file=Path("broker.toml"),
        environment={**HOME, "WHIMBREL__LOG__LEVEL": "debug"},
        sets=["mqtt.max_packet_size=2048"],
        data_dir=Path("/d"),
    )
    by_key = {row.key: (row.value, row.origin) for row in rows}
    assert by_key["node.name"] == ('"whimbrel@127.0.0.1"', "default")
    assert by_key["node.data_dir"] == ('"/d"', "--data-dir")
    assert by_key["workers"] == ("3", "broker.toml:1:11")
    assert by_key["listeners.tcp.default.bind"] == ('"off"', "broker.toml:5:6")
    assert by_key["log.level"] == ('"debug"', "WHIMBREL__LOG__LEVEL")
    assert by_key["mqtt.max_packet_size"] == ('"2KB"', "--set mqtt.max_packet_size")
    assert by_key["zones.a.mqtt.max_inflight"] == ("4", "broker.toml:3:18")
    assert by_key["zones.a.mqtt.max_packet_size"] == ('"2KB"', "inherited from mqtt.max_packet_size")
    assert "auth.allow_anonymous" not in by_key


def test_what_explain_prints_loads_to_the_same_settings(written: Written) -> None:
    text = """
    auth.allow_anonymous = true
    mqtt.session_expiry_interval = 4294967294
    mqtt.max_packet_size = 268435455
    mqtt.idle_timeout = "1s500ms"
    listeners.unix."quo_ted".bind = 'a "b" \\c.sock'
    listeners.tcp.lan = { bind = "[::]:1884", zone = "z" }
    zones.z.mqtt.retain_available = false
    """
    settings = written(text)
    rows = explain(file=Path("broker.toml"), environment=HOME, sets=())
    assert written("\n".join(f"{row.key} = {row.value}" for row in rows)) == settings


def test_settings_need_neither_the_binding_nor_an_event_loop() -> None:
    question = "import sys, whimbrel.settings; print([m for m in ('whimbrel._core', 'asyncio') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True, env=PATHS)
    assert answer.stdout == "[]\n"


def test_a_tls_listener_knows_its_files_and_its_proxies(written: Written) -> None:
    text = """
    [listeners.wss.web]
    bind = 8084
    cert_file = "/c.pem"
    key_file = "/k.pem"
    proxy_protocol = true
    proxy_trusted = ["10.0.0.0/8", "::1"]
    """
    listener = written(text).listeners[-1]
    files = Tls(cert_file=Path("/c.pem"), key_file=Path("/k.pem"), ca_file=None, verify="none", crl_file=None)
    assert (listener.kind, listener.path, listener.tls) == ("wss", "/mqtt", files)
    assert listener.trusted_proxies == ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize("flag", ["127.0.0.1,::1", '["127.0.0.1", "::1/128"]'])
def test_proxies_may_be_written_in_a_flag(flag: str) -> None:
    sets = ["listeners.tcp.default.proxy_protocol=true", f"listeners.tcp.default.proxy_trusted={flag}"]
    assert load(file=None, environment=HOME, sets=sets).listeners[0].trusted_proxies == ("127.0.0.1/32", "::1/128")


@pytest.mark.parametrize("flag", ["root,33", '["root", 33]', '["0", "33", "root"]'])
def test_proxies_on_a_unix_socket_are_users(flag: str) -> None:
    words = ("bind=a.sock", "proxy_protocol=true", f"proxy_trusted={flag}")
    sets = [f"listeners.unix.a.{word}" for word in words]
    assert load(file=None, environment=HOME, sets=sets).listeners[1].trusted_proxies == (0, 33)


def test_the_brokers_own_user_and_root_are_proxies_on_a_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    sets = ["listeners.unix.a.bind=a.sock", "listeners.unix.a.proxy_protocol=true"]
    assert load(file=None, environment=HOME, sets=sets).listeners[1].trusted_proxies == (1234, 0)


def test_a_user_that_does_not_exist_is_a_mistake(refused: Callable[..., str]) -> None:
    text = refused('listeners.unix.a = { bind = "a.sock", proxy_trusted = ["no-such-user"] }')
    assert 'there is no user "no-such-user" on this machine' in text
