"""gmqtt at the other end of `driven`: calls come as lines of JSON on standard input, answers go to standard output.

A process of its own, because gmqtt installs a package `tests` that would hide ours, and because its protocol version is
one for the whole process. Knows gmqtt and the JSON of `adapter`; imports nothing of ours, so that its import path can
be gmqtt's alone.
"""

import asyncio
import json
import ssl
import sys
from typing import Any

import gmqtt
from gmqtt.storage import HeapPersistentStorage

WITHIN_S = 10
_WORDS = {
    "content_type": "content_type",
    "response_topic": "response_topic",
    "expiry_s": "message_expiry_interval",
    "topic_alias": "topic_alias",
}


class Connection:
    """One connection; its methods are the calls."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._granted: asyncio.Queue[int] = asyncio.Queue()
        self._storage = HeapPersistentStorage()
        self._is_present = False

    async def open(self, door: dict[str, Any], version: int, opening: dict[str, Any]) -> bool:
        """Connect; whether a session was present."""
        will = opening["will"] and gmqtt.Message(
            opening["will"]["topic"],
            opening["will"]["payload"].encode("latin-1"),
            opening["will"]["qos"],
            opening["will"]["retain"],
            **_to_gmqtt(opening["will"]["properties"]),
        )
        self._client = gmqtt.Client(
            opening["client_id"],
            clean_session=opening["clean"],
            will_message=will or None,
            persistent_storage=self._storage,
            session_expiry_interval=opening["session_expiry_s"],
            **({"topic_alias_maximum": opening["alias_max"]} if opening["alias_max"] else {}),
        )
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda _client, _mid, granted, _properties: self._granted.put_nowait(granted[0])
        await self._client.connect(door["host"], door["port"], ssl=_context(door), version=version)
        return self._is_present

    def _on_connect(self, _client: object, flags: int, _code: int, _properties: object) -> None:
        self._is_present = bool(flags & 1)

    def _on_message(self, _client: object, topic: str, payload: bytes, qos: int, properties: dict[str, Any]) -> None:
        octets = payload.decode("latin-1")
        got = {"topic": topic, "payload": octets, "qos": qos, "retain": bool(properties["retain"])}
        self._messages.put_nowait({**got, "properties": _from_gmqtt(properties)})

    async def subscribe(self, filter: str, qos: int, identifier: int) -> int:
        """The reason code."""
        more = {"subscription_identifier": identifier} if identifier else {}
        self._client.subscribe(filter, qos, **more)
        return await self._granted.get()

    async def publish(self, message: dict[str, Any]) -> None:
        """Publish; gmqtt forgets a message when PUBACK or PUBREC is there."""
        more = _to_gmqtt(message["properties"])
        octets = message["payload"].encode("latin-1")
        self._client.publish(message["topic"], octets, message["qos"], message["retain"], **more)
        await asyncio.sleep(0)  # Only now is it in the storage.
        await self._storage.wait_empty()

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        return await self._messages.get()

    async def close(self) -> None:
        """Leave with DISCONNECT."""
        await self._client.disconnect()

    async def drop(self) -> None:
        """Break the connection; gmqtt must not come back."""
        self._client._is_active = False
        self._client._connection._transport.abort()


def _context(door: dict[str, Any]) -> ssl.SSLContext | bool:
    if not door["ca"]:
        return False
    made = ssl.create_default_context(cafile=door["ca"])
    if door["cert"]:
        made.load_cert_chain(door["cert"], door["key"])
    return made


def _to_gmqtt(properties: dict[str, Any]) -> dict[str, Any]:
    made = {theirs: properties[ours] for ours, theirs in _WORDS.items() if properties[ours] is not None}
    if properties["correlation_data"] is not None:
        made["correlation_data"] = properties["correlation_data"].encode("latin-1")
    if properties["user"]:
        made["user_property"] = [tuple(pair) for pair in properties["user"]]
    return made


def _from_gmqtt(properties: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {ours: properties.get(theirs, [None])[0] for ours, theirs in _WORDS.items()}
    (correlation,) = properties.get("correlation_data", [None])
    made["correlation_data"] = None if correlation is None else correlation.decode("latin-1")
    made["user"] = properties.get("user_property", [])
    made["subscription_ids"] = properties.get("subscription_identifier", [])
    return made


async def answered(connections: dict[int, Connection], call: dict[str, Any]) -> dict[str, Any]:
    """The answer to one call; an error is one, too."""
    word, number = call.pop("do"), call.pop("number")
    connection = connections.setdefault(number, Connection())
    try:
        return {"ok": await asyncio.wait_for(getattr(connection, word)(**call), WITHIN_S - 1)}
    except Exception as error:  # noqa: BLE001  the other end says it
        return {"error": f"{type(error).__name__}: {error}"}


async def main() -> None:
    """Answer until standard input ends."""
    connections: dict[int, Connection] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(json.dumps(await answered(connections, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
