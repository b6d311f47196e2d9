"""Every hook point there is, with its types. Declarations only; nothing here runs a hook.

Two kinds. A *question* has an answer, a deadline and a default; a *notice* has no answer, comes in batches, and its
loss is counted. The life of a client, with the points where Python may join in:

    CONNECT ---- authenticate? ---- CONNACK ---- connected! ---- (publish, subscribe: authorize?) ---- disconnected!

All hooks are async functions and run on the broker's asyncio loop. What nobody registered for never leaves the data
plane. `settings.hooks.deadline_ms` (default 5 s) bounds every question and every batch of notices.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from whimbrel.alarms import Alarm
    from whimbrel.engine.records import Authenticate, Authorize, Connected, Disconnected, EnhancedAuthenticate


TEXT_MAX_BYTES: Final = 1_024


class Reason(enum.IntEnum):
    """The MQTT 5 reason codes with which a hook may refuse (MQTT 5.0, section 2.4). 3.1.1 clients get the nearest."""

    UNSPECIFIED = 0x80
    IMPLEMENTATION_SPECIFIC = 0x83
    CLIENT_ID_NOT_VALID = 0x85
    BAD_CREDENTIALS = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    BAD_AUTHENTICATION_METHOD = 0x8C
    QUOTA_EXCEEDED = 0x97


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes. `is_superuser` (authenticate only) lets the client do everything without further questions.

    `auth_data` (enhanced_authenticate only) goes with the success to the client: at most 65,535 bytes, None for none.
    """

    is_superuser: bool = False
    auth_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """No, and the reason that the client sees: for authenticate any `Reason`, for authorize 0x80, 0x83, 0x87 or 0x97.

    `text` says it in words, to an MQTT 5 client that wants them and takes packets of that size: at most 1,024 bytes of
    UTF-8 without U+0000; empty: the specification's words for the code. Raises ValueError for other texts.

    The data plane remembers a yes and a 0x87 for a while; every other refusal is asked about again.
    """

    reason: Reason = Reason.NOT_AUTHORIZED
    text: str = ""

    def __post_init__(self) -> None:
        if len(self.text.encode()) > TEXT_MAX_BYTES or "\0" in self.text:
            raise ValueError(f"text: at most {TEXT_MAX_BYTES} bytes of UTF-8 without U+0000; say it shorter")
        # A plain number is welcome; a success code would let the client in by mistake, so it is refused here.
        object.__setattr__(self, "reason", Reason(self.reason))


@dataclass(frozen=True, slots=True)
class Continue:
    """Not yet (enhanced_authenticate only): the client gets AUTH with `auth_data`, and its answer is asked about.

    At most 65,535 bytes, None for none.
    """

    auth_data: bytes | None = None


class _Ignore(enum.Enum):
    IGNORE = "IGNORE"


IGNORE: Final = _Ignore.IGNORE
"""No opinion: the next hook is asked, and after the last one the default counts."""

Answer: TypeAlias = Allow | Deny | Literal[_Ignore.IGNORE]


@dataclass(frozen=True, slots=True)
class Each:
    """An authorize answer for each topic of the question, in its order and of its length."""

    answers: Sequence[Answer]


class AuthenticateHook(Protocol):
    """Question: may this client enter?

    Asked once per CONNECT, before CONNACK. Default where every hook ignores it: `question.is_anonymous_allowed`.
    A hook that raises or misses the deadline refuses with 0x88 (server unavailable).
    """

    async def __call__(self, question: "Authenticate", /) -> Answer: ...


class EnhancedAuthenticateHook(Protocol):
    """Question: how does this authentication go on? (MQTT 5.0, section 4.12)

    Asked for a CONNECT that names a method, instead of `authenticate`, and for each AUTH that follows; later again when
    the client authenticates anew. `question.step` counts from 0, `question.exchange` names the connection: keep what an
    exchange must remember under it, bounded, because a client may go away without a word. Default where every hook
    ignores it: refuse with 0x8C. A hook that raises or misses the deadline refuses with 0x88.
    """

    async def __call__(self, question: "EnhancedAuthenticate", /) -> Answer | Continue: ...


class AuthorizeHook(Protocol):
    """Question: may this client publish to this topic, or subscribe to these filters?

    One `Answer` counts for all topics; `Each` answers them one by one. Default: allow. A hook that raises or misses
    the deadline denies with 0x83 (implementation specific error), and the next try asks again. Asked about a will, too,
    before CONNACK. Not asked for superusers.
    """

    async def __call__(self, question: "Authorize", /) -> Answer | Each: ...


class ConnectedHook(Protocol):
    """Notice: these clients have their CONNACK, oldest first."""

    async def __call__(self, batch: "Sequence[Connected]", /) -> None: ...


class DisconnectedHook(Protocol):
    """Notice: these clients, which had their CONNACK, are gone, oldest first."""

    async def __call__(self, batch: "Sequence[Disconnected]", /) -> None: ...


class AlarmActivatedHook(Protocol):
    """Notice: these alarms were raised, oldest first; those that were active before the hook came are not told."""

    async def __call__(self, batch: "Sequence[Alarm]", /) -> None: ...


class AlarmDeactivatedHook(Protocol):
    """Notice: these alarms are over, oldest first."""

    async def __call__(self, batch: "Sequence[Alarm]", /) -> None: ...


Hook: TypeAlias = (
    AuthenticateHook
    | EnhancedAuthenticateHook
    | AuthorizeHook
    | ConnectedHook
    | DisconnectedHook
    | AlarmActivatedHook
    | AlarmDeactivatedHook
)

QUESTIONS: Final = ("authenticate", "authorize", "enhanced_authenticate")
NOTICES: Final = ("connected", "disconnected", "alarm_activated", "alarm_deactivated")
POINTS: Final = QUESTIONS + NOTICES
