"""What an acknowledgement promises in each zone, and what the one store of a broker has to do for all of them.

Pure: frozen `Settings` in, words out. The modes are those of `storage.durability`; a zone that says nothing of its own
has the broker's. Must not know where the store is.
"""

from collections.abc import Mapping
from typing import Final

from whimbrel.settings.model import Mqtt, Settings

MODES: Final = ("off", "os", "sync")
"""From the weakest to the strongest: each keeps what the ones before it promise."""


def mode_of(settings: Settings, zone: Mqtt) -> str:
    """What a zone of these settings promises: "sync", "os" or "off"."""
    return settings.storage.durability if zone.durability == "broker" else zone.durability


def store_mode(settings: Settings) -> str:
    """What the store has to do: there is one, with one commit at a time, so the strongest promise is everybody's."""
    zones = (settings.mqtt, *settings.zones.values())
    return max((settings.storage.durability, *(mode_of(settings, zone) for zone in zones)), key=MODES.index)


def zone_modes(settings: Settings) -> Mapping[str, str]:
    """Mode by zone; "" is that of listeners without a zone."""
    return {name: mode_of(settings, zone) for name, zone in (("", settings.mqtt), *settings.zones.items())}
