"""mosquitto_sub, mosquitto_pub and mosquitto_rr in the words of the matrix: a process for each connection.

mosquitto_sub connects in order to subscribe, so a connection begins with its subscription, or with a will.
"""

import json
import queue
import re
import shutil
import signal
import subprocess
import threading
from typing import Any, Final

import pytest

from tests.waiting import WITHIN_S
from tests.wire.clients.adapter import Connected, Door, Message, Opening, Properties

_VERSIONS: Final = {3: "31", 4: "311", 5: "5"}
_WORDS: Final = {
    "content_type": "content-type",
    "response_topic": "response-topic",
    "correlation_data": "correlation-data",
    "expiry_s": "message-expiry-interval",
    "topic_alias": "topic-alias",
}
_SUBSCRIBED: Final = re.compile(r"Subscribed \(mid: 1\): (\d+)")
_RECEIVED: Final = re.compile(r"message (\S*) (\{.*)")
# Behind the mark the payload in hexadecimal and everything else as JSON; what -d says stands between.
_FORMAT: Final = "message %x %j"


class MosquittoAdapter:
    """Remembers the filters of persistent sessions, which have to be said again."""

    def __init__(self) -> None:
        self._filters: dict[str, tuple[str, int]] = {}

    def open(self, door: Door, version: int, opening: Opening) -> Connected:
        return _Connection(door, version, opening, self._filters)

    def end(self) -> None:
        pass


class _Connection:
    # The tools do not tell it.
    session_present: bool | None = None

    def __init__(self, door: Door, version: int, opening: Opening, filters: dict[str, tuple[str, int]]) -> None:
        self._where = [*_where(door), "-V", _VERSIONS[version]]
        self._opening = opening
        self._filters = filters
        self._is_new = version == 5
        self._process: subprocess.Popen[str] | None = None
        # A resumed session's messages come before SUBACK.
        self._found: dict[re.Pattern[str], queue.Queue[re.Match[str]]] = {
            pattern: queue.Queue() for pattern in (_SUBSCRIBED, _RECEIVED)
        }
        if not opening.clean and opening.client_id in filters:
            self.subscribe(*filters[opening.client_id])
        elif opening.will is not None:
            self.subscribe(f"{opening.client_id}/nothing", 0)

    def subscribe(self, topic_filter: str, qos: int, *, identifier: int = 0) -> int:
        assert self._process is None, "one subscription for each connection"
        self._filters[self._opening.client_id] = topic_filter, qos
        words = [_tool("mosquitto_sub"), *self._where, *self._session(), *_will(self._opening.will, self._is_new)]
        words += ["-t", topic_filter, "-q", str(qos), "-F", _FORMAT, "-d"]
        words += ["-D", "subscribe", "subscription-identifier", str(identifier)] if identifier else []
        # It writes to a pipe in blocks, and what -d says would wait for the first message.
        self._process = subprocess.Popen([_tool("stdbuf"), "-oL", *words], stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        return int(self._found[_SUBSCRIBED].get(timeout=WITHIN_S)[1])

    def _session(self) -> list[str]:
        opening = self._opening
        words = ["-i", opening.client_id, *(() if opening.clean else ("-c",))]
        if self._is_new and not opening.clean:
            words += ["-x", str(opening.session_expiry_s)]
        return words + (["-D", "connect", "topic-alias-maximum", str(opening.alias_max)] if opening.alias_max else [])

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._sort(line)

    def _sort(self, line: str) -> None:
        for pattern, found in self._found.items():
            match = pattern.match(line)
            if match:
                found.put(match)

    def publish(self, message: Message) -> None:
        self._publish(message)

    def repeat(self, message: Message, times: int) -> None:
        self._publish(message, "--repeat", str(times))

    def _publish(self, message: Message, *more: str) -> None:
        words = [_tool("mosquitto_pub"), *self._where, "-i", f"{self._opening.client_id}-pub", "-t", message.topic]
        words += ["-q", str(message.qos), *(("-r",) if message.retain else ()), *more]
        words += _properties("publish", message.properties)
        words += ["-s"] if message.payload and not more else ["-m", message.payload.decode()] if more else ["-n"]
        subprocess.run(words, input=message.payload, check=True, timeout=WITHIN_S)

    def receive(self) -> Message:
        found = self._found[_RECEIVED].get(timeout=WITHIN_S)
        said = json.loads(found[2], object_pairs_hook=_pairs)
        properties = said.get("properties", {})
        ours = {ours: properties.get(theirs) for ours, theirs in _WORDS.items()}
        correlation = ours.pop("correlation_data")
        identifiers = properties.get("subscription-identifier", [])
        return Message(
            said["topic"],
            bytes.fromhex(found[1]),
            said["qos"],
            bool(said["retain"]),
            Properties(
                **ours,
                correlation_data=None if correlation is None else correlation.encode(),
                user=tuple(properties.get("user-properties", ())),
                # One number, or several.
                subscription_ids=tuple(identifiers if isinstance(identifiers, list) else [identifiers]),
            ),
        )

    def close(self) -> None:
        self._end(signal.SIGTERM)

    def drop(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)


def ask(door: Door, version: int, question: Message, answer_topic: str) -> bytes:
    """What mosquitto_rr prints: the payload of the answer."""
    words = [_tool("mosquitto_rr"), *_where(door), "-V", _VERSIONS[version], "-t", question.topic, "-e", answer_topic]
    words += ["-q", str(question.qos), "-s", "-N", "-W", str(int(WITHIN_S))]
    if version == 5:
        words += _properties("publish", question.properties)
    return subprocess.run(words, input=question.payload, check=True, timeout=WITHIN_S, stdout=subprocess.PIPE).stdout


def _where(door: Door) -> list[str]:
    words = ["--unix", door.place] if door.place else ["-h", door.host, "-p", str(door.port)]
    words += ["--cafile", str(door.ca)] if door.ca else []
    return words + (["--cert", str(door.pair.cert), "--key", str(door.pair.key)] if door.pair else [])


def _will(will: Message | None, is_new: bool) -> list[str]:
    if will is None:
        return []
    words = ["--will-topic", will.topic, "--will-payload", will.payload.decode(), "--will-qos", str(will.qos)]
    return words + (["--will-retain"] if will.retain else []) + (_properties("will", will.properties) if is_new else [])


def _properties(packet: str, properties: Properties) -> list[str]:
    words = []
    for ours, theirs in _WORDS.items():
        value = getattr(properties, ours)
        if value is not None:
            words += ["-D", packet, theirs, value.decode() if isinstance(value, bytes) else str(value)]
    for key, value in properties.user:
        words += ["-D", packet, "user-property", key, value]
    return words


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    """A JSON object; user properties may have a key twice and are pairs of texts."""
    keys = [key for key, _ in pairs]
    is_user = len(keys) != len(set(keys))
    return pairs if is_user else dict(pairs)


def _tool(word: str) -> str:
    found = shutil.which(word)
    if found is None:
        pytest.fail(f"{word} is missing; `make test` installs what the tests need, or says which package to install")
    return found
