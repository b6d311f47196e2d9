"""The binding of the data plane: what crosses between Python and Rust, and nothing else.

Private and unstable: only `whimbrel.engine` imports it. It converts, it decides nothing.

Every call returns at once (it posts to a worker's mailbox or reads a counter); none of them waits for a worker, except
the constructor, which binds the listeners, and `join`, which waits for the threads and releases the interpreter.
What happens in the data plane comes back as a list of events from `drain`; the file descriptor `wake_fd` becomes
readable when there is something to drain. All methods may be called from any thread.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, final

__version__: Final[str]

METRICS: Final[list[tuple[str, str]]]
"""Each metric of the data plane, and what moves it."""
STATS: Final[list[tuple[str, str]]]
"""Each statistic, and what it counts; its peak has `.max` in place of `.count`."""

class TlsOptions(Protocol):
    """PEM files of one listener."""

    @property
    def cert_file(self) -> str: ...
    @property
    def key_file(self) -> str: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def verify(self) -> str: ...  # "none" | "optional" | "required"
    @property
    def crl_file(self) -> str | None: ...

class ListenerOptions(Protocol):
    """One listener. `path` for kind "unix", else `host` and `port` (port 0: the kernel chooses)."""

    @property
    def kind(self) -> str: ...  # "tcp" | "tls" | "ws" | "wss" | "unix"
    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def zone(self) -> int: ...  # index into Options.zones
    @property
    def is_anonymous_allowed(self) -> bool: ...  # the answer where no hook decides
    @property
    def connections_max(self) -> int: ...
    @property
    def websocket_path(self) -> str | None: ...  # of the request that opens a WebSocket
    @property
    def tls(self) -> TlsOptions | None: ...
    @property
    def trusted_proxies(self) -> Sequence[str] | None: ...  # "10.0.0.0/8", "user:33"; None: no PROXY header
    @property
    def max_conn_rate(self) -> int: ...  # connections taken in a second; 0: no limit

class ZoneOptions(Protocol):
    """The protocol limits of one zone; units are in the names."""

    @property
    def max_packet_size_bytes(self) -> int: ...  # 1 .. 268_435_455
    @property
    def max_clientid_len(self) -> int: ...  # 1 .. 65_535
    @property
    def max_topic_levels(self) -> int: ...  # 1 .. 65_535
    @property
    def max_qos_allowed(self) -> int: ...  # 0 .. 2
    @property
    def max_topic_alias(self) -> int: ...  # 0 .. 65_535
    @property
    def max_topic_alias_out(self) -> int: ...  # 0 .. 256
    @property
    def max_inflight(self) -> int: ...  # 1 .. 65_535
    @property
    def receive_maximum(self) -> int: ...  # 1 .. 65_535
    @property
    def max_awaiting_rel(self) -> int: ...  # 1 .. 65_535
    @property
    def await_rel_timeout_s(self) -> int: ...  # of a client that is connected; 0: for ever
    @property
    def retry_interval_ms(self) -> int: ...  # MQTT 3.x: what is unacknowledged so long is sent again; 0: never
    @property
    def max_mqueue_len(self) -> int: ...  # messages, 1 .. 2**32 - 1
    @property
    def max_mqueue_bytes(self) -> int: ...  # of these messages, rounded up to 64 KiB; 0: no bound
    @property
    def is_newest_dropped(self) -> bool: ...  # from a full queue; otherwise the oldest
    @property
    def is_qos0_stored(self) -> bool: ...  # for an absent client with a session
    @property
    def topic_priorities(self) -> Sequence[tuple[str, int]]: ...  # 1 .. 255; a higher one leaves first
    @property
    def default_priority(self) -> int: ...  # of all other topics, 0 or 256
    @property
    def max_subscriptions(self) -> int: ...  # per session, 1 .. 2**32 - 1
    @property
    def max_outbox_bytes(self) -> int: ...  # unsent bytes of one connection
    @property
    def server_keepalive_s(self) -> int: ...  # MQTT 5, 0: the client's own
    @property
    def response_information(self) -> str: ...  # MQTT 5, empty: none
    @property
    def force_shutdown_bytes(self) -> int: ...  # of one client and its session; 0: no limit
    @property
    def idle_timeout_ms(self) -> int: ...  # from accept to CONNECT
    @property
    def max_publish_rate(self) -> int: ...  # PUBLISH packets a second from one connection; 0: no limit
    @property
    def max_bytes_rate(self) -> int: ...  # bytes a second from one connection; 0: no limit
    @property
    def session_expiry_s(self) -> int: ...  # MQTT 3.1.1 with clean session 0
    @property
    def session_expiry_max_s(self) -> int: ...  # cap of MQTT 5's interval
    @property
    def max_sessions(self) -> int: ...  # sessions of the whole broker that may outlive their connection
    @property
    def is_retain_available(self) -> bool: ...
    @property
    def is_wildcard_available(self) -> bool: ...  # in SUBSCRIBE
    @property
    def is_shared_available(self) -> bool: ...
    @property
    def is_durable(self) -> bool: ...  # False: sessions live in memory, acknowledgements wait for nothing
    @property
    def share_strategy(self) -> str: ...  # as in mqtt.shared_subscription_strategy

class Options(Protocol):
    """What the data plane needs to know at start."""

    @property
    def node_name(self) -> str: ...
    @property
    def workers(self) -> int: ...  # 1 .. 256
    @property
    def listeners(self) -> Sequence[ListenerOptions]: ...
    @property
    def zones(self) -> Sequence[ZoneOptions]: ...
    @property
    def question_deadline_ms(self) -> int: ...  # the data plane's own, behind the hooks' deadline
    @property
    def flapping_max_count(self) -> int: ...  # connections of a client that end within the window; 0: nobody looks
    @property
    def flapping_window_ms(self) -> int: ...
    @property
    def flapping_ban_ms(self) -> int: ...  # how long the client is refused then
    @property
    def max_retained_messages(self) -> int: ...
    @property
    def max_retained_bytes(self) -> int: ...
    @property
    def storage_folder(self) -> str | None: ...  # None: everything is in memory
    @property
    def is_storage_synced(self) -> bool: ...  # a commit survives the loss of power, not only the end of the process
    @property
    def is_presence_published(self) -> bool: ...
    @property
    def sys_readers(self) -> str: ...  # as in sys.readers

class ListenError(OSError):
    """A listener could not be bound. `errno` and `strerror` as the kernel said; `filename` is the address."""

class CertificateError(ValueError):
    """A listener's certificates cannot be used. The text is a sentence that names the listener and the file."""

class StorageError(Exception):
    """A store cannot be used. The text is a sentence that names the place and says how to mend it."""

@final
class Message:
    """One application message, immutable. Attributes are read from the shared native message on access."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...  # that it occupies, roughly
    @property
    def qos(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def client_id(self) -> str: ...  # of the publisher; empty for a publish from inside
    @property
    def timestamp_ms(self) -> int: ...  # when the broker took it in, Unix time
    @property
    def user_properties(self) -> list[tuple[str, str]]: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def response_topic(self) -> str | None: ...
    @property
    def correlation_data(self) -> bytes | None: ...

@final
class Authenticate:
    """Question: may this client enter? Answer with `DataPlane.answer_authenticate`."""

    @property
    def ticket(self) -> int: ...
    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> bytes | None: ...
    @property
    def peer(self) -> str: ...  # "127.0.0.1:50412", or "" on a unix socket
    @property
    def listener(self) -> str: ...  # "tcp:default"
    @property
    def protocol_version(self) -> int: ...  # 3 | 4 | 5
    @property
    def keep_alive_s(self) -> int: ...
    @property
    def clean_start(self) -> bool: ...
    @property
    def is_anonymous_allowed(self) -> bool: ...  # the listener's default where nothing answers

@final
class EnhancedAuthenticate:
    """Question: how does this exchange go on? Answer with `DataPlane.answer_enhanced`."""

    @property
    def ticket(self) -> int: ...
    @property
    def exchange(self) -> int: ...  # names the connection among those that live now
    @property
    def step(self) -> int: ...  # packets of the client in this exchange before this one
    @property
    def is_reauthentication(self) -> bool: ...
    @property
    def method(self) -> str: ...
    @property
    def auth_data(self) -> bytes | None: ...
    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> bytes | None: ...  # only in the question about CONNECT
    @property
    def peer(self) -> str: ...
    @property
    def listener(self) -> str: ...

@final
class Authorize:
    """Question: may this client do this on these topics? Answer with `DataPlane.answer_authorize`."""

    @property
    def ticket(self) -> int: ...
    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def peer(self) -> str: ...
    @property
    def action(self) -> str: ...  # "publish" | "subscribe"
    @property
    def topics(self) -> list[str]: ...  # one topic for publish, one or more filters for subscribe
    @property
    def qos(self) -> int: ...  # publish: of the message; subscribe: the highest asked for
    @property
    def retain(self) -> bool: ...

@final
class Connected:
    """Notice: a client has its CONNACK."""

    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def peer(self) -> str: ...
    @property
    def listener(self) -> str: ...
    @property
    def protocol_version(self) -> int: ...
    @property
    def keep_alive_s(self) -> int: ...
    @property
    def clean_start(self) -> bool: ...
    @property
    def session_present(self) -> bool: ...
    @property
    def timestamp_ms(self) -> int: ...

@final
class Disconnected:
    """Notice: a client that had its CONNACK is gone."""

    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def peer(self) -> str: ...
    @property
    def reason(self) -> str: ...  # "normal", "tcp_closed", "keepalive_timeout", "takeovered", "kicked", ...
    @property
    def reason_code(self) -> int: ...  # MQTT 5 reason code sent or received, 0 where none
    @property
    def text(self) -> str: ...  # the client's words where it said goodbye, else what it was told; at most 1,024 bytes
    @property
    def timestamp_ms(self) -> int: ...

@final
class TapBatch:
    """Messages that a tap matched, in the order of their workers' turns."""

    @property
    def tap(self) -> int: ...
    @property
    def messages(self) -> list[Message]: ...
    @property
    def dropped(self) -> int: ...  # since the batch before, because the tap's queue was full

@final
class ClientRecord:
    """A session and, where it is connected, its connection, as its worker saw them in one turn."""

    @property
    def client_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def peer(self) -> str: ...
    @property
    def listener(self) -> str: ...
    @property
    def protocol_version(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def clean_start(self) -> bool: ...
    @property
    def keep_alive_s(self) -> int: ...
    @property
    def session_expiry_s(self) -> int: ...
    @property
    def connected_at_ms(self) -> int: ...
    @property
    def disconnected_at_ms(self) -> int: ...  # 0 while connected
    @property
    def subscriptions(self) -> int: ...
    @property
    def inflight(self) -> int: ...
    @property
    def mqueue_len(self) -> int: ...
    @property
    def outbox_bytes(self) -> int: ...
    @property
    def worker(self) -> int: ...

@final
class ClientPage:
    """Reply to `request_clients`: up to `limit` records and the cursor of the next page (None: the end)."""

    @property
    def ticket(self) -> int: ...
    @property
    def records(self) -> list[ClientRecord]: ...
    @property
    def next_cursor(self) -> int | None: ...

@final
class Audited:
    """Reply to `request_audit`: the conservation ledger."""

    @property
    def ticket(self) -> int: ...
    @property
    def lines(self) -> list[tuple[str, list[tuple[str, int]], list[tuple[str, int]], int]]: ...
    # name, what came, what became of it, what is missing
    @property
    def on_the_way(self) -> int: ...  # deliveries between two workers

@final
class Kicked:
    """Reply to `kick`: whether there was such a session."""

    @property
    def ticket(self) -> int: ...
    @property
    def found(self) -> bool: ...

@final
class Published:
    """Reply to `publish`: the message is routed; how many sessions and taps on this node took it."""

    @property
    def ticket(self) -> int: ...
    @property
    def receivers(self) -> int: ...

@final
class Refused:
    """Reply to `publish`: the message was not routed, and why."""

    @property
    def ticket(self) -> int: ...
    @property
    def text(self) -> str: ...

@final
class RowsChanged:
    """Reply to `change_rows`: all of it is durable, or why nothing of it holds."""

    @property
    def ticket(self) -> int: ...
    @property
    def refusal(self) -> str | None: ...

@final
class StoreTurned:
    """Notice: the store takes in nothing any more, and why, or (None) takes in again."""

    @property
    def refusal(self) -> str | None: ...
    @property
    def timestamp_ms(self) -> int: ...  # Unix time

@final
class LogLine:
    """Something the data plane wants in the log."""

    @property
    def level(self) -> int: ...  # of Python's logging: 10, 20, 30, 40
    @property
    def text(self) -> str: ...

@final
class Stopped:
    """The last event: every worker has ended."""

Event: TypeAlias = (
    Authenticate
    | EnhancedAuthenticate
    | Authorize
    | Connected
    | Disconnected
    | TapBatch
    | ClientPage
    | Audited
    | Kicked
    | Published
    | Refused
    | RowsChanged
    | StoreTurned
    | LogLine
    | Stopped
)

@final
class DataPlane:
    """A running data plane: worker threads, listeners, sessions, router."""

    def __new__(cls, options: Options) -> DataPlane:
        """Bind every listener and start the workers. Raises ListenError, CertificateError, ValueError (an option out
        of range).

        Clients wait in the listeners' backlog until `open`.
        """
    def open(self) -> None:
        """Let clients in; call it when interest is declared, so that no client slips past a question."""
    def reload_certificates(self) -> int:
        """Read the certificates of all listeners again, for new connections; returns how many listeners have some.

        Reads files. Raises CertificateError where one cannot be used; then all stay as they are.
        """
    @property
    def wake_fd(self) -> int:
        """Readable while `drain` has something to return. Owned by this object; do not close it."""
    def listeners(self) -> list[tuple[str, str, str]]:
        """(kind, name, bound address) of every listener; the address holds the real port."""
    def drain(self) -> list[Event]:
        """Take all events that are waiting, oldest first. Cheap when there are none."""
    def set_interest(
        self,
        *,
        authenticate: bool,
        authorize: bool,
        connected: bool,
        disconnected: bool,
        enhanced_authenticate: bool = False,
    ) -> None:
        """What Python wants to be asked and told from now on; the rest never leaves the data plane."""
    def reload(self, zones: Sequence[ZoneOptions], question_deadline_ms: int) -> None:
        """Other limits, in the order of `Options.zones`, for connections from now on; another question deadline."""
    def answer_authenticate(
        self, ticket: int, reason_code: int, is_superuser: bool, text: str = "", is_anonymous: bool = False
    ) -> None:
        """0 lets the client in; else an MQTT 5 CONNACK reason code. A late or unknown ticket is ignored.

        `text` goes with a refusal to an MQTT 5 client, cut at 1,024 bytes. `is_anonymous`: nobody knows the client, and
        its listener lets such clients in.
        """
    def answer_enhanced(
        self, ticket: int, reason_code: int, auth_data: bytes | None, is_superuser: bool, text: str = ""
    ) -> None:
        """0 lets the client in, 0x18 goes on with AUTH, an error refuses; `auth_data` is at most 65,535 bytes.

        Raises ValueError for a longer one. A late or unknown ticket is ignored.
        """
    def answer_authorize(self, ticket: int, reason_codes: Sequence[int], texts: Sequence[str] = ...) -> None:
        """One code per topic of the question: 0 allows, 0x87 denies. `texts`: words for the first of them, or empty."""
    def publish(
        self,
        ticket: int,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        user_properties: Sequence[tuple[str, str]] = ...,
    ) -> None:
        """Route a message from inside; `Published` or `Refused` answers. Raises ValueError: invalid topic or QoS."""
    def open_tap(self, filters: Sequence[str], capacity: int) -> int:
        """Subscribe Python to filters; returns the tap's number. At most `capacity` messages wait; then the newest
        are dropped and counted. Raises ValueError for an invalid filter."""
    def close_tap(self, tap: int) -> None: ...
    def request_clients(self, ticket: int, cursor: int, limit: int) -> None:
        """Ask for a page of clients, from cursor 0; `ClientPage` answers. `limit` is 1 .. 10_000."""
    def request_congested(self, ticket: int, cursor: int, bytes: int, messages: int, limit: int) -> None:
        """The same of connected clients with at least so many unsent bytes, or messages that wait; answered so, too.

        A page may be empty and have a next one, because a request looks at 65,536 sessions.
        """
    def kick(self, ticket: int, client_id: str) -> None:
        """End a client's connection (0x98) and its session; `Kicked` answers."""
    def take_rows(self) -> list[tuple[bytes, bytes]]:
        """Name ("family/key") and value of every row that the start found, by name. Once; later calls: none."""
    def change_rows(self, ticket: int, seen: int, changes: Sequence[tuple[bytes, bytes | None, bytes | None]]) -> None:
        """Change rows, all or none: name, value (None: it goes), and the value before, with which a change that the
        store fails later is taken back. `RowsChanged` answers; without a store at once.
        `seen`: refusals heard of so far; one that is still on its way refuses this change, too, because it may have
        been made over what does not hold.

        A name is "family/key": [a-z0-9_], at most 64, and at most 65,000 bytes of UTF-8. Raises ValueError for others,
        and for more than 4 MiB of names and values.
        """
    def request_audit(self, ticket: int) -> None:
        """Ask what became of every delivery; `Audited` answers. Costs each worker a look at all of its sessions."""
    def is_watched(self, prefix: str) -> bool:
        """Whether somebody subscribes to topics under `prefix` ("a/b", for topics "a/b/...")."""
    def counters(self) -> dict[str, int]:
        """Metrics and statistics together."""
    def metrics(self) -> dict[str, int]:
        """Every metric by its EMQ X 4 name, summed over the workers; at most a turn old."""
    def stats(self) -> dict[str, int]:
        """Every statistic, `.count` and `.max`, by its EMQ X 4 name; exact."""
    def backup(self, path: str) -> None:
        """Copy what the store has committed to `path`, which must not exist, while serving; releases the interpreter.

        Blocks for the disk. Raises StorageError.
        """
    def stop(self, grace_ms: int) -> None:
        """Close the listeners, say goodbye to the clients (0x8B), flush for at most `grace_ms`, end the workers.
        `Stopped` is the last event. A second call changes nothing."""
    def join(self) -> None:
        """Wait for the workers to end; releases the interpreter."""

@final
class Client:
    """A small blocking MQTT client for the command line; one thread, one connection."""

    def __new__(
        cls,
        address: str,
        *,
        client_id: str = "",
        username: str | None = None,
        password: bytes | None = None,
        protocol_version: int = 5,
        keep_alive_s: int = 60,
        timeout_ms: int = 10_000,
    ) -> Client:
        """Connect to "host:port" or "unix:/path". Raises ConnectionError with the broker's reason, TimeoutError."""
    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Send one message and wait for its acknowledgement (QoS 1 and 2)."""
    def subscribe(self, filters: Sequence[str], *, qos: int = 0) -> list[int]:
        """Subscribe and return the SUBACK's reason code of each filter."""
    def receive(self, timeout_ms: int) -> Message | None:
        """The next message, or None after the timeout; keeps the connection alive meanwhile."""
    def disconnect(self) -> None:
        """Say goodbye and wait until the broker has read all. Raises ConnectionError where it was gone before."""

class LoadOptions(Protocol):
    """One run of the load generator; a scenario ignores what it does not need. Rates: each second, 0: closed loop."""

    @property
    def scenario(self) -> str: ...  # connect, subscribe, publish, pair, fanout, fanin, share, retained, offline
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def unix(self) -> str | None: ...  # path, instead of host and port
    @property
    def tls(self) -> bool: ...
    @property
    def websocket(self) -> str | None: ...  # path
    @property
    def ca_file(self) -> str | None: ...  # PEM; None: any certificate of the broker is believed
    @property
    def cert_file(self) -> str | None: ...  # PEM, what every client shows, together with key_file
    @property
    def key_file(self) -> str | None: ...
    @property
    def sources(self) -> Sequence[str]: ...  # local addresses, taken in turns; empty: the kernel chooses
    @property
    def protocol_version(self) -> int: ...  # 3 | 4 | 5
    @property
    def username(self) -> str | None: ...
    @property
    def password(self) -> bytes | None: ...
    @property
    def client_prefix(self) -> str: ...
    @property
    def broker_pid(self) -> int | None: ...  # of this machine; its CPU time and memory are then reported
    @property
    def run(self) -> int: ...  # 0 .. 2**32 - 1, in topics, client ids and payloads
    @property
    def patience_s(self) -> float: ...  # silence after which what has not come is lost, 0.05 .. 3600
    @property
    def clients(self) -> int: ...  # of a flow and of publish: the publishers
    @property
    def subscribers(self) -> int: ...  # fanout, fanin, share, retained, offline; 0 for publish
    @property
    def qos(self) -> int: ...
    @property
    def subscriber_qos(self) -> int: ...  # retained, offline
    @property
    def lasting(self) -> bool: ...  # a flow's subscribers: their sessions would outlive their connections
    @property
    def retain(self) -> bool: ...
    @property
    def payload_bytes(self) -> int: ...  # 16 .. 2**24; publish: from 0
    @property
    def window(self) -> int: ...  # messages of a publisher under way, 1 .. 32_768
    @property
    def rate(self) -> float: ...  # messages, connects or subscribes
    @property
    def warm_s(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def count(self) -> int | None: ...  # messages of all publishers, instead of a duration; retained, offline: needed
    @property
    def topic(self) -> str: ...  # publish; {run} and {client} are replaced
    @property
    def concurrency(self) -> int: ...  # connect
    @property
    def hold_s(self) -> float: ...  # connect, subscribe
    @property
    def pings(self) -> int: ...  # connect
    @property
    def subscriptions(self) -> int: ...  # subscribe: of each client
    @property
    def batch(self) -> int: ...  # subscribe: subscriptions in one SUBSCRIBE
    @property
    def filters(self) -> Sequence[str]: ...  # subscribe, taken in turns; {run}, {client}, {number} are replaced
    @property
    def flow_s(self) -> float: ...  # subscribe: messages past the filters for so long; 0: none

@final
class LoadRun:
    """A run of the load generator on a thread of its own. One that is dropped stops by itself."""

    def __new__(cls, options: LoadOptions) -> LoadRun:
        """Start the run. Raises ValueError for an option of the wrong shape; ranges are checked by the run."""
    def wait(self, timeout_ms: int) -> bool:
        """Whether the run has ended, after at most so long; releases the interpreter."""
    def progress(self) -> dict[str, str | int | float]:
        """Where it stands: phase, connected, sent, acknowledged, delivered, latency_p50_us, latency_p99_us."""
    def stop(self) -> None:
        """Send nothing more, wait for what is under way, report. A second call does not wait either."""
    def result(self) -> dict[str, str | int | float] | None:
        """The measures, None while it runs. Raises ValueError (an option out of range), ConnectionError (no run)."""

StoreRow: TypeAlias = tuple[str, dict[str, Any]]
"""Type and fields of a row; what the fields are, `whimbrel_server::transfer` says. Octets are bytes."""

def store_export(folder: str, take: Callable[[list[StoreRow]], object]) -> list[str]:
    """Show every row of the store in `folder`, which no broker holds, to `take`, in batches and in the store's order.

    Returns what was found damaged, one sentence each. Blocks for the disk; raises StorageError, and what `take` raises.
    """

def store_survey(folder: str) -> dict[str, Any]:
    """Count what is in the store in `folder`; `damaged` is a list of sentences. Blocks; raises StorageError."""

@final
class StoreImport:
    """A new store that is filled row by row. Whole when `finish` has returned; one that is dropped before is not."""

    def __new__(cls, folder: str) -> StoreImport:
        """Begin a store in `folder`, where there must be none. Blocks for the disk; raises StorageError."""
    def add(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Add a row. Raises StorageError; for a row without sense ValueError, KeyError, TypeError, OverflowError."""
    def finish(self) -> None:
        """Store what is left and close. Raises StorageError, ValueError for a second call."""
