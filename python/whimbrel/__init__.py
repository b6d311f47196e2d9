"""Whimbrel: an MQTT broker that is a Python package.

Knows the public names and where they live; loads each on first use, so that `import whimbrel.settings` (and with it
`whimbrel check`) works without the binding and starts no event loop. Users import from here and from nowhere deeper,
except `whimbrel.settings` and `whimbrel.testing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel.alarms import Alarm as Alarm
    from whimbrel.embed import Broker as Broker
    from whimbrel.engine.records import ClientRecord as ClientRecord
    from whimbrel.engine.records import Message as Message
    from whimbrel.engine.tap import Tap as Tap
    from whimbrel.errors import WhimbrelError as WhimbrelError
    from whimbrel.hooks.points import IGNORE as IGNORE
    from whimbrel.hooks.points import Allow as Allow
    from whimbrel.hooks.points import Continue as Continue
    from whimbrel.hooks.points import Deny as Deny
    from whimbrel.hooks.points import Each as Each
    from whimbrel.hooks.points import Reason as Reason
    from whimbrel.hooks.registry import Registry as Hooks

    __version__: str

_HOME_OF = {
    "Alarm": ("whimbrel.alarms", "Alarm"),
    "Allow": ("whimbrel.hooks.points", "Allow"),
    "Broker": ("whimbrel.embed", "Broker"),
    "ClientRecord": ("whimbrel.engine.records", "ClientRecord"),
    "Continue": ("whimbrel.hooks.points", "Continue"),
    "Deny": ("whimbrel.hooks.points", "Deny"),
    "Each": ("whimbrel.hooks.points", "Each"),
    "Hooks": ("whimbrel.hooks.registry", "Registry"),
    "IGNORE": ("whimbrel.hooks.points", "IGNORE"),
    "Message": ("whimbrel.engine.records", "Message"),
    "Reason": ("whimbrel.hooks.points", "Reason"),
    "Tap": ("whimbrel.engine.tap", "Tap"),
    "WhimbrelError": ("whimbrel.errors", "WhimbrelError"),
    "__version__": ("whimbrel.engine.records", "__version__"),
}

__all__ = [
    "IGNORE",
    "Alarm",
    "Allow",
    "Broker",
    "ClientRecord",
    "Continue",
    "Deny",
    "Each",
    "Hooks",
    "Message",
    "Reason",
    "Tap",
    "WhimbrelError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562) and keep it."""
    try:
        module, attribute = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'whimbrel' has no attribute {name!r}") from None
    found: object = getattr(import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
