"""The banner: every door with who may pass, and commands that can be pasted."""

from whimbrel.app.banner import Facts, banner
from whimbrel.settings import from_mapping


def lines(listeners: list[tuple[str, str, str]], **settings: object) -> list[str]:
    keys = {"workers": 2, "node.name": "n@h", **settings}
    return banner(from_mapping(keys), listeners, Facts(version="1.2.3", pid=7))


def test_it_tells_doors_openness_directory_and_the_first_message() -> None:
    shown = lines(
        [("tcp", "default", "127.0.0.1:40123")],
        **{"listeners.tcp.default.bind": "127.0.0.1:0", "node.data_dir": "/var/lib/whimbrel"},
    )
    assert shown == [
        "whimbrel 1.2.3, pid 7, node n@h, 2 workers",
        "listening  tcp:default  127.0.0.1:40123  (open to every program on this machine, without a password)",
        "data       /var/lib/whimbrel",
        "durability sync: what is acknowledged is on disk, and survives kill -9 and the loss of power",
        "manage     whimbrel ctl --data-dir /var/lib/whimbrel clients",
        "try it from two other terminals:",
        "  whimbrel sub -h 127.0.0.1 -p 40123 -t 'hello/#' -v",
        "  whimbrel pub -h 127.0.0.1 -p 40123 -t hello/world -m 'it works'",
    ]


def durability(**settings: object) -> list[str]:
    shown = lines([], **{"node.data_dir": "/d", **settings})
    return shown[shown.index("data       /d") + 1 : -1]


def test_it_says_what_an_acknowledgement_promises_and_where_it_does_not() -> None:
    assert durability(**{"storage.durability": "os"}) == [
        "durability os: what is acknowledged survives kill -9, not the loss of power"
    ]
    assert durability(**{"storage.durability": "off"}) == [
        "durability off: sessions, queues and retained messages end with this process"
    ]
    weaker = durability(
        **{"mqtt.durability": "off", "zones.b.mqtt.durability": "broker", "zones.c.mqtt.max_inflight": 1}
    )
    assert weaker[1:] == [
        "           off for listeners without a zone, of zone c: their sessions end with this process"
    ]


def test_without_a_data_directory_everything_is_in_memory() -> None:
    shown = lines([])
    assert "data       none, everything is in memory" in shown
    assert not any(line.startswith("durability") for line in shown)


def test_a_door_without_anonymous_access_is_called_closed() -> None:
    shown = lines(
        [("tcp", "default", "127.0.0.1:1")],
        **{"listeners.tcp.default.bind": "127.0.0.1:0", "auth.allow_anonymous": False},
    )
    assert "(closed: no client may enter until something authenticates it)" in shown[1]
    assert not any("try it" in line for line in shown), "a closed door is nothing to try"


def test_an_open_door_to_the_network_is_called_so_and_tried_locally() -> None:
    shown = lines(
        [("tcp", "default", "[::]:1883")],
        **{"listeners.tcp.default.bind": "[::]:1883", "auth.allow_anonymous": True},
    )
    assert "(open to everybody who reaches this address, without a password)" in shown[1]
    assert "  whimbrel sub -h ::1 -p 1883 -t 'hello/#' -v" in shown


def test_a_unix_socket_is_tried_by_its_path() -> None:
    shown = lines([("unix", "local", "/tmp/a b")], **{"listeners.unix.local.bind": "/tmp/a b"})
    assert "(open to the programs of this user, without a password)" in shown[1]
    assert "  whimbrel sub --unix '/tmp/a b' -t 'hello/#' -v" in shown


def test_without_a_listener_or_directory_it_says_what_is_true() -> None:
    assert lines([]) == ["whimbrel 1.2.3, pid 7, node n@h, 2 workers", "data       none, everything is in memory"]
