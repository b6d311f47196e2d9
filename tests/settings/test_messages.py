"""What an operator reads when something is wrong: the exact text, the exact place, all problems at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.settings.conftest import HOME, Written
from whimbrel.errors import WhimbrelError
from whimbrel.settings import SettingsError, from_mapping, load

Refused = Callable[..., str]

TOP = "one of alarm, auth, flapping, hooks, listeners, log, mqtt, node, retained, storage, sys, sysmon, workers, zones"
ADDRESS = (
    'address:port such as "127.0.0.1:1883", "[::1]:1883", "*:1883" (every IPv4 address) or "1883" '
    '(this machine only), port from 0 to 65535; or "off"'
)
DURATION = 'a duration from {} to {} (such as "500ms", "15s", "2h" or "7d"; a plain number is seconds)'
SIZE = 'a size from {} to {} (such as "64KB" or "1MB"; a plain number is bytes)'


def block(head: str, found: str, allowed: str, hint: str = "") -> str:
    lines = [head, f"  found:   {found}", f"  allowed: {allowed}"]
    return "\n".join([*lines, f"  hint:    {hint}"] if hint else lines)


VALUES = [
    ("workers = 0", "1:11: workers", "0", "a whole number from 1 to 256", ""),
    ("workers = 257", "1:11: workers", "257", "a whole number from 1 to 256", ""),
    ("workers = 2.0", "1:11: workers", "2.0", "a whole number from 1 to 256", ""),
    ("workers = true", "1:11: workers", "true", "a whole number from 1 to 256", ""),
    ('workers = "4"', "1:11: workers", '"4"', "a whole number from 1 to 256", "write workers = 4"),
    ("workers = [1]", "1:11: workers", "an array", "a whole number from 1 to 256", ""),
    ("[workers]", "1:2: workers", "an empty table", "a whole number from 1 to 256", ""),
    ("workers = 1979-05-27", "1:11: workers", "1979-05-27", "a whole number from 1 to 256", ""),
    (
        '[auth]\nallow_anonymous = "True"',
        "2:19: auth.allow_anonymous",
        '"True"',
        "true or false",
        "write auth.allow_anonymous = true",
    ),
    ("auth.allow_anonymous = 1", "1:24: auth.allow_anonymous", "1", "true or false", ""),
    ('log.level = "loud"', "1:13: log.level", '"loud"', '"debug" or "info" or "warning" or "error"', ""),
    (
        'zones.fast.mqtt.durability = "on"',
        "1:30: zones.fast.mqtt.durability",
        '"on"',
        '"broker" or "sync" or "os" or "off"',
        "",
    ),
    (
        'node.name = "hive"',
        "1:13: node.name",
        '"hive"',
        'name@host, such as "whimbrel@127.0.0.1"; the name of letters, digits, "_" and "-"',
        'write "hive@127.0.0.1"',
    ),
    ('node.data_dir = ""', "1:17: node.data_dir", '""', "the path of a directory", ""),
    (
        'node.data_dir = "~/w"',
        "1:17: node.data_dir",
        '"~/w"',
        "the path of a directory",
        '"~" is not expanded here: write the whole path',
    ),
    (
        r'node.data_dir = "a\u0000b"',
        "1:17: node.data_dir",
        r'"a\u0000b"',
        "the path of a directory",
        "it has a control character, or a byte that is not UTF-8",
    ),
    ('hooks.deadline = "9ms"', "1:18: hooks.deadline", '"9ms"', DURATION.format("10ms", "1m"), ""),
    ("hooks.deadline = inf", "1:18: hooks.deadline", "inf", DURATION.format("10ms", "1m"), ""),
    (
        'hooks.deadline = "5 sec"',
        "1:18: hooks.deadline",
        '"5 sec"',
        DURATION.format("10ms", "1m"),
        "a duration is a whole number with ms, s, m, h or d behind it",
    ),
    (
        'mqtt.session_expiry_interval = "1500ms"',
        "1:32: mqtt.session_expiry_interval",
        '"1500ms"',
        DURATION.format("0s", "4294967294s"),
        "it is counted in steps of 1s",
    ),
    (
        'mqtt.max_packet_size = "256MB"',
        "1:24: mqtt.max_packet_size",
        '"256MB"',
        SIZE.format("1KB", "268435455B"),
        "",
    ),
    (
        'mqtt.max_packet_size = "1.5MB"',
        "1:24: mqtt.max_packet_size",
        '"1.5MB"',
        SIZE.format("1KB", "268435455B"),
        "a size is a whole number with B, KB, MB, GB or TB behind it",
    ),
    (
        'listeners.tcp.default.bind = "127.0.0.1:88x3"',
        "1:30: listeners.tcp.default.bind",
        '"127.0.0.1:88x3"',
        ADDRESS,
        "",
    ),
    (
        'listeners.tcp.default.bind = "127.0.0.1"',
        "1:30: listeners.tcp.default.bind",
        '"127.0.0.1"',
        ADDRESS,
        'the port is missing: "127.0.0.1:1883"',
    ),
    (
        'listeners.tcp.default.bind = "127.0.0.1:70000"',
        "1:30: listeners.tcp.default.bind",
        '"127.0.0.1:70000"',
        ADDRESS,
        "port 70000 is above 65535",
    ),
    (
        'listeners.tcp.default.bind = "::1:1883"',
        "1:30: listeners.tcp.default.bind",
        '"::1:1883"',
        ADDRESS,
        'an IPv6 address is written in brackets: "[::1]:1883"',
    ),
    (
        'listeners.tcp.default.bind = "broker.example:1883"',
        "1:30: listeners.tcp.default.bind",
        '"broker.example:1883"',
        ADDRESS,
        "write an IP address; host names are not looked up, apart from localhost",
    ),
    (
        'listeners.tcp.default.bind = "[fe80::1%eth0]:1883"',
        "1:30: listeners.tcp.default.bind",
        '"[fe80::1%eth0]:1883"',
        ADDRESS,
        'an address with an interface ("%") is not supported',
    ),
    (
        'listeners.tcp.default.bind = "/run/w.sock"',
        "1:30: listeners.tcp.default.bind",
        '"/run/w.sock"',
        ADDRESS,
        "a path belongs to a listener of kind unix: listeners.unix.<name>.bind",
    ),
    (
        "listeners.unix.a.bind = 5",
        "1:25: listeners.unix.a.bind",
        "5",
        'the path of a socket such as "whimbrel.sock" (relative to node.data_dir), or "off"',
        "",
    ),
    (
        'listeners.tcp.default.zone = "a b"',
        "1:30: listeners.tcp.default.zone",
        '"a b"',
        'a name of 1 to 64 letters, digits, "_" and "-"',
        "",
    ),
]


@pytest.mark.parametrize(("text", "head", "found", "allowed", "hint"), VALUES, ids=[row[0] for row in VALUES])
def test_a_value_that_is_not_allowed(
    text: str, head: str, found: str, allowed: str, hint: str, refused: Refused
) -> None:
    assert refused(text) == block(f"broker.toml:{head}", found, allowed, hint)


KEYS = [
    ("wrokers = 4", "1:1: wrokers", 'unknown key "wrokers"', TOP, "nearest known key: workers"),
    ("max_packet_size = 4", "1:1: max_packet_size", 'unknown key "max_packet_size"', TOP,
     "nearest known key: mqtt.max_packet_size"),
    ("[lisetners.tcp.a]\nbind = 1\nzone = 'b'", "1:2: lisetners", 'unknown key "lisetners"', TOP,
     "nearest known key: listeners"),
    ("[listeners.quic.a]\nbind = 1", "1:12: listeners.quic", 'unknown key "quic"', "one of tcp, tls, unix, ws, wss",
     ""),
    ("[listeners.tcp.'a b']\nbind = 1", '1:16: listeners.tcp."a b"', 'unknown key "a b"',
     'a name of 1 to 64 letters, digits, "_" and "-"', ""),
    ("[listeners.tcp.default]\nport = 1", "2:1: listeners.tcp.default.port", 'unknown key "port"',
     "one of bind, max_conn_rate, max_connections, proxy_protocol, proxy_trusted, zone", ""),
    ("[zones.fast]\nmax_inflight = 1", "2:1: zones.fast.max_inflight", 'unknown key "max_inflight"', "one of mqtt",
     "nearest known key: zones.fast.mqtt.max_inflight"),
    ("[mqtt]\nauth.allow_anonymous = true", "2:1: mqtt.auth", 'unknown key "auth"', None,
     "auth.allow_anonymous stands at the top: write it above the first [table]"),
    ("workers.max = 1", "1:9: workers.max", 'unknown key "max"', "workers has a value of its own, nothing below it",
     ""),
    ("mqtt = 5", "1:8: mqtt", "5", None, ""),
    ("listeners.tcp = 1883", "1:17: listeners.tcp", "1883", "a table [listeners.tcp] with a name", ""),
    ("[[listeners]]\n[[listeners]]", "1:3: listeners", "an array",
     "a table [listeners] with one of tcp, tls, unix, ws, wss", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "head", "found", "allowed", "hint"), KEYS, ids=[row[0] for row in KEYS])
def test_a_key_that_is_not_known(
    text: str, head: str, found: str, allowed: str | None, hint: str, refused: Refused
) -> None:
    message = refused(text)
    mqtt = message.partition("\n  allowed: ")[2].partition("\n")[0]
    assert message == block(f"broker.toml:{head}", found, allowed or mqtt, hint)
    assert allowed or ("idle_timeout, max_awaiting_rel" in mqtt and "session_expiry_interval" in mqtt)


RULES = [
    (
        '[listeners.tcp.lan]\nbind = "0.0.0.0:1884"',
        block(
            "broker.toml:2:8: listeners.tcp.lan.bind",
            '"0.0.0.0:1884", which other machines reach, and nothing that says who may enter',
            "a loopback address such as 127.0.0.1 or [::1] while auth.allow_anonymous is unset",
            "if everyone may enter, write auth.allow_anonymous = true above the first [table], "
            "or start with --set auth.allow_anonymous=true",
        ),
    ),
    (
        '[listeners.wss.web]\nbind = "127.0.0.1:8084"\nkey_file = "/k.pem"',
        block(
            "broker.toml:1:16: listeners.wss.web",
            "a listener of kind wss without cert_file",
            "a certificate and its private key, each in a PEM file",
            'listeners.wss.web.cert_file = "/etc/whimbrel/cert.pem"',
        ),
    ),
    (
        '[listeners.tls.a]\nbind = 8883\ncert_file = "/c"\nkey_file = "/k"\nverify = "optional"',
        block(
            "broker.toml:5:10: listeners.tls.a.verify",
            '"optional" without ca_file',
            "the authorities whose certificates are good, in a PEM file",
            'listeners.tls.a.ca_file = "/etc/whimbrel/ca.pem"',
        ),
    ),
    (
        '[listeners.tls.a]\nbind = 8883\ncert_file = "/c"\nkey_file = "/k"\ncrl_file = "/r"',
        block(
            "broker.toml:5:12: listeners.tls.a.crl_file",
            "a revocation list, and no certificates of clients are asked for",
            "a revocation list where verify is optional or required",
            'listeners.tls.a.verify = "required"',
        ),
    ),
    (
        '[listeners.ws.lan]\nbind = "0.0.0.0:8084"',
        block(
            "broker.toml:2:8: listeners.ws.lan.bind",
            '"0.0.0.0:8084", which other machines reach, and nothing that says who may enter',
            "a loopback address such as 127.0.0.1 or [::1] while auth.allow_anonymous is unset",
            "if everyone may enter, write auth.allow_anonymous = true above the first [table], "
            "or start with --set auth.allow_anonymous=true",
        ),
    ),
    (
        "[listeners.ws.web]",
        block(
            "broker.toml:1:15: listeners.ws.web",
            "a listener without bind",
            "a listener that says where it accepts",
            'listeners.ws.web.bind = "127.0.0.1:1884"',
        ),
    ),
    (
        "[listeners.tcp.second]\nmax_connections = 5",
        block(
            "broker.toml:1:16: listeners.tcp.second",
            "a listener without bind",
            "a listener that says where it accepts",
            'listeners.tcp.second.bind = "127.0.0.1:1884"',
        ),
    ),
    (
        "listeners.unix.local = {}",
        block(
            "broker.toml:1:16: listeners.unix.local",
            "a listener without bind",
            "a listener that says where it accepts",
            'listeners.unix.local.bind = "local.sock"',
        ),
    ),
    (
        "listeners.tcp.default.zone = 'fats'\n[zones.fast]\n[zones.slow]",
        block(
            "broker.toml:1:30: listeners.tcp.default.zone",
            '"fats", a zone that is not written',
            '"fast" or "slow"',
            "[zones.fats.mqtt] makes it",
        ),
    ),
    (
        "listeners.tcp.default.zone = 'fast'",
        block(
            "broker.toml:1:30: listeners.tcp.default.zone",
            '"fast", a zone that is not written',
            "no zone, as none is written",
            "[zones.fast.mqtt] makes it",
        ),
    ),
    (
        "[listeners.tcp.second]\nbind = 1883",
        block(
            "broker.toml:2:8: listeners.tcp.second.bind",
            '"127.0.0.1:1883", which overlaps with listeners.tcp.default (127.0.0.1:1883)',
            "an address and port, or a path, for each listener",
            'listeners.tcp.default.bind = "off" if only one of them is meant',
        ),
    ),
    (
        "auth.allow_anonymous = true\n[listeners.tcp.lan]\nbind = ':1883'",
        block(
            "broker.toml:3:8: listeners.tcp.lan.bind",
            '"0.0.0.0:1883", which overlaps with listeners.tcp.default (127.0.0.1:1883)',
            "an address and port, or a path, for each listener",
            'listeners.tcp.default.bind = "off" if only one of them is meant',
        ),
    ),
    (
        "[listeners.unix]\na.bind = 'w.sock'\nb.bind = '/state/whimbrel/./w.sock'",
        block(
            "broker.toml:3:10: listeners.unix.b.bind",
            '"/state/whimbrel/w.sock", which overlaps with listeners.unix.a (w.sock)',
            "an address and port, or a path, for each listener",
            'listeners.unix.a.bind = "off" if only one of them is meant',
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), RULES, ids=[row[0] for row in RULES])
def test_values_that_do_not_fit_together(text: str, expected: str, refused: Refused) -> None:
    assert refused(text) == expected


def test_a_socket_path_has_107_bytes_at_most(written: Written, refused: Refused) -> None:
    fits = "/" + "é" * 53
    written(f'listeners.unix.a.bind = "{fits}"')
    assert refused(f'listeners.unix.a.bind = "{fits}x"') == block(
        "broker.toml:1:25: listeners.unix.a.bind",
        f'"{fits}x" (108 bytes)',
        "a path of at most 107 bytes",
        "an absolute path does not start at node.data_dir: /run/whimbrel.sock",
    )


@pytest.mark.parametrize("name", ["control.sock", "./lock"])
def test_a_listener_stays_away_from_what_the_broker_keeps(name: str, refused: Refused) -> None:
    assert refused(f'listeners.unix.a.bind = "{name}"') == block(
        "broker.toml:1:25: listeners.unix.a.bind",
        f'"{name.removeprefix("./")}", which the broker itself uses in its data directory',
        "a path of the listener's own",
        'listeners.unix.a.bind = "a-mqtt.sock"',
    )


def test_a_data_directory_leaves_room_for_the_control_socket(written: Written, refused: Refused) -> None:
    fits = "/" + "é" * 46 + "x"
    written(f'node.data_dir = "{fits}"')
    assert refused(f'node.data_dir = "{fits}x"') == block(
        "broker.toml:1:17: node.data_dir",
        f'"{fits}x" (95 bytes)',
        "a path of at most 94 bytes, as control.sock is in it",
        'node.data_dir = "/var/lib/whimbrel"',
    )


def test_two_listeners_may_let_the_kernel_choose(written: Written) -> None:
    settings = written('[listeners.tcp]\na.bind = "127.0.0.1:0"\nb.bind = "127.0.0.1:0"')
    assert len(settings.listeners) == 4


SYNTAX = [
    ("a = [1\n", "2:1", "Unclosed array", ""),
    ("[a]\nb = 1\nb = 2", "3:6", "Cannot overwrite a value", ""),
    (
        "[listeners.tcp.default]\nbind = 127.0.0.1:1883",
        "2:13",
        "Expected newline or end of document after a statement",
        'text stands in quotes: "127.0.0.1:1883"',
    ),
    ("log.level = debug # all", "1:13", "Invalid value", 'text stands in quotes: "debug"'),
    ("workers 4", "1:9", "Expected '=' after a key in a key/value pair", ""),
]


@pytest.mark.parametrize(("text", "place", "found", "hint"), SYNTAX, ids=[row[0] for row in SYNTAX])
def test_a_file_that_is_not_toml(text: str, place: str, found: str, hint: str, refused: Refused) -> None:
    assert refused(text) == block(f"broker.toml:{place}", found, "TOML (https://toml.io/en/v1.0.0)", hint)


UNREADABLE = [
    (b"a = 1\n\xff", "broker.toml:2:1", "a byte that is not UTF-8 (0xff)", "UTF-8 text"),
    ("\ufeffä".encode() + b"\xc3(", "broker.toml:1:2", "a byte that is not UTF-8 (0xc3)", "UTF-8 text"),
    (b"#" * (1024 * 1024 + 1), "broker.toml", "more than 1048576 bytes", "a TOML file of at most 1MB"),
    (
        b"a = " + b"9" * 10_000,
        "broker.toml:1:5",
        "a value that cannot be read",
        "numbers, dates and nesting of a usual size",
    ),
    (b"\n" + b"a." * 400_000 + b"a = 1", "broker.toml:2:1", "a key of more than 32 parts", "the keys of the reference"),
    (
        b"\nx = {'a' . " + b'"b" . ' * 100_000 + b"a = 1}",
        "broker.toml:2:6",
        "a key of more than 32 parts",
        "the keys of the reference",
    ),
]


def test_nesting_without_end_is_named_where_it_got_too_deep(refused: Refused) -> None:
    head, found, *_ = refused(b"\na = " + b"[" * 100_000).splitlines()
    column = int(head.removeprefix("broker.toml:2:"))
    assert (5 < column < 100_000, found) == (True, "  found:   a value that cannot be read")


@pytest.mark.parametrize(
    ("content", "head", "found", "allowed"),
    UNREADABLE,
    ids=[
        "not UTF-8",
        "not UTF-8 behind a mark",
        "too large",
        "long number",
        "long key",
        "long quoted key",
    ],
)
def test_a_file_that_cannot_be_read(content: bytes, head: str, found: str, allowed: str, refused: Refused) -> None:
    assert refused(content) == block(head, found, allowed)


@pytest.mark.parametrize(
    ("path", "found"),
    [("missing.toml", "No such file or directory"), (".", "Is a directory"), ("a\0b", "embedded null byte")],
)
def test_a_path_that_is_no_file(path: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        load(file=Path(path), environment=HOME, sets=())
    head = path.replace("\0", r"\u0000")
    assert str(caught.value) == block(head, found, "a TOML file that the broker may read")


def test_an_endless_file_is_read_to_the_limit_only() -> None:
    with pytest.raises(SettingsError, match="more than 1048576 bytes"):
        load(file=Path("/dev/zero"), environment=HOME, sets=())


def test_a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(refused: Refused) -> None:
    text = b"\xef\xbb\xbf[mqtt]\r\nmax_inflight = 0\r\n"
    assert refused(text).startswith("broker.toml:2:16: mqtt.max_inflight\n")


TYPED = [
    ({"WHIMBREL__WORKERS": "many"}, (), "WHIMBREL__WORKERS: workers", '"many"'),
    ({"WHIMBREL__WORKERS": ""}, (), "WHIMBREL__WORKERS: workers", '""'),
    ({"WHIMBREL__WORKERS": "1\n[mqtt]"}, (), "WHIMBREL__WORKERS: workers", r'"1\u000a[mqtt]"'),
    ({}, ("workers=0",), "--set workers: workers", "0"),
    ({}, ("workers=",), "--set workers: workers", '""'),
]


@pytest.mark.parametrize(("environment", "sets", "head", "found"), TYPED)
def test_a_wrong_value_of_the_environment_or_a_flag(
    environment: dict[str, str], sets: tuple[str, ...], head: str, found: str, refused: Refused
) -> None:
    message = refused(environment=environment, sets=sets)
    assert message == block(head, found, "a whole number from 1 to 256")


def test_a_flag_has_an_equals_sign(refused: Refused) -> None:
    assert refused(sets=["workers"]) == block("--set workers", '"workers"', "section.key=value")


def test_a_flag_with_an_open_quote_is_not_taken_as_text(refused: Refused) -> None:
    message = refused(sets=["node.name='a@b"])
    assert message == block("--set node.name: node.name", '"\'a@b"', "a TOML value, or bare text")


@pytest.mark.parametrize("variable", ["WHIMBREL__", "WHIMBREL____X", "WHIMBREL__WORKERS__", "WHIMBREL__NOPE"])
def test_a_variable_that_is_no_key(variable: str, refused: Refused) -> None:
    assert refused(environment={variable: "1"}).startswith(f"{variable}: ")


def test_a_variable_with_one_underscore_belongs_to_somebody_else(written: Written) -> None:
    written(environment={"WHIMBREL_WORKERS": "x", "WHIMBREL": "x"})


def test_bytes_that_are_not_text_can_be_printed(refused: Refused) -> None:
    message = refused(environment={"WHIMBREL__NODE__NAME": "\udcff@\x1b[31m"}, sets=["\udcfe.a\n=1"])
    assert r'found:   "\udcff@\u001b[31m"' in message
    assert r"--set \udcfe.a: " in message
    message.encode()


def test_all_problems_of_all_sources_come_at_once(refused: Refused) -> None:
    text = 'workers = 0\n[mqtt]\nmax_inflght = 1\n[listeners.tcp.lan]\nbind = ":1884"'
    message = refused(text, environment={"WHIMBREL__LOG__LEVEL": "loud"}, sets=["hooks.deadline=1h"])
    heads = [line for line in message.split("\n") if not line.startswith(" ")]
    assert heads == [
        "broker.toml:1:11: workers",
        "broker.toml:3:1: mqtt.max_inflght",
        "WHIMBREL__LOG__LEVEL: log.level",
        "--set hooks.deadline: hooks.deadline",
        "broker.toml:5:8: listeners.tcp.lan.bind",
    ]


def test_one_mistake_is_one_problem(refused: Refused) -> None:
    text = """
    [listeners.tcp.default]
    bind = "nonsense"
    zone = "z"
    [zones.z.mqtt]
    max_inflght = 1
    [listeners.tcp.lan]
    bind = ":1884"
    [auth]
    allow_anonymous = "yes"
    """
    heads = [line.partition(": ")[2] for line in refused(text).split("\n") if line.startswith("broker")]
    assert heads == ["listeners.tcp.default.bind", "zones.z.mqtt.max_inflght", "auth.allow_anonymous"]


def test_a_wrong_value_is_reported_even_where_a_flag_covers_it(refused: Refused) -> None:
    assert refused("workers = 0", sets=["workers=1"]).startswith("broker.toml:1:11: workers\n")


def test_a_flood_of_problems_ends_somewhere(written: Written) -> None:
    with pytest.raises(SettingsError) as caught:
        written("\n".join(f"key_{number} = 1" for number in range(5000)))
    assert len(caught.value.problems) == 1001
    assert caught.value.problems[-1].found == "1000 problems"


def test_a_vanished_working_directory_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingsError) as caught:
        load(file=None, environment=HOME, sets=(), data_dir=Path("state"))
    monkeypatch.chdir(os.sep)
    assert str(caught.value) == block(
        "--data-dir: node.data_dir",
        '"state"',
        "the path of a directory",
        "the working directory is gone: write an absolute path",
    )


def test_the_error_is_one_of_ours_and_its_exit_code_means_a_mistake() -> None:
    with pytest.raises(WhimbrelError) as caught:
        load(file=None, environment=HOME, sets=["workers=0"])
    assert isinstance(caught.value, SettingsError)
    assert caught.value.exit_code == 2


def test_only_a_file_has_a_top_above_its_tables() -> None:
    with pytest.raises(SettingsError) as refused:
        from_mapping({"mqtt.auth.allow_anonymous": True})
    assert "[table]" not in str(refused.value)


@pytest.mark.parametrize("written", ["off", 1883])
def test_a_listener_that_is_no_table_is_one_problem(written: object) -> None:
    with pytest.raises(SettingsError) as refused:
        from_mapping({"listeners.tcp.x": written})
    (problem,) = refused.value.problems
    assert problem.key == "listeners.tcp.x"


@pytest.mark.parametrize("path", [".", "/", "sub/.."])
def test_a_unix_listener_needs_the_path_of_a_socket(path: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_mapping({"listeners.unix.a.bind": path, "node.data_dir": "/state"})
    (problem,) = refused.value.problems
    assert problem.hint == "that is a directory; write the path of a socket in it"
