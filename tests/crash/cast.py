"""Who takes part in a round: publishers at full load, subscribers that change their mind, sleep and come back.

Knows what each does next, by dice, and tells the model what was asked and what came. Does not know when the broker is
killed. Everybody acts when called and never waits. A retained message of no octets clears its topic.
"""

import enum
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from tests.crash.client import EXPIRY_S, Asking, ExactClient, Sending
from tests.crash.model import Held, Key, Message, Model, Receiver
from tests.crash.story import Fault, Story
from tests.raw_packets import Publication, Will

_KEY = struct.Struct("!HI")
# Octets behind the key; the large ones are sent without a copy by the broker.
FILLERS = (0, 0, 10, 60, 200, 1000, 40_000)
FILLER_WEIGHTS = (4, 4, 8, 8, 4, 2, 0.05)
# Some MiB a life, so that what the store writes behind its journal and gives back is cut off, too.
HEAVY_WEIGHTS = (4, 4, 4, 4, 4, 4, 8)
PLAIN_TOPICS = ("t/a", "t/b", "t/c/d", "t/c/e", "t/f/g/h")
GROUP_TOPICS = ("s/a", "s/b", "s/c")
RETAINED_TOPICS = tuple(f"r/{number}" for number in range(6))
FILTERS = ("w/#", "t/#", "t/+", "t/a", "t/b", "t/c/#", "t/+/d", "+/c/e", "t/f/+/h", "t/f/#", "#", "r/+", "r/3")
# Messages that are due and have not come, at which publishers pause: the queues of the sleeping stay within bounds.
BACKLOG_MAX = 6000

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True)
class Stage:
    """What all share. `now`: seconds, any origin."""

    model: Model
    story: Story
    dice: Random
    now: Clock


def payload_of(key: Key, filler: int) -> bytes:
    """Octets that name the message and show damage."""
    return _KEY.pack(*key) + bytes([key[1] & 0xFF]) * filler


def key_of(payload: bytes) -> Key:
    """The message of a payload."""
    publisher, number = _KEY.unpack_from(payload)
    return publisher, number


def name_of(payload: bytes) -> object:
    """What the story calls a message: its key, or that it clears its topic."""
    return key_of(payload) if payload else "nothing"


class Testament:
    """The wills of one client, a new one with each connection.

    A connection that was let in and ended without DISCONNECT, because of the broker even, must have published its will
    when the next one is let in. In all other cases it may or may not.
    """

    def __init__(self, stage: Stage, number: int, topic: str) -> None:
        self._stage = stage
        self._number = number
        self._topic = topic
        self._count = 0
        self._last: Message | None = None
        self._next: Message | None = None
        self._owed: Message | None = None

    def begin(self) -> Will:
        """CONNECT goes out."""
        # One that waits for CONNACK still may have gone unseen, but nothing takes its will from the one before it.
        self._owed = self._owed or self._last
        self._last = None
        key = (self._number, self._count)
        self._count += 1
        self._next = Message(key, self._topic, 2, payload_of(key, 10), retain=False, sent_at=0, wanted_by=())
        self._stage.model.publishing(self._next)
        return Will(self._topic, self._next.payload, qos=2)

    def connected(self) -> None:
        """CONNACK came."""
        if self._owed is not None:
            self._stage.model.published(self._owed)
        self._owed, self._last = None, self._next

    def withdraw(self) -> None:
        """DISCONNECT goes out."""
        self._last = None


class Actor:
    """One client with a session that lasts. `is_awake`: it wants a connection."""

    # How likely it comes back at once when it leaves, and does not wait for the end of the old connection.
    stays = 0.3

    def __init__(self, stage: Stage, name: str, *, level: int, testament: Testament | None = None) -> None:
        self.stage = stage
        self.name = name
        self.client = ExactClient(name, self, stage.story, level=level)
        self.is_awake = True
        self.is_calm = False
        self.receiver = stage.model.receiver(name)
        self._testament = testament
        self._address = ("", 0)
        self._has_session = False
        self._has_tried = False
        self._may_be_present = False
        self._nap_until_s = 0.0
        self._next_nap_s = stage.now() + self._pause(1.0)

    # --- what the round calls ------------------------------------------------------------------------------------

    def connect(self, address: tuple[str, int]) -> None:
        """The broker is there."""
        # CONNECT may have done its work though CONNACK never came.
        self._may_be_present, self._has_tried = self._has_tried, True
        self._address = address
        will = self._testament.begin() if self._testament else None
        self.client.connect(address, clean=self._is_clean(), expiry_s=self._expiry_s(), will=will)

    def act(self) -> None:
        """Do what comes next."""
        if not self.is_calm:
            self._doze()
        if self.client.is_open:
            self.play()

    def play(self) -> None:
        """What this one does while it is connected."""

    def calm(self) -> None:
        """Finish what has begun, and begin nothing."""
        self.is_calm, self.is_awake, self.client.is_lazy = True, True, False
        self.client.answer()

    @property
    def is_done(self) -> bool:
        """Whether nothing that it began is open."""
        return self.client.is_open and not self.client.in_flight and not self.client.is_asking

    # --- what the client calls -----------------------------------------------------------------------------------

    def on_connected(self, is_present: bool) -> None:
        if self._has_session and not is_present:
            raise Fault(f"the session of {self.name} is gone", self.name)
        if is_present and not self._may_be_present:
            raise Fault(f"{self.name} was given a session that there is not", self.name)
        self._has_session = True
        if self._testament:
            self._testament.connected()

    def name_of(self, payload: bytes) -> object:
        return name_of(payload)

    def on_published(self, token: object) -> None:
        assert isinstance(token, Message)
        self.stage.model.published(token)

    def on_asked(self, token: object) -> None:
        raise AssertionError(f"{self.name} asked for nothing: {token}")

    def on_message(self, publication: Publication) -> None:
        if publication.retain or not publication.payload:
            return  # The state of a topic; compared when all is quiet.
        key = key_of(publication.payload)
        if publication.payload != payload_of(key, len(publication.payload) - _KEY.size):
            raise Fault(f"{self.name} got damaged octets as {key}", self.name, key)
        self.stage.model.received(self.receiver, key, publication.topic, publication.qos)

    # --- sleep ---------------------------------------------------------------------------------------------------

    def _is_clean(self) -> bool:
        return False

    def _expiry_s(self) -> int:
        return EXPIRY_S

    def _doze(self) -> None:
        now_s = self.stage.now()
        if not self.is_awake and now_s >= self._nap_until_s:
            self.is_awake, self._next_nap_s = True, now_s + self._pause(1.0)
        elif self.is_awake and now_s >= self._next_nap_s and self.client.is_open:
            self._nap_until_s = now_s + self._pause(0.5)
            self._leave()

    def _leave(self) -> None:
        dice = self.stage.dice
        self.is_awake = dice.random() < self.stays
        self._next_nap_s = self.stage.now() + self._pause(1.0)
        if self.is_awake and dice.random() < 0.5:
            return self.connect(self._address)
        is_told = dice.random() < 0.5
        if self._testament and is_told:
            self._testament.withdraw()
        return self.client.leave(is_told=is_told)

    def _pause(self, mean_s: float) -> float:
        return self.stage.dice.expovariate(1 / mean_s)


@dataclass(frozen=True)
class Repertoire:
    """What a publisher sends: topics, those of them whose messages are retained, how much at once, of which sizes."""

    topics: Sequence[str]
    retained: Sequence[str]
    window: int
    filler_weights: Sequence[float] = FILLER_WEIGHTS


class Publisher(Actor):
    """Publishes at QoS 1 and 2 as fast as it is acknowledged. Loses its connection at times, and is back at once."""

    stays = 1.0

    def __init__(self, stage: Stage, number: int, repertoire: Repertoire) -> None:
        super().__init__(stage, f"pub{number}", level=stage.dice.choice((4, 5)))
        self.number = number
        self._repertoire = repertoire
        self._sent = 0

    def play(self) -> None:
        if self.is_calm:
            return
        room = self._repertoire.window - self.client.in_flight
        if room > 0 and self.stage.model.due() < BACKLOG_MAX:
            for _ in range(room):
                self._publish_any()

    def _publish_any(self) -> Message:
        dice = self.stage.dice
        retain = bool(self._repertoire.retained) and dice.random() < 0.15
        if not retain:
            return self.publish(dice.choice(self._repertoire.topics), qos=dice.choice((1, 2)))
        place = dice.randrange(len(self._repertoire.retained))
        # One QoS a topic: a repetition at QoS 1 may come behind what came at QoS 2 before it, and then it is the state.
        return self.publish(
            self._repertoire.retained[place], qos=1 + place % 2, retain=True, is_clearing=dice.random() < 0.2
        )

    def publish(self, topic: str, *, qos: int, retain: bool = False, is_clearing: bool = False) -> Message:
        """Send one."""
        key = (self.number, self._sent)
        self._sent += 1
        (filler,) = self.stage.dice.choices(FILLERS, self._repertoire.filler_weights)
        payload = b"" if is_clearing else payload_of(key, filler)
        message = Message(key=key, topic=topic, qos=qos, payload=payload, retain=retain, sent_at=0, wanted_by=())
        self.stage.model.publishing(message)
        self.client.publish(Sending(message, topic, payload, qos, retain))
        return message


class Subscriber(Actor):
    """Subscribes and unsubscribes, is lazy at times, sleeps at times."""

    def __init__(self, stage: Stage, name: str, testament: Testament | None = None) -> None:
        super().__init__(stage, name, level=stage.dice.choice((4, 5)), testament=testament)
        self._qos = {one: stage.dice.choice((1, 2)) for one in FILTERS}
        self._held: dict[str, Held] = {}
        self._next_change_s = 0.0

    def play(self) -> None:
        now_s = self.stage.now()
        if self.is_calm or now_s < self._next_change_s or self.client.is_asking:
            return
        self._next_change_s = now_s + self._pause(0.15)
        self.client.is_lazy = self.stage.dice.random() < 0.3
        self.client.answer()
        self._change_mind()

    def on_asked(self, token: object) -> None:
        assert isinstance(token, Held)
        if token.certain_until is None:
            self.stage.model.subscribed(token)
        else:
            self.stage.model.unsubscribed(token)

    def _change_mind(self) -> None:
        one = self.stage.dice.choice(FILTERS)
        if one not in self._held:
            self._subscribe(one, self._qos[one])
        elif len(self._held) > 2:
            self._unsubscribe(one)

    def _subscribe(self, topic_filter: str, qos: int) -> None:
        held = self.stage.model.subscribing(self.receiver, topic_filter)
        self._held[topic_filter] = held
        self.client.ask(Asking(held, topic_filter, qos))

    def _unsubscribe(self, topic_filter: str) -> None:
        held = self._held.pop(topic_filter)
        self.stage.model.unsubscribing(held)
        self.client.ask(Asking(held, topic_filter, None))


class Farewell(enum.Enum):
    """How a client gets rid of its session. At MQTT 3.1.1 a clean session ends with its connection."""

    ANEW = "begin anew"
    WITHOUT_EXPIRY = "resume, and let it end with the connection"


class Discarder(Subscriber):
    """A subscriber that gets rid of its session at times, and goes on with a new one."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self._farewell: Farewell | None = None
        self._is_passing = False

    def act(self) -> None:
        if self._is_passing:
            self._pass()
        super().act()

    def play(self) -> None:
        if self._farewell is None and not self._is_passing:
            super().play()

    @property
    def is_done(self) -> bool:
        return super().is_done and self._farewell is None and not self._is_passing

    def on_message(self, publication: Publication) -> None:
        if not self._is_passing:  # What an ended session still had.
            super().on_message(publication)

    def on_connected(self, is_present: bool) -> None:
        if self._farewell is Farewell.ANEW and is_present:
            raise Fault(f"{self.name} began anew and was given its old session", self.name)
        if self._farewell is None:
            super().on_connected(is_present)
            return
        self._is_passing = self._farewell is Farewell.WITHOUT_EXPIRY or self.client.level == 4
        self._has_session = self._has_tried = not self._is_passing
        self._farewell = None

    def _pass(self) -> None:
        """Leave the session that ends with its connection, which may have ended."""
        self.client.leave(is_told=self.stage.dice.random() < 0.5)
        self._is_passing = False

    def _doze(self) -> None:
        was_awake = self.is_awake
        super()._doze()
        if self.is_awake and not was_awake and self.stage.dice.random() < 0.5:
            self._discard()

    def _discard(self) -> None:
        self._farewell = self.stage.dice.choice(tuple(Farewell)) if self.client.level == 5 else Farewell.ANEW
        self.stage.model.end(self.receiver)
        self.receiver = self.stage.model.receiver(self.name)
        self._held.clear()
        self.client.forget()

    def _is_clean(self) -> bool:
        return self._farewell is Farewell.ANEW

    def _expiry_s(self) -> int:
        return 0 if self._farewell is Farewell.WITHOUT_EXPIRY else EXPIRY_S


class Member(Subscriber):
    """A member of a group; the first one stays one. What a member gets counts for the group."""

    def __init__(self, stage: Stage, name: str, group: Receiver, *, is_first: bool) -> None:
        super().__init__(stage, name)
        self.group = group
        self._stays_member = is_first

    def on_message(self, publication: Publication) -> None:
        mine, self.receiver = self.receiver, self.group
        super().on_message(publication)
        self.receiver = mine

    def _change_mind(self) -> None:
        whole = f"$share/{self.group.name}/s/#"
        if whole not in self._held:
            mine, self.receiver = self.receiver, self.group
            self._subscribe(whole, 2)
            self.receiver = mine
        elif not self._stays_member and self.stage.dice.random() < 0.3:
            self._unsubscribe(whole)
