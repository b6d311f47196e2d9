"""What the matrix asks of every client library: open, subscribe, publish, receive, and leave politely or not.

Knows MQTT's words, not one library. An adapter is one file that says these words in one library's way; messages are
compared as values, so that every library is held to the same answer.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.wire.authority import Pair

VERSION_NAMES = {3: "3.1", 4: "3.1.1", 5: "5.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One listener. `place` is the path of a Unix socket; `ca` and `pair` are set where TLS needs them."""

    transport: str
    host: str = ""
    port: int = 0
    place: str = ""
    ca: Path | None = None
    pair: Pair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """MQTT 5 properties of a message; `subscription_ids` only of one that was received."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    expiry_s: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    topic_alias: int | None = None
    subscription_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message, sent or received."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a CONNECT says. `session_expiry_s` and `alias_max` only in MQTT 5."""

    client_id: str
    clean: bool = True
    session_expiry_s: int = 0
    will: Message | None = None
    alias_max: int = 0


class Connected(Protocol):
    """One connection. Every call waits for the broker's answer, with a bound, and raises where none comes."""

    @property
    def session_present(self) -> bool | None:
        """What CONNACK said; None where the library does not tell."""

    def subscribe(self, topic_filter: str, qos: int, *, identifier: int = 0) -> int:
        """Subscribe, once per connection; returns SUBACK's reason code."""

    def publish(self, message: Message) -> None:
        """Publish and wait for the end of the exchange."""

    def repeat(self, message: Message, times: int) -> None:
        """Publish a message with a topic alias several times, after the first by its alias alone."""

    def receive(self) -> Message:
        """The next message."""

    def close(self) -> None:
        """Leave with DISCONNECT."""

    def drop(self) -> None:
        """Let the connection die without DISCONNECT."""


class Adapter(Protocol):
    """One client library."""

    def open(self, door: Door, version: int, opening: Opening) -> Connected:
        """Connect; `version` is MQTT's protocol level."""

    def end(self) -> None:
        """Give back what the library holds: a thread, a process."""


def door_to_json(door: Door) -> dict[str, Any]:
    """A door for a driver in another process."""
    files = {"ca": door.ca, "cert": door.pair and door.pair.cert, "key": door.pair and door.pair.key}
    texts = {word: str(path) if path else "" for word, path in files.items()}
    return {"transport": door.transport, "host": door.host, "port": door.port, "place": door.place} | texts


def opening_to_json(opening: Opening) -> dict[str, Any]:
    """An opening for a driver in another process."""
    return asdict(opening) | {"will": opening.will and message_to_json(opening.will)}


def message_to_json(message: Message) -> dict[str, Any]:
    """A message for a driver in another process; octets are the letters of Latin-1."""
    made = asdict(message) | {"payload": message.payload.decode("latin-1")}
    correlation = message.properties.correlation_data
    made["properties"]["correlation_data"] = None if correlation is None else correlation.decode("latin-1")
    return made


def message_from_json(made: dict[str, Any]) -> Message:
    """What `message_to_json` made, here or in a driver."""
    properties = dict(made["properties"])
    correlation = properties.pop("correlation_data", None)
    return Message(
        topic=made["topic"],
        payload=made["payload"].encode("latin-1"),
        qos=made["qos"],
        retain=made["retain"],
        properties=Properties(
            correlation_data=None if correlation is None else correlation.encode("latin-1"),
            user=tuple((key, value) for key, value in properties.pop("user", ())),
            subscription_ids=tuple(properties.pop("subscription_ids", ())),
            **properties,
        ),
    )
