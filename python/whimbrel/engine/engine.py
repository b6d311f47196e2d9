"""One running data plane on one asyncio loop: events in, calls and answers out.

Knows the binding's calls and events, futures for replies, and the open taps. It must not know what a hook is: whoever
attends to it gets questions and notices in batches. Every method belongs to the loop that started the engine; several
engines may run in one process, each on its own loop or on the same one.

Cost: one wake-up of the loop per batch of events, one dictionary look-up per event; no task is made here.
"""

import asyncio
import errno
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from whimbrel.engine.memory import Memory
from whimbrel.engine.options import ListenerOptions, Options
from whimbrel.engine.rows import Rows
from whimbrel.engine.tap import Tap
from whimbrel.errors import CertificateFailure, EngineError, ListenFailure, StartError, StorageFailure, WhimbrelError

if TYPE_CHECKING:
    from whimbrel._core import Kicked, LogLine, Published, Refused, Stopped, StoreTurned, TapBatch
    from whimbrel.engine.records import (
        Audited,
        Authenticate,
        Authorize,
        ClientPage,
        Connected,
        DataPlane,
        Disconnected,
        EnhancedAuthenticate,
    )

# Replies awaited at once; further callers wait for a free slot, in order.
REQUESTS_MAX = 1_024
# A worker replies in its next turn, so a reply this late means that the data plane is in trouble.
REPLY_WAIT_S = 10.0
# How long after its grace the data plane may take to say that it has stopped.
STOP_SLACK_S = 1.0
TAP_CAPACITY = 1_000
_OPEN_FILES = "; raise the limit of open files: ulimit -n, or LimitNOFILE= in the systemd unit"
_RESOURCES = {errno.EMFILE: _OPEN_FILES, errno.ENFILE: "; raise fs.file-max with sysctl"}
_POINTS = ("authenticate", "enhanced_authenticate", "authorize", "connected", "disconnected")

_log = logging.getLogger("whimbrel.engine")
_plane_log = logging.getLogger("whimbrel.plane")


class Attendant(Protocol):
    """Who takes the questions and notices, one batch per drain and kind. Its methods must return at once."""

    def authenticate(self, batch: "list[Authenticate]") -> None: ...
    def enhanced_authenticate(self, batch: "list[EnhancedAuthenticate]") -> None: ...
    def authorize(self, batch: "list[Authorize]") -> None: ...
    def connected(self, batch: "list[Connected]") -> None: ...
    def disconnected(self, batch: "list[Disconnected]") -> None: ...


class Engine:
    """The typed face of one data plane. Make it with `Engine.start` inside a running loop."""

    def __init__(self, plane: "DataPlane", loop: asyncio.AbstractEventLoop) -> None:
        """Take over a running `plane`; from now on only this object drains it."""
        self._plane = plane
        self._loop = loop
        self._tickets = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._slots = asyncio.Semaphore(REQUESTS_MAX)
        self._taps: dict[int, Tap] = {}
        self._batches: dict[str, list[Any]] = {point: [] for point in _POINTS}
        self._attendant: Attendant | None = None
        self._on_store: Callable[[StoreTurned], None] | None = None
        self.rows = Rows(plane, loop)
        self._reactions = _Reactions(
            {
                "Audited": self._on_reply,
                "Authenticate": self._batches["authenticate"].append,
                "Authorize": self._batches["authorize"].append,
                "ClientPage": self._on_reply,
                "Connected": self._batches["connected"].append,
                "Disconnected": self._batches["disconnected"].append,
                "EnhancedAuthenticate": self._batches["enhanced_authenticate"].append,
                "Kicked": self._on_reply,
                "LogLine": _on_log_line,
                "Published": self._on_reply,
                "Refused": self._on_refused,
                "RowsChanged": self.rows.on_changed,
                "Stopped": self._on_stopped,
                "StoreTurned": self._on_store_turned,
                "TapBatch": self._on_rows,
            }
        )
        self._counts = dict.fromkeys(
            (
                "whimbrel.engine.batches",
                "whimbrel.engine.events",
                "whimbrel.engine.requests",
                "whimbrel.engine.requests.late",
            ),
            0,
        )
        self._memory = Memory(lambda: plane.counters().get("whimbrel.memory.released", 0))
        self._memory.start(loop)
        self._stopped: asyncio.Future[None] = loop.create_future()
        loop.add_reader(plane.wake_fd, self._drain)

    @classmethod
    def start(cls, options: Options, *, open_plane: "Callable[[Options], DataPlane] | None" = None) -> "Engine":
        """Bind the listeners, start the workers and attach to the running loop.

        Blocks for the binds and the store only. Raises ListenFailure where a listener cannot be bound, StartError where
        the system has no room for the workers, CertificateFailure where a listener's certificates cannot be used,
        StorageFailure where the store cannot be used, ValueError for an option out of range. `open_plane` is the
        binding's `DataPlane` unless a test brings its own.
        """
        open_plane = open_plane or _open_plane
        try:
            plane = open_plane(options)
        except OSError as error:
            raise _start_failure(error, options) from error
        except ValueError as error:
            raise _certificate_failure(error) from error
        except Exception as error:
            raise _storage_failure(error) from error
        return cls(plane, asyncio.get_running_loop())

    @property
    def stopped(self) -> "asyncio.Future[None]":
        """Done when every worker has ended, asked for or not. Shield it when you wait for it."""
        return self._stopped

    def open(self) -> None:
        """Let clients in. Until then they wait before the door, so that whoever attends misses none of them."""
        self._plane.open()

    def listeners(self) -> list[tuple[str, str, str]]:
        """(kind, name, bound address) of every listener, with the real port."""
        return self._plane.listeners()

    def metrics(self) -> dict[str, int]:
        """Every metric of the data plane by its name, and this engine's own as `whimbrel.engine.*`."""
        own = {"whimbrel.engine.requests.waiting": len(self._replies), "whimbrel.engine.taps": len(self._taps)}
        own["whimbrel.memory.given_back"] = self._memory.times
        return {**self._plane.metrics(), **self._counts, **self.rows.counters(), **own}

    def stats(self) -> dict[str, int]:
        """Every statistic of the data plane by its name: how many there are, and the most there were."""
        return self._plane.stats()

    def counters(self) -> dict[str, int]:
        """Metrics and statistics together."""
        return {**self.metrics(), **self.stats()}

    def is_watched(self, prefix: str) -> bool:
        """Whether somebody subscribes to topics under `prefix` ("a/b", for topics "a/b/...")."""
        return self._plane.is_watched(prefix)

    def attend(self, attendant: "Attendant") -> None:
        """From now on `attendant` gets the questions and notices. Until then the data plane answers for itself."""
        self._attendant = attendant

    def watch_store(self, turned: "Callable[[StoreTurned], None]") -> None:
        """Call `turned` whenever the store takes in nothing any more, or takes in again. It must return at once."""
        self._on_store = turned

    def set_interest(
        self,
        *,
        authenticate: bool,
        authorize: bool,
        connected: bool,
        disconnected: bool,
        enhanced_authenticate: bool = False,
    ) -> None:
        """Declare which questions and notices may leave the data plane from now on."""
        self._plane.set_interest(
            authenticate=authenticate,
            authorize=authorize,
            connected=connected,
            disconnected=disconnected,
            enhanced_authenticate=enhanced_authenticate,
        )

    def reload(self, options: Options) -> None:
        """The zones of `options`, in the order of the start, for connections from now on; its question deadline."""
        self._plane.reload(options.zones, options.question_deadline_ms)

    def answer_authenticate(
        self,
        question: "Authenticate",
        reason_code: int,
        *,
        is_superuser: bool = False,
        text: str = "",
        is_anonymous: bool = False,
    ) -> None:
        """Let the client in (0) or refuse it with a CONNACK reason code. A late answer is ignored.

        `text` is the reason in words for an MQTT 5 client; so for the other answers. `is_anonymous`: nobody knows the
        client, and its listener lets such clients in.
        """
        self._plane.answer_authenticate(question.ticket, reason_code, is_superuser, text, is_anonymous)

    def answer_enhanced(
        self,
        question: "EnhancedAuthenticate",
        reason_code: int,
        *,
        auth_data: bytes | None = None,
        is_superuser: bool = False,
        text: str = "",
    ) -> None:
        """Let the client in (0), go on with the exchange (0x18), or refuse. A late answer is ignored.

        Raises ValueError for more than 65,535 bytes of `auth_data`.
        """
        self._plane.answer_enhanced(question.ticket, reason_code, auth_data, is_superuser, text)

    def answer_authorize(
        self, question: "Authorize", reason_codes: Sequence[int], *, texts: Sequence[str] = ()
    ) -> None:
        """Answer with one reason code per topic of the question; 0 allows. A late answer is ignored."""
        self._plane.answer_authorize(question.ticket, reason_codes, texts)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Route a message from inside; returns how many sessions and taps took it.

        Raises ValueError for an invalid topic or QoS, EngineError where the data plane is stopped or in trouble.
        """
        properties = list(user_properties)
        reply: Published = await self._request(
            lambda ticket: self._plane.publish(
                ticket, topic, payload, qos=qos, retain=retain, user_properties=properties
            )
        )
        return reply.receivers

    async def clients_page(self, *, cursor: int = 0, limit: int = 1_000) -> "ClientPage":
        """One page of sessions from `cursor` (0: the first), `limit` 1 .. 10,000. Raises like `publish`."""
        page: ClientPage = await self._request(lambda ticket: self._plane.request_clients(ticket, cursor, limit))
        return page

    async def congested_page(self, *, cursor: int, limit: int, at_least: tuple[int, int]) -> "ClientPage":
        """As `clients_page`, of connected clients with `at_least` so many unsent bytes, or messages that wait.

        A page may be empty and have a next one. Raises like `publish`.
        """
        page: ClientPage = await self._request(
            lambda ticket: self._plane.request_congested(ticket, cursor, *at_least, limit)
        )
        return page

    async def audit(self) -> "Audited":
        """What became of every delivery; costs each worker a look at all of its sessions. Raises EngineError."""
        found: Audited = await self._request(self._plane.request_audit)
        return found

    async def kick(self, client_id: str) -> bool:
        """End a client's connection and session; whether there was one. Raises EngineError."""
        reply: Kicked = await self._request(lambda ticket: self._plane.kick(ticket, client_id))
        return reply.found

    def reload_certificates(self) -> int:
        """Read the certificates of all TLS listeners again, for new connections; returns how many listeners have some.

        Blocks for the files; any thread may call it. Raises CertificateFailure; then all stay as they are.
        """
        try:
            return self._plane.reload_certificates()
        except ValueError as error:
            raise _certificate_failure(error) from error

    def backup(self, path: Path) -> None:
        """Copy what the store has committed to `path`, which must not exist; clients are served meanwhile.

        Blocks for the disk; any thread may call it. Raises StorageFailure.
        """
        try:
            self._plane.backup(str(path))
        except Exception as error:
            raise _storage_failure(error) from error

    def open_tap(self, *filters: str, capacity: int = TAP_CAPACITY) -> Tap:
        """Subscribe Python to `filters`; in force when this returns. Raises ValueError, EngineError."""
        self._check_running()
        tap = Tap(self._plane.open_tap(filters, capacity), capacity, self._close_tap)
        self._taps[tap.number] = tap
        return tap

    async def stop(self, *, grace_ms: int = 3_000) -> None:
        """Say goodbye to the clients, flush for at most `grace_ms`, end the workers. A second call just waits.

        Raises EngineError where the data plane does not end in time; its threads are then left behind.
        """
        self._plane.stop(grace_ms)
        try:
            async with asyncio.timeout(grace_ms / 1_000 + STOP_SLACK_S):
                await asyncio.shield(self._stopped)
        except TimeoutError:
            self._finish()
            raise EngineError(f"the data plane did not stop within {grace_ms} ms of grace") from None
        self._plane.join()

    async def _request(self, post: Callable[[int], None]) -> Any:
        async with self._slots:
            self._check_running()
            ticket = next(self._tickets)
            reply = self._replies[ticket] = self._loop.create_future()
            try:
                post(ticket)
                self._counts["whimbrel.engine.requests"] += 1
                async with asyncio.timeout(REPLY_WAIT_S):
                    return await reply
            except TimeoutError:
                self._counts["whimbrel.engine.requests.late"] += 1
                raise EngineError(f"the data plane did not reply within {REPLY_WAIT_S:g} s") from None
            finally:
                self._replies.pop(ticket, None)

    def _check_running(self) -> None:
        if self._stopped.done():
            raise EngineError("the broker has stopped")

    def _close_tap(self, tap: Tap) -> None:
        if self._taps.pop(tap.number, None) is not None:
            self._plane.close_tap(tap.number)

    def _drain(self) -> None:
        events = self._plane.drain()
        self._counts["whimbrel.engine.batches"] += 1
        self._counts["whimbrel.engine.events"] += len(events)
        reactions = self._reactions
        for event in events:
            try:
                reactions[type(event)](event)
            except Exception:  # noqa: BLE001  The rest of the batch belongs to others, and does not come again.
                _log.exception("an event of type %s could not be taken", type(event).__name__)
        self._pass_on()

    def _pass_on(self) -> None:
        for point, waiting in self._batches.items():
            if not waiting:
                continue
            batch = waiting.copy()
            waiting.clear()
            if self._attendant is not None:
                getattr(self._attendant, point)(batch)

    def _on_reply(self, event: "Audited | ClientPage | Kicked | Published") -> None:
        reply = self._replies.pop(event.ticket, None)
        # Nobody waits any more where the caller was cancelled or timed out.
        if reply is not None and not reply.done():
            reply.set_result(event)

    def _on_refused(self, event: "Refused") -> None:
        reply = self._replies.pop(event.ticket, None)
        if reply is not None and not reply.done():
            reply.set_exception(EngineError(event.text))

    def _on_rows(self, event: "TapBatch") -> None:
        tap = self._taps.get(event.tap)
        if tap is not None:
            tap.feed(event)

    def _on_store_turned(self, event: "StoreTurned") -> None:
        if self._on_store is not None:
            self._on_store(event)

    def _on_stopped(self, _event: "Stopped") -> None:
        self._finish()

    def _finish(self) -> None:
        if self._stopped.done():
            return
        self._memory.stop()
        self._loop.remove_reader(self._plane.wake_fd)
        self._stopped.set_result(None)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(EngineError("the broker stopped before it replied"))
        for tap in self._taps.values():
            tap.end()
        self.rows.end()
        self._taps.clear()


class _Reactions(dict[type, Callable[[Any], None]]):
    """What to do with an event, by its type; filled by the type's name when one is seen for the first time.

    By name, because then the loop above costs one look-up, and a double of the binding brings its own types.
    """

    def __init__(self, by_name: dict[str, Callable[[Any], None]]) -> None:
        super().__init__()
        self._by_name = by_name

    def __missing__(self, kind: type) -> Callable[[Any], None]:
        reaction = self[kind] = self._by_name.get(kind.__name__, _on_unknown)
        return reaction


def _on_unknown(event: object) -> None:
    _log.error("the data plane sent a %s, which this version does not know", type(event).__name__)


def _on_log_line(event: "LogLine") -> None:
    _plane_log.log(event.level, "%s", event.text)


def _open_plane(options: Options) -> "DataPlane":
    # Loaded here, so that everything above the engine can be imported, checked and tested without the binding.
    from whimbrel.engine.records import DataPlane

    return DataPlane(options)


def _start_failure(error: OSError, options: Options) -> WhimbrelError:
    reason, address = error.strerror or str(error), str(error.filename or "")
    if not address:
        return StartError(f"cannot start the data plane: {reason.lower()}{_RESOURCES.get(error.errno or 0, '')}")
    # The binding's error carries the listener's label; its address is written without the brackets of IPv6.
    label = str(error.filename2 or "")
    found = (one for one in options.listeners if label == f"{one.kind}:{one.name}" or _address(one) == address)
    listener = next(found, None)
    if listener is not None:
        label, address = f"{listener.kind}:{listener.name}", _address(listener)
    return ListenFailure(address=address, listener=label, reason=reason, errno=error.errno or 0)


def _certificate_failure(error: ValueError) -> Exception:
    # By name, because a double of the binding brings its own types.
    return CertificateFailure(str(error)) if type(error).__name__ == "CertificateError" else error


def _storage_failure(error: Exception) -> Exception:
    return StorageFailure(str(error)) if type(error).__name__ == "StorageError" else error


def _address(listener: ListenerOptions) -> str:
    if listener.kind == "unix":
        return listener.path
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{host}:{listener.port}"
