"""The matrix: client libraries, transports, versions; which cells there are, and why the others cannot be.

The one table behind the tests and the page docs/reference/clients.md. Knows names, not how a library is driven.
"""

from typing import Final, NamedTuple

from tests.wire.clients.adapter import VERSION_NAMES

TRANSPORTS: Final = ("tcp", "tls", "tls+cert", "ws", "wss", "unix")
VERSIONS: Final = tuple(VERSION_NAMES)

_NO_WEBSOCKET = "it knows no WebSocket"
_TOOLS: dict[str | int, str] = dict.fromkeys(("ws", "wss"), "version 2.0 of the tools knows no WebSocket")


class Library(NamedTuple):
    """A client library. `lacks`: transports and versions that it does not have, each with the reason."""

    name: str
    lacks: dict[str | int, str]


LIBRARIES: Final = (
    Library("paho-mqtt", {}),
    Library("aiomqtt", {}),
    Library(
        "gmqtt",
        {
            "ws": _NO_WEBSOCKET,
            "wss": _NO_WEBSOCKET,
            "unix": "it connects to a host and a port only",
            3: 'it always names the protocol "MQTT", which 3.1 does not',
        },
    ),
    Library("MQTT.js", {}),
    Library("mosquitto_pub, mosquitto_sub", _TOOLS),
    Library("mosquitto_rr", _TOOLS),
)


class Cell(NamedTuple):
    """One library over one transport in one version."""

    library: str
    transport: str
    version: int

    @property
    def title(self) -> str:
        """For the name of a test."""
        return f"{self.library.partition(',')[0]}-{self.transport}-{VERSION_NAMES[self.version]}"


def why_not(library: Library, transport: str, version: int) -> str:
    """Why this cell cannot be; empty where it is tested."""
    return library.lacks.get(transport) or library.lacks.get(version) or ""


CELLS: Final = tuple(
    Cell(library.name, transport, version)
    for library in LIBRARIES
    for transport in TRANSPORTS
    for version in VERSIONS
    if not why_not(library, transport, version)
)
