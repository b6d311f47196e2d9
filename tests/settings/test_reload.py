"""What a reload would change: by key, now or at the next start."""

import pytest

from whimbrel.settings import Changes, changes, from_mapping


@pytest.mark.parametrize(
    ("before", "after", "now", "at_restart"),
    [
        ({}, {}, (), ()),
        ({}, {"mqtt.max_inflight": 7}, ("mqtt.max_inflight",), ()),
        ({"log.level": "info"}, {"log.level": "debug", "hooks.deadline": "1s"}, ("hooks.deadline", "log.level"), ()),
        ({}, {"workers": 3, "node.name": "a@b"}, (), ("node.name", "workers")),
        (
            {"listeners.tcp.a.bind": "127.0.0.1:1"},
            {"listeners.tcp.a.bind": "127.0.0.1:2", "listeners.tcp.b.bind": "127.0.0.1:3"},
            (),
            ("listeners.tcp.a", "listeners.tcp.b"),
        ),
        (
            {"zones.z.mqtt.max_inflight": 1},
            {"zones.z.mqtt.max_inflight": 2},
            ("zones.z.mqtt.max_inflight",),
            (),
        ),
        (
            {"zones.z.mqtt.durability": "off"},
            {"zones.z.mqtt.durability": "broker", "mqtt.durability": "off"},
            (),
            ("mqtt.durability", "zones.z.mqtt.durability"),
        ),
    ],
)
def test_each_key_that_differs_is_named_once(
    before: dict[str, object], after: dict[str, object], now: tuple[str, ...], at_restart: tuple[str, ...]
) -> None:
    found = changes(from_mapping({"workers": 1, **before}), from_mapping({"workers": 1, **after}))
    assert found == Changes(now=now, at_restart=at_restart)


def test_a_zone_that_comes_or_goes_waits_for_the_next_start() -> None:
    without, with_zone = from_mapping({}), from_mapping({"zones.z.mqtt.max_inflight": 2})
    for found in (changes(without, with_zone), changes(with_zone, without)):
        assert found.now == ()
        assert "zones.z.mqtt.max_inflight" in found.at_restart
