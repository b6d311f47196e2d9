"""Settings become options: names, zones, listeners."""

from dataclasses import fields

from tests.engine.test_fake_core import CLASSES, _members
from whimbrel.engine.options import ListenerOptions, Options, ZoneOptions, from_settings
from whimbrel.settings import from_mapping


def test_the_dataclasses_have_the_fields_of_the_binding_s_protocols() -> None:
    for kind in (Options, ListenerOptions, ZoneOptions):
        assert {field.name for field in fields(kind)} == _members(CLASSES[kind.__name__])


def test_zone_0_is_mqtt_and_listeners_point_to_their_zone() -> None:
    settings = from_mapping(
        {
            "mqtt.max_qos_allowed": 1,
            "zones.fast.mqtt.max_inflight": 7,
            "listeners.tcp.default.bind": "127.0.0.1:0",
            "listeners.tcp.other.bind": "[::1]:1884",
            "listeners.tcp.other.zone": "fast",
            "listeners.unix.local.bind": "/run/whimbrel.sock",
        }
    )
    options = from_settings(settings)
    by_name = {listener.name: listener for listener in options.listeners}
    assert [(zone.max_qos_allowed, zone.max_inflight) for zone in options.zones] == [(1, 32), (1, 7)]
    assert {name: listener.zone for name, listener in by_name.items()} == {"default": 0, "other": 1, "local": 0}
    assert (by_name["other"].host, by_name["other"].port, by_name["other"].path) == ("::1", 1884, "")
    assert (by_name["local"].host, by_name["local"].port, by_name["local"].path) == ("", 0, "/run/whimbrel.sock")


def test_the_data_plane_waits_longer_for_answers_than_the_hooks_may_take() -> None:
    assert from_settings(from_mapping({"hooks.deadline": "2s"})).question_deadline_ms > 2_000
