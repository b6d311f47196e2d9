"""`whimbrel bench`: load for any MQTT broker, and what it does to the messages.

Knows options, when to look and stop, and the final table. How load is made is in the binding (`LoadRun`), to which
every broker is a foreign one.

Exit codes: 0; 1 where something was lost, duplicated, reordered, refused or cut off, or no run could be made; 2 for a
command that has to be written differently; 130 after Ctrl-C, with the report of what was measured until then.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.progress import LiveLine
from whimbrel.errors import WhimbrelError
from whimbrel.settings.problems import printable

if TYPE_CHECKING:
    from whimbrel.engine.load import LoadRun, Measures

INTERRUPTED: Final = 130
FAULTY: Final = 1
_LOOK_MS: Final = 100

LOST: Final = "lost"
"""The one fault that --allow-loss forgives."""

FAULTS: Final[Mapping[str, str]] = {
    LOST: "messages that did not arrive",
    "duplicated": "messages that arrived more than once",
    "out_of_order": "messages that arrived after a later one",
    "foreign": "messages that this run did not send",
    "refused": "packets that the broker answered with an error",
    "unacknowledged": "packets that the broker did not answer",
    "unanswered": "clients that the broker did not answer",
    "pings_missing": "pings that the broker did not answer",
    "closed_by_broker": "connections that the broker closed",
    "not_closed": "connections that the broker kept after goodbye",
}
"""Counts that a correct broker leaves at zero, and what they count."""

_TIMES: Final[Mapping[str, str]] = {"latency": "latency", "ack": "acknowledged after", "lag": "sent behind schedule"}
"""What percentiles are of: prefix of the fields, and title of the row."""

_FILE: Final = click.Path(exists=True, dir_okay=False)
_COMMON: Final = (
    click.option("-h", "--host", default="127.0.0.1", show_default=True, help="Host of the broker."),
    click.option("-p", "--port", default=1883, show_default=True, type=click.IntRange(1, 65_535), help="Its port."),
    click.option("--unix", type=click.Path(), metavar="PATH", help="Its Unix socket, instead of host and port."),
    click.option("--tls", is_flag=True, help="Speak TLS; every client makes a full handshake."),
    click.option(
        "--cafile", "ca_file", type=_FILE, metavar="FILE", help="Whose signature the broker's certificate needs."
    ),
    click.option("--insecure", is_flag=True, help="Believe any certificate of the broker instead."),
    click.option("--cert", "cert_file", type=_FILE, metavar="FILE", help="Certificate that every client shows."),
    click.option("--key", "key_file", type=_FILE, metavar="FILE", help="Its private key."),
    click.option("--ws", "is_websocket", is_flag=True, help="Speak WebSocket, over TLS where that is asked for too."),
    click.option("--path", default="/mqtt", show_default=True, help="Where WebSocket is."),
    click.option("-u", "--username", help="User name of every client."),
    click.option("-P", "--password", help="Password; visible to others on this machine while the command runs."),
    click.option(
        "-V", "--protocol", type=click.Choice(["3", "4", "5"]), default="5", show_default=True, help="MQTT version."
    ),
    click.option(
        "--client-prefix", default="bench", show_default=True, metavar="TEXT", help="Client ids are TEXT-RUN-NUMBER."
    ),
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="ADDRESS",
        help="Connect from this address of the machine; several are taken in turns (each has about 28,000 ports).",
    ),
    click.option(
        "--patience",
        "patience_s",
        type=click.FloatRange(0.05, 3600),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Silence after which what has not come is lost.",
    ),
    click.option(
        "--broker-pid", type=click.IntRange(1), metavar="PID", help="Measure CPU and memory of this local process too."
    ),
    click.option("--allow-loss", is_flag=True, help="Messages that are lost do not make the exit code 1."),
    click.option("--json", "is_json", is_flag=True, help="Print one line of JSON instead of a table."),
)
_QOS: Final = click.option(
    "-q", "--qos", type=click.IntRange(0, 2), default=0, show_default=True, help="Quality of service."
)
_RATE: Final = click.option(
    "--rate",
    type=click.FloatRange(0, 1e7),
    default=0.0,
    metavar="PER_SECOND",
    help="Open loop: so many each second in all, whatever the broker does.  [default: closed loop]",
)
_PAYLOAD: Final = click.option(
    "--payload",
    "payload_bytes",
    type=click.IntRange(0, 1 << 24),
    default=64,
    show_default=True,
    metavar="BYTES",
    help="Size of each message.",
)
_FILL: Final = (
    _PAYLOAD,
    click.option(
        "-n",
        "--count",
        type=click.IntRange(1, 100_000_000),
        default=10_000,
        show_default=True,
        help="How many messages.",
    ),
    click.option(
        "--subscribers", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many get all of them."
    ),
    click.option(
        "--window",
        type=click.IntRange(1, 32_768),
        default=64,
        show_default=True,
        help="Unacknowledged messages of the publisher.",
    ),
)
_TRAFFIC: Final = (
    _QOS,
    _RATE,
    _PAYLOAD,
    click.option(
        "--window",
        type=click.IntRange(1, 32_768),
        default=64,
        show_default=True,
        help="Closed loop: messages of each publisher under way at once.",
    ),
    click.option(
        "--duration",
        "duration_s",
        type=click.FloatRange(0.01, 86_400),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Of the measurement.",
    ),
    click.option(
        "--warm",
        "warm_s",
        type=click.FloatRange(0, 3600),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Load before it.",
    ),
    click.option("--count", type=click.IntRange(1), help="End after so many messages instead; nothing is warmed up."),
    click.option("-r", "--retain", is_flag=True, help="Retained messages; they are cleared at the end."),
)


class _NoRun(WhimbrelError):
    """The load could not be made."""


def _with(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group()
def bench() -> None:
    """Put load on an MQTT broker and measure what it does to the messages.

    Latencies are percentiles; in an open loop (--rate) they count from when each message was due.
    """


@bench.command()
@_with(*_COMMON, _RATE)
@click.option("-c", "--clients", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="How many.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Closed loop: how many are on their way in at once.",
)
@click.option(
    "--hold", "hold_s", type=click.FloatRange(0, 86_400), default=0.0, metavar="SECONDS", help="Rest when all are in."
)
@click.option("--pings", type=click.IntRange(0, 1000), default=0, help="Each pings so often afterwards.")
def connect(**options: Any) -> None:
    """Let many clients connect; the latency is the one of CONNACK."""
    _bench("connect", **options)


@bench.command()
@_with(*_COMMON, *_TRAFFIC)
@click.option(
    "-c", "--clients", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many publishers."
)
@click.option(
    "-t",
    "--topic",
    default="whimbrel-bench/{run}/{client}",
    show_default=True,
    help="Topic; {run} and {client} are replaced by numbers.",
)
def publish(**options: Any) -> None:
    """Publish without subscribers; the latency is the one of PUBACK or PUBCOMP."""
    _bench("publish", **options)


@bench.command()
@_with(*_COMMON, _QOS, _RATE)
@click.option("-c", "--clients", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="How many.")
@click.option(
    "--subscriptions", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Of each client."
)
@click.option("--batch", type=click.IntRange(1, 1000), default=1, show_default=True, help="Of them in one SUBSCRIBE.")
@click.option(
    "-t",
    "--topic",
    "filters",
    multiple=True,
    default=("whimbrel-bench/{run}/{client}/{number}",),
    show_default=True,
    help="Topic filter; several are taken in turns. {run}, {client} and {number} (of the subscription) are replaced by "
    "numbers.",
)
@click.option(
    "--flow",
    "flow_s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar="SECONDS",
    help="Then measure 50 pairs at QoS 0 whose topics no filter matches, with the filters and again without.",
)
@click.option(
    "--hold", "hold_s", type=click.FloatRange(0, 86_400), default=0.0, metavar="SECONDS", help="Then count what comes."
)
def subscribe(**options: Any) -> None:
    """Subscribe, then listen; the latency is the one of SUBACK."""
    _bench("subscribe", **options)


@bench.command()
@_with(*_COMMON, *_TRAFFIC)
@click.option(
    "--pattern",
    type=click.Choice(["pair", "fanout", "fanin", "share"]),
    default="pair",
    show_default=True,
    help="One to one; all on one topic to all; a topic each to all, or each message to one of a group.",
)
@click.option(
    "-c", "--clients", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many publishers."
)
@click.option(
    "--subscribers", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Of fanout, fanin and share."
)
@click.option(
    "--persistent",
    "lasting",
    is_flag=True,
    help="Subscribers' sessions would outlive their connections; they are removed at the end.",
)
def flow(*, pattern: str, **options: Any) -> None:
    """Publish to subscribers; the latency runs until a message arrives."""
    _bench(pattern, **options)


@bench.command()
@_with(*_COMMON, _QOS, *_FILL)
@click.option("--subscriber-qos", type=click.IntRange(0, 2), help="QoS of the subscription.  [default: the same]")
def retained(*, qos: int, subscriber_qos: int | None, **options: Any) -> None:
    """Store retained messages on a topic each, then subscribe to all of them.

    With --broker-pid, start the broker afresh: memory is what it has grown by.
    """
    _bench("retained", qos=qos, subscriber_qos=qos if subscriber_qos is None else subscriber_qos, **options)


@bench.command()
@_with(*_COMMON, *_FILL)
@click.option("-q", "--qos", type=click.IntRange(1, 2), default=1, show_default=True, help="Quality of service.")
def offline(*, qos: int, **options: Any) -> None:
    """Publish for sessions whose clients are away, then let them come back and get it all in order.

    With --broker-pid, start the broker afresh: memory is what it has grown by.
    """
    _bench("offline", qos=qos, subscriber_qos=qos, **options)


def _bench(
    scenario: str,
    *,
    protocol: str,
    password: str | None,
    allow_loss: bool,
    is_json: bool,
    insecure: bool,
    is_websocket: bool,
    path: str,
    **options: Any,
) -> None:
    from whimbrel.engine.load import LoadOptions, LoadRun

    _check_tls(insecure=insecure, **options)
    _raise_descriptor_limit()
    secret = None if password is None else password.encode()
    websocket = path if is_websocket else None
    load = LoadOptions(
        scenario=scenario, protocol_version=int(protocol), password=secret, websocket=websocket, **options
    )
    try:
        run = LoadRun(load)
        was_interrupted = _watch(run)
        measures = run.result()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise _NoRun(str(error)) from error
    assert measures is not None  # _watch ends with the run
    click.echo(json.dumps(measures) if is_json else "\n".join(table(measures)))
    if was_interrupted:
        sys.exit(INTERRUPTED)
    if any(name in measures and measures[name] for name in FAULTS if not (allow_loss and name == LOST)):
        sys.exit(FAULTY)


def _check_tls(*, tls: bool, insecure: bool, ca_file: str | None, **options: Any) -> None:
    """Nobody is left to think that a certificate was looked at."""
    given = [name for name in ("cert_file", "key_file") if options[name]]
    if not tls and (insecure or ca_file or given):
        raise click.UsageError("--cafile, --insecure, --cert and --key are for --tls")
    if tls and insecure == bool(ca_file):
        raise click.UsageError("--tls needs --cafile FILE, or --insecure to believe any certificate")
    if len(given) == 1:
        raise click.UsageError("--cert and --key: give both or none")


def _raise_descriptor_limit() -> None:
    """To the hard limit: a client is a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _watch(run: "LoadRun") -> bool:
    """Wait for the end and tell where it stands; whether Ctrl-C was pressed. A second one waits for nothing more."""
    line = LiveLine(sys.stderr, clock=time.monotonic)
    was_interrupted = False
    while True:
        try:
            while not run.wait(_LOOK_MS):
                line.show(run.progress())
            line.clear()
            return was_interrupted
        except KeyboardInterrupt:
            was_interrupted = True
            run.stop()


def table(measures: "Measures") -> Iterator[str]:
    """The report for people, line by line: what was done, latencies, costs, faults."""
    rows = dict(_rows(measures))
    width = max(map(len, rows))
    yield from (f"{name:<{width}}  {value}" for name, value in rows.items())
    faults = [(name, measures[name]) for name in FAULTS if measures.get(name)]
    yield ""
    if not faults:
        yield "Nothing was lost, duplicated, reordered or refused."
    yield from (f"{_number(count)} {FAULTS[name]}" for name, count in faults)
    if "first_refusal" in measures:
        yield f"The first reason given: {printable(str(measures['first_refusal']))}"
    yield from _hints(measures)


def _rows(measures: "Measures") -> Iterator[tuple[str, str]]:
    for name, value in measures.items():
        if name in FAULTS or name == "first_refusal" or name.startswith(tuple(f"{kind}_" for kind in _TIMES)):
            continue
        yield _title(name), _number(value)
    for kind, title in _TIMES.items():
        shown = [f"{label} {_time(measures[field])}" for label, field in _percentiles(kind) if field in measures]
        if shown:
            yield title, "  ".join(shown)


def _percentiles(kind: str) -> Iterator[tuple[str, str]]:
    for label, key in (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max")):
        yield label, f"{kind}_{key}_us"


def _hints(measures: "Measures") -> Iterator[str]:
    if measures.get("unsent"):
        yield f"{_number(measures['unsent'])} messages were due and could not be written: the rate was not kept."
    if measures.get("stalls"):
        yield f"{_number(measures['stalls'])} times nothing moved for the whole patience; what was under way is lost."


def _title(name: str) -> str:
    words = name.removesuffix("_per_s").replace("_", " ")
    return f"{words}/s" if name.endswith("_per_s") else words


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _time(value_us: str | float) -> str:
    """Microseconds in the unit that reads best, three digits."""
    value = float(value_us)
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} us"
