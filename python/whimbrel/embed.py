"""A broker inside any asyncio program: `async with whimbrel.Broker() as broker:`.

Knows `app.assembly` and how to say things in a program's words. It needs no configuration file, no data directory and
no signals; with a data directory it holds that directory's lock. Several brokers may run in one process. A broker
belongs to the loop that started it, and so does every method here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from whimbrel.app.assembly import Assembly
from whimbrel.app.data_dir import locked
from whimbrel.engine.tap import Tap
from whimbrel.errors import StartError, WhimbrelError
from whimbrel.hooks.registry import Registry
from whimbrel.services.ledger import Balance
from whimbrel.settings import Changes, from_mapping

if TYPE_CHECKING:
    from whimbrel.alarms import Alarm
    from whimbrel.alarms.registry import Detail
    from whimbrel.engine.records import ClientRecord


class _Standing(str):
    """A bind that holds where neither the caller nor the settings name one."""

    __slots__ = ()


FREE_PORT: Final[str] = _Standing("127.0.0.1:0")
GRACE_MS: Final = 1_000
SUBSCRIPTION_CAPACITY: Final = 1_000
_UNIX: Final = "unix:"
_DEFAULT_BIND: Final = ("listeners", "tcp", "default", "bind")
_SCHEMES: Final[Mapping[str, str]] = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


class Broker:
    """A broker that lives as long as the `async with` block (or from `start` to `stop`).

    `settings` are keys over the defaults, dotted or nested: `{"mqtt.max_qos_allowed": 1}`. `bind` is the address of
    the listener "tcp:default" or "unix:/path" for "unix:default"; None means that only the listeners in `settings` are
    opened. Without `bind`, "tcp:default" has a free port of 127.0.0.1 unless `settings` give it another address.
    `hooks` maps hook points to async functions; `broker.hook` has decorators for the same. One worker thread, unless
    `settings` say otherwise.

    Sessions, queued and retained messages live in memory and end with the block. With `{"node.data_dir": path}` they
    are stored there before they are acknowledged (`storage.durability`: "sync", "os" or "off"), and the next Broker on
    the same directory has them; one broker at a time may use it.

    Raises SettingsError for wrong settings and HookError for wrong hooks when it is made; StartError when it starts.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        bind: str | None = FREE_PORT,
        hooks: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        if bind is not None and not isinstance(bind, str):
            raise TypeError(f'bind is {bind!r}; it is text such as "127.0.0.1:1883" or "unix:/path"')
        self._bind = bind
        self._settings = from_mapping(_overrides(settings or {}, bind))
        self._assembly: Assembly | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._held = contextlib.ExitStack()
        self.hook = Registry()
        for point, hook in (hooks or {}).items():
            self.hook.register(point, hook)

    async def start(self) -> None:
        """Bind the listeners and start the worker threads. Raises StartError; WhimbrelError for a second start.

        With a data directory: reads back what is stored there, and blocks the loop meanwhile.
        """
        if self._assembly is not None or self._stopping is not None:
            raise WhimbrelError("a Broker starts once; make a new one")
        data_dir = self._settings.node.data_dir
        with contextlib.ExitStack() as held:
            if data_dir is not None:
                held.enter_context(locked(data_dir, chosen_by="node.data_dir"))
            self._assembly = Assembly.start(self._settings, self.hook)
            self._held = held.pop_all()
        self._loop = asyncio.get_running_loop()
        self._assembly.open()

    async def stop(self) -> None:
        """Say goodbye to the clients and end the threads; waits for at most a second of grace. Again: just waits.

        A caller that is cancelled waits for the end all the same. Raises WhimbrelError on another loop than `start`.
        """
        if self._assembly is None and self._stopping is None:
            return
        if asyncio.get_running_loop() is not self._loop:
            raise WhimbrelError("a Broker stops on the event loop that started it")
        if self._assembly is not None:
            assembly, self._assembly = self._assembly, None
            self._stopping = asyncio.create_task(self._end(assembly))
        assert self._stopping is not None  # Set where the assembly was taken away.
        try:
            await asyncio.shield(self._stopping)
        except asyncio.CancelledError:
            await asyncio.wait({self._stopping})
            raise

    async def _end(self, assembly: Assembly) -> None:
        with self._held:
            await assembly.stop(grace_ms=GRACE_MS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def listeners(self) -> dict[str, str]:
        """Bound address by listener: `{"tcp:default": "127.0.0.1:40123"}`."""
        return {f"{kind}:{name}": address for kind, name, address in self._running.engine.listeners()}

    @property
    def host(self) -> str:
        """Host of the first listener; for a Unix socket its path."""
        return self._first()[1]

    @property
    def port(self) -> int:
        """Real port of the first listener; 0 for a Unix socket."""
        return self._first()[2]

    @property
    def url(self) -> str:
        """`mqtt://127.0.0.1:40123`, `ws://127.0.0.1:40123/mqtt`, or `mqtt+unix:///path` for a Unix socket."""
        kind, host, port = self._first()
        if kind == "unix":
            return f"mqtt+unix://{host}"
        path = next((one.path for one in self._settings.listeners if one.kind == kind and one.path), "")
        return f"{_SCHEMES[kind]}://{f'[{host}]' if ':' in host else host}:{port}{path}"

    async def publish(
        self,
        topic: str,
        payload: bytes | bytearray | memoryview | str = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        user_properties: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Route a message as if a client had published it; text is sent as UTF-8.

        Returns how many sessions and subscriptions took it. Raises ValueError for an invalid topic or QoS.
        """
        messages = self._running.services.messages
        return await messages.publish(topic, payload, qos=qos, retain=retain, user_properties=user_properties)

    def subscribe(self, *filters: str, capacity: int = SUBSCRIPTION_CAPACITY) -> Tap:
        """Subscribe this program: `async for message in broker.subscribe("a/#"):`; in force when this returns.

        At most `capacity` messages wait for the program, and as many in the broker; beyond that the newest are
        dropped and counted in `.dropped`. Ends with `.close()`, its `async with` block or the broker; leaving the
        loop alone does not end it. Raises ValueError for an invalid filter and a capacity below 1.
        """
        if not filters:
            raise ValueError("subscribe needs at least one topic filter")
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; at least one message must be able to wait")
        for one in filters:
            if "\0" in one or one.startswith("$share/"):
                raise ValueError(f"{one!r} is no filter for a program: no null characters, and no shared subscriptions")
        return self._running.engine.open_tap(*filters, capacity=capacity)

    async def clients(self) -> "list[ClientRecord]":
        """Every client that the broker knows, connected or not."""
        return await self._running.services.clients.all()

    async def kick(self, client_id: str) -> None:
        """End a client's connection and its session. Raises ClientNotFound."""
        await self._running.services.clients.kick(client_id)

    async def backup(self, path: Path) -> None:
        """Copy the store as of one commit to `path`, absolute and not there yet, while clients are served.

        Raises StorageFailure, also where there is no store; then nothing is left there.
        """
        await self._running.services.storage.backup(path)

    def reload(self, settings: Mapping[str, object]) -> Changes:
        """Let other settings hold, as far as that goes without a restart; limits hold for connections from now on.

        `settings` replaces what the broker was made with (the listeners stay as they are). Returns what changed and
        what waits for a restart. Raises SettingsError, and then nothing has changed.
        """
        return self._running.reload(from_mapping(_overrides(settings, self._bind)))

    async def reload_certificates(self) -> int:
        """Read the certificates of all TLS listeners again; returns how many there are. Connections go on as they are.

        Raises CertificateFailure where one cannot be used; then every listener keeps what it has.
        """
        return await self._running.services.listeners.reload_certificates()

    def metrics(self) -> dict[str, int]:
        """Every metric by its name, for example `messages.received`: how often something happened since the start."""
        return self._running.services.metrics.metrics()

    def stats(self) -> dict[str, int]:
        """Every statistic by its name: `sessions.count` is how many there are, `sessions.max` the most there were."""
        return self._running.services.metrics.stats()

    def counters(self) -> dict[str, int]:
        """Metrics and statistics together."""
        return self._running.services.metrics.counters()

    def alarms(self, *, history: bool = False) -> "list[Alarm]":
        """What is wrong now, or with `history` what was; the oldest first."""
        alarms = self._running.services.alarms
        return alarms.history() if history else alarms.present()

    def activate_alarm(self, name: str, message: str, details: "Mapping[str, Detail] | None" = None) -> bool:
        """Raise an alarm of this program's own; whether it was not active. Raises ValueError for one beyond bounds."""
        return self._running.services.alarms.activate(name, message, details)

    def deactivate_alarm(self, name: str) -> bool:
        """End an alarm; whether it was active."""
        return self._running.services.alarms.deactivate(name)

    async def ledger(self) -> Balance:
        """What became of every message and delivery; `.is_even` says that nothing is missing."""
        return await self._running.services.ledger.balance()

    @property
    def _running(self) -> Assembly:
        if self._assembly is None:
            raise WhimbrelError("the broker is not running; use it inside `async with Broker(...)`")
        return self._assembly

    def _first(self) -> tuple[str, str, int]:
        listeners = self._running.engine.listeners()
        if not listeners:
            raise StartError("this broker has no listener, so it has no address; it was made with bind=None")
        kind, _, address = listeners[0]
        if kind == "unix":
            return kind, address, 0
        host, _, port = address.rpartition(":")
        return kind, host.strip("[]"), int(port)


def _overrides(settings: Mapping[str, object], bind: str | None) -> dict[str, object]:
    overrides: dict[str, object] = {"workers": 1, **settings}
    if bind is None or (isinstance(bind, _Standing) and _names(settings, _DEFAULT_BIND)):
        return overrides
    if bind.startswith(_UNIX):
        return overrides | {"listeners.unix.default.bind": str(Path(bind.removeprefix(_UNIX)).absolute())}
    return overrides | {".".join(_DEFAULT_BIND): str(bind)}


def _names(settings: Mapping[str, object], path: tuple[str, ...]) -> bool:
    """Whether the keys, dotted or nested, lead to `path`."""
    for key, value in settings.items():
        parts = tuple(str(key).split("."))
        if parts == path:
            return True
        is_above = parts == path[: len(parts)] and isinstance(value, Mapping)
        if is_above and _names(cast("Mapping[str, object]", value), path[len(parts) :]):
            return True
    return False
