"""A client library in a process of its own: one line of JSON for each call, one for its answer.

For libraries of another language, and for those that cannot share our interpreter. The driver at the other end takes
the calls of `adapter.Connected` by their names and answers `{"ok": ...}` or `{"error": text}`.
"""

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.waiting import WITHIN_S
from tests.wire.clients.adapter import (
    Connected,
    Door,
    Message,
    Opening,
    door_to_json,
    message_from_json,
    message_to_json,
    opening_to_json,
)


class DrivenAdapter:
    """Owns the driver's process. `environment`: all of it."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], directory: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=directory)
        self._answers: queue.Queue[str] = queue.Queue()
        self._numbers = count(1)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put('{"error": "the driver has ended"}')

    def open(self, door: Door, version: int, opening: Opening) -> Connected:
        number = next(self._numbers)
        words = {"door": door_to_json(door), "version": version, "opening": opening_to_json(opening)}
        return _Connection(self, number, self.call("open", number, **words))

    def call(self, word: str, number: int, **arguments: Any) -> Any:
        """The driver's answer to a call of connection `number`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": word, "number": number, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._answers.get(timeout=WITHIN_S))
        if "error" in answer:
            raise AssertionError(f"{word}: {answer['error']}")
        return answer["ok"]

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)


class _Connection:
    def __init__(self, adapter: DrivenAdapter, number: int, session_present: bool) -> None:
        self._adapter = adapter
        self._number = number
        self.session_present: bool | None = session_present

    def _call(self, word: str, **arguments: Any) -> Any:
        return self._adapter.call(word, self._number, **arguments)

    def subscribe(self, topic_filter: str, qos: int, *, identifier: int = 0) -> int:
        return int(self._call("subscribe", filter=topic_filter, qos=qos, identifier=identifier))

    def publish(self, message: Message) -> None:
        self._call("publish", message=message_to_json(message))

    def repeat(self, message: Message, times: int) -> None:
        for number in range(times):
            topic = "" if number else message.topic
            self.publish(Message(topic, message.payload, message.qos, message.retain, message.properties))

    def receive(self) -> Message:
        return message_from_json(self._call("receive"))

    def close(self) -> None:
        self._call("close")

    def drop(self) -> None:
        self._call("drop")
