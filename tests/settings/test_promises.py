"""Which zone promises what, what the store has to do for all of them, and that a promise has a place."""

import pytest

from whimbrel.engine.options import from_settings
from whimbrel.settings import SettingsError, from_mapping
from whimbrel.settings.promises import store_mode, zone_modes

DATA = {"node.data_dir": "/data"}

CASES = [
    ({}, "sync", {"": "sync", "z": "sync"}),
    ({"storage.durability": "os"}, "os", {"": "os", "z": "os"}),
    ({"storage.durability": "off"}, "off", {"": "off", "z": "off"}),
    ({"zones.z.mqtt.durability": "off"}, "sync", {"": "sync", "z": "off"}),
    ({"zones.z.mqtt.durability": "os"}, "sync", {"": "sync", "z": "os"}),
    ({"storage.durability": "os", "zones.z.mqtt.durability": "sync"}, "sync", {"": "os", "z": "sync"}),
    ({"storage.durability": "off", "zones.z.mqtt.durability": "os"}, "os", {"": "off", "z": "os"}),
    ({"mqtt.durability": "off"}, "sync", {"": "off", "z": "off"}),
    ({"mqtt.durability": "off", "zones.z.mqtt.durability": "broker"}, "sync", {"": "off", "z": "sync"}),
]


@pytest.mark.parametrize(("written", "store", "zones"), CASES, ids=[str(case[0]) for case in CASES])
def test_the_store_is_as_strong_as_the_strongest_promise(
    written: dict[str, object], store: str, zones: dict[str, str]
) -> None:
    settings = from_mapping({**DATA, "zones.z.mqtt.max_inflight": 7, **written})
    assert (store_mode(settings), zone_modes(settings)) == (store, zones)
    options = from_settings(settings)
    assert (options.storage_folder, options.is_storage_synced) == (
        None if store == "off" else "/data/store",
        store == "sync",
    )
    assert [zone.is_durable for zone in options.zones] == [mode != "off" for mode in zones.values()]


def test_without_a_data_directory_nothing_is_stored_unless_somebody_wrote_that_it_is() -> None:
    assert from_settings(from_mapping({})).storage_folder is None
    assert from_settings(from_mapping({"storage.durability": "off"})).storage_folder is None


@pytest.mark.parametrize("key", ["storage.durability", "mqtt.durability", "zones.z.mqtt.durability"])
@pytest.mark.parametrize("mode", ["sync", "os"])
def test_a_promise_without_a_place_is_a_mistake(key: str, mode: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_mapping({key: mode, "zones.z.mqtt.max_inflight": 7})
    (problem,) = refused.value.problems
    assert (problem.key, problem.found) == (key, f'"{mode}", and no directory to keep anything in')
    assert problem.hint == 'node.data_dir = "/var/lib/whimbrel"'
    from_mapping({key: mode, **DATA})
