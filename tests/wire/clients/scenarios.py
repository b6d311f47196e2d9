"""What every cell of the matrix goes through. Each scenario is one function, its docstring the text of the page.

Knows the words of `adapter` only, so that all libraries are asked the same. What one library cannot do at all stands
in UNABLE, with the reason.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self

from tests.waiting import WITHIN_S
from tests.wire.clients.adapter import Adapter, Connected, Door, Message, Opening, Properties
from tests.wire.clients.cells import Cell
from tests.wire.clients.mosquitto_adapter import ask

OCTETS: Final = bytes(range(256))
EXPIRY_S: Final = 300
# mosquitto_sub that is ended says DISCONNECT with reason 0x04, "with will message".
LEAVES_WITH_WILL: Final = ("mosquitto_pub, mosquitto_sub", 5)
EVERYTHING: Final = Properties(
    content_type="text/plain",
    correlation_data=b"ticket-7",
    expiry_s=EXPIRY_S,
    user=(("room", "1"), ("seat", "a"), ("seat", "b")),
)


class Stage:
    """One run of a scenario: connections by their role, each left at the end unless it was dropped before."""

    def __init__(self, adapters: Mapping[str, Adapter], cell: Cell, door: Door, name: str) -> None:
        self._adapters = adapters
        self.cell = cell
        self.door = door
        self.name = name
        self._open: list[Connected] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.pop().close()

    def enter(self, role: str, *, library: str = "", **opening: Any) -> Connected:
        """A connection whose client id ends with `role`; `library` where it is not the cell's own."""
        adapter = self._adapters[library or self.cell.library]
        made = adapter.open(self.door, self.cell.version, Opening(client_id=f"{self.name}-{role}", **opening))
        self._open.append(made)
        return made

    def leave(self, connection: Connected) -> None:
        """Leave before the end."""
        self._open.remove(connection)
        connection.close()

    def drop(self, connection: Connected) -> None:
        """Break the connection."""
        self._open.remove(connection)
        connection.drop()


def messages(stage: Stage) -> None:
    """Connect, subscribe, publish and receive at QoS 0, 1 and 2."""
    publisher, subscriber = stage.enter("p"), stage.enter("s")
    assert subscriber.subscribe(f"{stage.name}/#", 2) == 2
    for qos in (0, 1, 2):
        sent = Message(f"{stage.name}/{qos}", OCTETS, qos)
        publisher.publish(sent)
        assert subscriber.receive() == sent


def retained(stage: Stage) -> None:
    """A retained message is there before its subscriber, and gone when an empty one has cleared it."""
    publisher, subscriber, late = stage.enter("p"), stage.enter("s"), stage.enter("late")
    kept = Message(f"{stage.name}/kept", b"kept", 1, retain=True)
    publisher.publish(kept)
    subscriber.subscribe(f"{stage.name}/#", 1)
    assert subscriber.receive() == kept
    publisher.publish(replace(kept, payload=b""))
    assert subscriber.receive() == replace(kept, payload=b"", retain=False)
    late.subscribe(f"{stage.name}/#", 1)
    end = Message(f"{stage.name}/end", b"end", 1)
    publisher.publish(end)
    assert late.receive() == end


def will(stage: Stage) -> None:
    """The will comes when a connection breaks, with its properties in MQTT 5, and not after DISCONNECT."""
    watcher = stage.enter("w")
    watcher.subscribe(f"{stage.name}/#", 1)
    properties = (
        Properties(content_type="text/plain", user=EVERYTHING.user) if stage.cell.version == 5 else Properties()
    )
    left, broken = (Message(f"{stage.name}/{role}", b"gone", 1, properties=properties) for role in ("left", "broken"))
    stage.leave(stage.enter("left", will=left))
    if (stage.cell.library, stage.cell.version) == LEAVES_WITH_WILL:
        assert watcher.receive() == left  # Before the other one breaks: two workers may tell in any order.
    stage.drop(stage.enter("broken", will=broken))
    assert watcher.receive() == broken


def session(stage: Stage) -> None:
    """A persistent session is resumed, and what came meanwhile is delivered, in order for each QoS."""
    kept: dict[str, Any] = {"clean": False, "session_expiry_s": EXPIRY_S}
    first = stage.enter("s", **kept)
    assert not first.session_present
    first.subscribe(f"{stage.name}/#", 2)
    stage.leave(first)
    publisher = stage.enter("p")
    sent = [Message(f"{stage.name}/{number}", b"%d" % number, qos) for number, qos in enumerate((1, 2, 1, 2))]
    for message in sent:
        publisher.publish(message)
    again = stage.enter("s", **kept)
    # CONNACK of MQTT 3.1 cannot say it.
    assert again.session_present in (None, stage.cell.version > 3)
    # Libraries hand over QoS 2 at PUBREL; the order is one of each QoS [MQTT-4.6.0-6].
    assert sorted((again.receive() for _ in sent), key=attrgetter("qos")) == sorted(sent, key=attrgetter("qos"))


def properties(stage: Stage) -> None:
    """User properties, content type, response topic, correlation data and the rest of the expiry come through."""
    asker, answerer = stage.enter("a"), stage.enter("b")
    asker.subscribe(f"{stage.name}/answer", 1)
    answerer.subscribe(f"{stage.name}/question", 1)
    asked = replace(EVERYTHING, response_topic=f"{stage.name}/answer")
    asker.publish(Message(f"{stage.name}/question", b"how much?", 1, properties=asked))
    question = answerer.receive()
    assert 0 < (question.properties.expiry_s or 0) <= EXPIRY_S
    assert replace(question.properties, expiry_s=EXPIRY_S) == asked
    answer = Properties(correlation_data=question.properties.correlation_data)
    answerer.publish(Message(question.properties.response_topic or "", b"this much", 1, properties=answer))
    assert asker.receive() == Message(f"{stage.name}/answer", b"this much", 1, properties=answer)


def identifier(stage: Stage) -> None:
    """A message names the subscription identifier."""
    publisher, subscriber = stage.enter("p"), stage.enter("s")
    subscriber.subscribe(f"{stage.name}/#", 1, identifier=268_435_455)
    publisher.publish(Message(f"{stage.name}/a", b"x", 1))
    assert subscriber.receive().properties.subscription_ids == (268_435_455,)


def alias_to_broker(stage: Stage) -> None:
    """The client sends its topic once and an alias from then on."""
    publisher, subscriber = stage.enter("p"), stage.enter("s")
    subscriber.subscribe(f"{stage.name}/#", 1)
    sent = Message(f"{stage.name}/a", b"x", 1)
    publisher.repeat(replace(sent, properties=Properties(topic_alias=3)), 3)
    assert [subscriber.receive() for _ in range(3)] == [sent] * 3


def alias_to_client(stage: Stage) -> None:
    """The broker sends a topic once and an alias from then on."""
    publisher, subscriber = stage.enter("p"), stage.enter("s", alias_max=5)
    subscriber.subscribe(f"{stage.name}/#", 1)
    sent = Message(f"{stage.name}/a", b"x", 1)
    for _ in range(3):
        publisher.publish(sent)
    received = [subscriber.receive() for _ in range(3)]
    assert [replace(message, properties=Properties()) for message in received] == [sent] * 3
    assert received[-1].properties.topic_alias is not None


def request(stage: Stage) -> None:
    """mosquitto_rr asks, paho-mqtt answers where it is told to: in MQTT 5 by response topic and correlation data."""
    answerer = stage.enter("b", library="paho-mqtt")
    answerer.subscribe(f"{stage.name}/question", 1)
    sent = Message(f"{stage.name}/question", b"how much?", 1, properties=Properties(correlation_data=b"ticket-7"))

    def answered() -> None:
        question = answerer.receive()
        topic = question.properties.response_topic or f"{stage.name}/answer"
        correlation = Properties(correlation_data=question.properties.correlation_data)
        answerer.publish(Message(topic, b"this much", 1, properties=correlation))

    with ThreadPoolExecutor(1) as thread:
        answering = thread.submit(answered)
        assert ask(stage.door, stage.cell.version, sent, f"{stage.name}/answer") == b"this much"
        answering.result(WITHIN_S)


OLD: Final[tuple[Callable[[Stage], None], ...]] = (messages, retained, will, session)
NEW: Final[tuple[Callable[[Stage], None], ...]] = (properties, identifier, alias_to_broker, alias_to_client)
SCENARIOS: Final = (*OLD, *NEW, request)
REQUESTER: Final = "mosquitto_rr"

UNABLE: Final[Mapping[tuple[str, str], str]] = {
    ("aiomqtt", "alias_to_client"): "it raises an error for a message without a topic",
    ("mosquitto_pub, mosquitto_sub", "alias_to_client"): "they end the connection at a message without a topic",
}


def scenarios_of(cell: Cell) -> tuple[Callable[[Stage], None], ...]:
    """What this cell goes through."""
    if cell.library == REQUESTER:
        return (request,)
    every = (*OLD, *NEW) if cell.version == 5 else OLD
    return tuple(scenario for scenario in every if (cell.library, scenario.__name__) not in UNABLE)
