"""`whimbrel bench` against a real broker in this process, and its table and exit codes from written measures."""

import io
import json
import os
import pty
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.waiting import wait_until
from tests.wire.authority import Authority
from whimbrel.cli import main
from whimbrel.cli.bench import FAULTS, table
from whimbrel.cli.progress import LiveLine, text
from whimbrel.testing.background import BackgroundBroker

PERCENTILES = ("p50", "p90", "p99", "p999", "max", "mean")
LATENCIES = {f"latency_{key}_us" for key in PERCENTILES}
ACKNOWLEDGED = {f"ack_{key}_us" for key in PERCENTILES}
WAIT_S = 20
RETAINED_AT_START = 3  # $SYS: who this broker is


@pytest.fixture(scope="module")
def broker() -> Iterator[BackgroundBroker]:
    with BackgroundBroker() as started:
        yield started


def typed(*words: str) -> Result:
    return CliRunner().invoke(main, ["bench", *words])


def where(broker: BackgroundBroker) -> list[str]:
    return ["-h", broker.host, "-p", str(broker.port)]


def reported(result: Result) -> dict[str, str | float]:
    assert (result.exit_code, result.stderr) == (0, "")
    measures: dict[str, str | float] = json.loads(result.stdout)
    return measures


@pytest.mark.parametrize("protocol", ["3", "4", "5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
@pytest.mark.parametrize("pattern", ["pair", "fanout", "fanin", "share"])
def test_flow_delivers_every_message_once(broker: BackgroundBroker, pattern: str, qos: str, protocol: str) -> None:
    words = ["--pattern", pattern, "-q", qos, "-V", protocol, "-c", "2", "--subscribers", "2", "--count", "300"]
    measures = reported(typed("flow", *where(broker), *words, "--json"))
    copies = 1 if pattern in ("pair", "share") else 2
    assert (measures["scenario"], measures["sent"]) == (f"flow {pattern}", 300)
    assert measures["delivered"] == measures["delivered_in_all"] == 300 * copies
    assert measures["mqtt"] == {"3": "3.1", "4": "3.1.1", "5": "5.0"}[protocol]
    assert measures.keys() >= LATENCIES | {"seconds", "delivered_per_s", "load_us_per_message"}
    assert not [name for name in FAULTS if measures.get(name)]


def test_the_json_of_a_flow_has_these_fields_and_no_others(broker: BackgroundBroker) -> None:
    measures = reported(typed("flow", *where(broker), "-q", "1", "-c", "2", "--count", "20", "--json"))
    what = {"scenario", "mqtt", "qos", "publishers", "subscribers", "payload_bytes", "window"}
    how_many = {"seconds", "sent", "acknowledged", "delivered", "expected_in_all", "delivered_in_all"}
    rates = {"sent_per_s", "acknowledged_per_s", "delivered_per_s", "load_us_per_message"}
    faults = {
        "lost",
        "duplicated",
        "out_of_order",
        "foreign",
        "refused",
        "unacknowledged",
        "closed_by_broker",
        "stalls",
    }
    assert measures.keys() == what | how_many | rates | faults | LATENCIES | ACKNOWLEDGED
    texts = {name for name, value in measures.items() if isinstance(value, str)}
    assert texts == {"scenario", "mqtt"}


def test_flow_for_a_time_measures_what_comes_after_the_warming(broker: BackgroundBroker) -> None:
    words = ["-c", "2", "--warm", "0.05", "--duration", "0.2", "--window", "8"]
    measures = reported(typed("flow", *where(broker), *words, "--json"))
    assert 0.2 <= float(measures["seconds"]) < 5
    assert 0 < float(measures["delivered"]) < float(measures["delivered_in_all"])


def test_an_open_loop_keeps_its_rate_and_tells_how_well(broker: BackgroundBroker) -> None:
    words = ["-q", "1", "-c", "3", "--rate", "1000", "--count", "200"]
    measures = reported(typed("flow", *where(broker), *words, "--json"))
    assert (measures["rate_per_s"], measures["sent"], measures["unsent"]) == (1000, 200, 0)
    assert float(measures["seconds"]) >= 0.199, "the last one is due 199 ms after the first"
    assert measures.keys() >= {"lag_p50_us", "lag_max_us"}
    assert "window" not in measures


def test_publish_times_the_acknowledgements(broker: BackgroundBroker) -> None:
    measures = reported(
        typed("publish", *where(broker), "-q", "1", "-c", "2", "--count", "100", "--payload", "0", "--json")
    )
    assert (measures["scenario"], measures["sent"], measures["acknowledged"]) == ("publish", 100, 100)
    assert "delivered" not in measures
    assert measures.keys() >= LATENCIES


def test_connect_lets_all_in_and_out_again(broker: BackgroundBroker) -> None:
    measures = reported(
        typed("connect", *where(broker), "-c", "30", "--pings", "2", "--broker-pid", str(os.getpid()), "--json")
    )
    assert [measures[name] for name in ("clients", "refused", "pings_missing", "not_closed")] == [30, 0, 0, 0]
    assert measures.keys() >= LATENCIES | {"connects_per_s", "cpu_us_per_connect", "rss_bytes_per_client"}


def test_subscribe_counts_what_it_hears(broker: BackgroundBroker) -> None:
    broker.publish("kept/for/bench", "12345", retain=True)
    words = ["-c", "4", "--subscriptions", "3", "-t", "kept/for/{number}"]
    measures = reported(typed("subscribe", *where(broker), *words, "--json"))
    assert (measures["subscriptions"], measures["unacknowledged"]) == (12, 0)
    words = ["-c", "4", "--rate", "500", "-t", "kept/+/bench", "--hold", "0.05"]
    measures = reported(typed("subscribe", *where(broker), *words, "--json"))
    assert (measures["subscriptions"], measures["refused"]) == (4, 0)
    assert measures.keys() >= LATENCIES | {"received", "received_bytes", "received_per_s"}


def test_many_subscriptions_in_one_packet_and_messages_past_them(broker: BackgroundBroker) -> None:
    words = [
        "-c",
        "3",
        "--subscriptions",
        "20",
        "--batch",
        "8",
        "-t",
        "past/{client}/{number}",
        "-t",
        "past/{client}/+/{number}",
    ]
    measures = reported(typed("subscribe", *where(broker), *words, "--flow", "0.05", "--json"))
    assert (measures["subscriptions"], measures["lost"]) == (60, 0)
    assert measures.keys() >= {f"{which}_delivered_per_s" for which in ("past", "bare")}


@pytest.mark.parametrize("protocol", ["3", "4", "5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_retained_messages_are_stored_sent_and_cleared(broker: BackgroundBroker, qos: str, protocol: str) -> None:
    before = broker.counters()["messages.retained"]
    words = ["-q", qos, "-V", protocol, "-n", "500", "--subscribers", "2", "--broker-pid", str(os.getpid())]
    measures = reported(typed("retained", *where(broker), *words, "--subscriber-qos", "1", "--json"))
    assert [measures[name] for name in ("stored", "delivered", "lost", "duplicated")] == [500, 1000, 0, 0]
    assert measures.keys() >= {"stored_per_s", "cpu_us_per_stored", "rss_bytes_per_stored", "cpu_us_per_delivered"}
    wait_until(lambda: broker.counters()["messages.retained"] == before)


@pytest.mark.parametrize("protocol", ["3", "4", "5"])
@pytest.mark.parametrize("qos", ["1", "2"])
def test_what_waits_for_sessions_comes_once_and_in_order(broker: BackgroundBroker, qos: str, protocol: str) -> None:
    words = ["-q", qos, "-V", protocol, "-n", "500", "--subscribers", "2", "--broker-pid", str(os.getpid())]
    measures = reported(typed("offline", *where(broker), *words, "--json"))
    faults = ("lost", "duplicated", "out_of_order", "closed_by_broker")
    assert [measures[name] for name in ("queued", "drained", *faults)] == [1000, 1000, 0, 0, 0, 0]
    assert measures.keys() >= {"queued_per_s", "cpu_us_per_queued", "rss_bytes_per_queued", "cpu_us_per_drained"}
    wait_until(lambda: broker.counters()["sessions.count"] == 0)


def test_persistent_subscribers_leave_no_session_behind(broker: BackgroundBroker) -> None:
    words = ["--persistent", "-q", "1", "-c", "3", "--count", "300"]
    assert reported(typed("flow", *where(broker), *words, "--json"))["delivered"] == 300
    wait_until(lambda: broker.counters()["sessions.count"] == 0)


@pytest.mark.parametrize(
    "command", [("flow", "-c", "3", "--payload", "40000", "--count", "300"), ("connect", "-c", "20")]
)
def test_over_tls_it_believes_an_authority_or_anybody(
    secret: BackgroundBroker, authority: Authority, command: tuple[str, ...]
) -> None:
    client = authority.issue("client")
    for words in (
        ["--cafile", str(authority.ca), "--cert", str(client.cert), "--key", str(client.key)],
        ["--insecure"],
    ):
        measures = reported(typed(*command, *where(secret), "--tls", *words, "--json"))
        assert not [name for name in FAULTS if measures.get(name)]


@pytest.mark.parametrize("load", [("flow", "-q", "2", "-c", "3"), ("offline", "-n", "300"), ("connect", "-c", "20")])
@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_over_websocket_it_is_the_same(authority: Authority, kind: str, load: tuple[str, ...]) -> None:
    server = authority.issue(f"server-{kind}-{load[0]}")
    listener = f"listeners.{kind}.default"
    settings = {"listeners.tcp.default.bind": "off", f"{listener}.bind": "127.0.0.1:0", f"{listener}.path": "/here"}
    words = [*load, "--ws", "--path", "/here", "--json"]
    words += ["--payload", "70000", "--count", "50"] if load[0] == "flow" else []
    if kind == "wss":
        settings |= {f"{listener}.cert_file": str(server.cert), f"{listener}.key_file": str(server.key)}
        words += ["--tls", "--cafile", str(authority.ca)]
    with BackgroundBroker(settings) as broker:
        measures = reported(typed(*words, *where(broker)))
    assert not [name for name in FAULTS if measures.get(name)]


def test_a_path_where_no_websocket_is_is_told() -> None:
    settings = {"listeners.tcp.default.bind": "off", "listeners.ws.default.bind": "127.0.0.1:0"}
    with BackgroundBroker(settings) as broker:
        result = typed("flow", *where(broker), "--ws", "--path", "/wrong")
    assert result.exit_code == 1
    assert "did not upgrade to WebSocket: HTTP/1.1 404" in result.stderr
    assert typed("flow", "--ws", "--path", "wrong").exit_code == 2


def test_a_certificate_that_nobody_trusted_signed_is_not_believed(secret: BackgroundBroker, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    result = typed("connect", *where(secret), "-c", "2", "--tls", "--cafile", str(other.ca), "--json")
    assert (result.exit_code, json.loads(result.stdout)["clients"]) == (1, 0)
    assert json.loads(result.stdout)["first_refusal"].startswith("TLS: invalid peer certificate")


def test_tls_is_not_left_half_said(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("nothing")
    for words in (["--tls"], ["--insecure"], ["--tls", "--insecure", "--cafile", str(pem)]):
        assert typed("flow", *words).exit_code == 2
    result = typed("flow", "--tls", "--insecure", "--cert", str(pem))
    assert "--cert and --key: give both or none" in result.stderr


def test_retained_messages_are_cleared_at_the_end(broker: BackgroundBroker) -> None:
    before = broker.counters()["messages.retained"]
    reported(typed("publish", *where(broker), "--retain", "-q", "1", "-c", "5", "--count", "50", "--json"))
    wait_until(lambda: broker.counters()["messages.retained"] == before)


def test_a_unix_socket_and_a_source_address_can_be_named(tmp_path: Path, broker: BackgroundBroker) -> None:
    with BackgroundBroker(bind=f"unix:{tmp_path}/s") as other:
        assert reported(typed("connect", "--unix", other.host, "-c", "3", "--json"))["clients"] == 3
    words = ["--source", "127.0.0.2", "--source", "127.0.0.3", "-c", "4", "--hold", "30"]
    with subprocess.Popen(
        [command(), "bench", "connect", *where(broker), *words], stdout=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: len(broker.clients()) == 4)
        peers = {client.peer.rpartition(":")[0] for client in broker.clients()}
        process.send_signal(signal.SIGINT)
    assert peers == {"127.0.0.2", "127.0.0.3"}


def test_who_is_not_let_in_makes_the_exit_code_1(tmp_path: Path) -> None:
    closed = {"auth.allow_anonymous": False}
    with BackgroundBroker(closed) as broker:
        counted = typed("connect", *where(broker), "-c", "3", "--json")
        assert counted.exit_code == 1
        assert json.loads(counted.stdout)["refused"] == 3
        assert json.loads(counted.stdout)["first_refusal"] == "not authorized (0x87)"
        failed = typed("flow", *where(broker))
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr.startswith("error: the broker let in 0 of 50 clients, then: not authorized (0x87)")


def test_lost_messages_make_the_exit_code_1_unless_they_may(tmp_path: Path) -> None:
    small = {"mqtt.max_mqueue_len": 1, "mqtt.max_inflight": 1}
    # Twenty publishers fill the one subscriber's queue faster than its acknowledgements empty it.
    words = ["--pattern", "fanin", "-c", "20", "-q", "1", "--count", "4000", "--patience", "0.3", "--json"]
    with BackgroundBroker(small) as broker:
        result = typed("flow", *where(broker), *words)
        lost = json.loads(result.stdout)["lost"]
        assert (result.exit_code, lost) == (1, broker.counters()["delivery.dropped.queue_full"])
        assert lost > 0
        assert typed("flow", *where(broker), *words, "--allow-loss").exit_code == 0


def test_what_cannot_be_done_is_a_mistake_of_the_command() -> None:
    assert typed("flow", "--qos", "3").exit_code == 2
    result = typed("flow", "--payload", "3")
    assert result.exit_code == 2
    assert "payload: found 3, allowed is 16..=16777216" in result.stderr
    assert typed("connect", "--source", "nowhere").exit_code == 2


def test_without_a_broker_it_says_so_in_one_line() -> None:
    result = typed("flow", "-p", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: cannot connect to 127.0.0.1:1: ")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_ends_it_with_130_and_what_it_has(broker: BackgroundBroker) -> None:
    words = ["flow", *where(broker), "-c", "2", "--warm", "0", "--duration", "600", "--json"]
    received = broker.counters()["messages.received"]
    with subprocess.Popen([command(), "bench", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: broker.counters()["messages.received"] > received + 1000)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (130, b"")
    measures = json.loads(out)
    assert measures["delivered"] > 0
    assert measures["lost"] == 0


@pytest.mark.parametrize("load", ["retained", "offline"])
def test_ctrl_c_leaves_neither_messages_nor_sessions_behind(load: str) -> None:
    with BackgroundBroker({"mqtt.max_mqueue_len": 10_000_000}) as broker:
        words = ["bench", load, *where(broker), "-q", "1", "-n", "100000000", "--json"]
        with subprocess.Popen([command(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until(lambda: broker.counters()["messages.received"] > 1000)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, err) == (130, b"")
        measures = json.loads(out)
        assert [measures[name] for name in ("lost", "duplicated", "unacknowledged")] == [0, 0, 0]
        wait_until(lambda: broker.counters()["messages.retained"] == RETAINED_AT_START)
        wait_until(lambda: broker.counters()["sessions.count"] == 0)


def test_on_a_terminal_a_line_tells_how_far_it_is(broker: BackgroundBroker) -> None:
    terminal, its_end = pty.openpty()
    words = ["flow", *where(broker), "-c", "2", "--duration", "0.5", "--warm", "0.3", "--json"]
    with subprocess.Popen([command(), "bench", *words], stdout=subprocess.PIPE, stderr=its_end) as process:
        out, _ = process.communicate(timeout=WAIT_S)
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "4 clients" in shown
    assert shown.endswith("\r\x1b[K"), "the line is gone when the report comes"
    assert json.loads(out)["lost"] == 0


def command() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "whimbrel")


# --- what people read ------------------------------------------------------------------------------------------------

PROGRESS: dict[str, str | int | float] = {
    "phase": "measuring",
    "connected": 100,
    "sent": 12_000,
    "acknowledged": 0,
    "delivered": 11_000,
    "latency_p50_us": 80.0,
    "latency_p99_us": 1500.0,
}


def test_the_table_names_units_and_faults() -> None:
    measures: dict[str, str | int | float] = {
        "scenario": "flow pair",
        "delivered": 12345,
        "delivered_per_s": 6172.5,
        "latency_p50_us": 61.234,
        "latency_max_us": 12_345.6,
        "lost": 3,
        "refused": 0,
        "first_refusal": "evil\x1b[31m",
    }
    assert list(table(measures)) == [
        "scenario     flow pair",
        "delivered    12,345",
        "delivered/s  6,172",
        "latency      p50 61.2 us  max 12.3 ms",
        "",
        "3 messages that did not arrive",
        "The first reason given: evil\\u001b[31m",
    ]


def test_a_table_without_faults_says_so() -> None:
    assert list(table({"scenario": "connect", "lost": 0}))[-1] == "Nothing was lost, duplicated, reordered or refused."


def test_the_live_line_has_the_rate_since_the_line_before() -> None:
    assert text(PROGRESS, elapsed_s=2.04, rate=5500) == (
        "measuring 2.0 s  100 clients  12,000 sent  11,000 delivered  5,500/s  p99 1.5 ms"
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_line_is_written_four_times_a_second_at_most() -> None:
    terminal, times = Terminal(), iter([0.0, 1.0, 1.1, 1.3])
    line = LiveLine(terminal, clock=lambda: next(times))
    for delivered in (1000, 1100, 1600):
        line.show({**PROGRESS, "delivered": delivered})
    line.clear()
    lines = terminal.getvalue().split("\r\x1b[K")
    assert [words.split("  ")[4] for words in lines if words] == ["1,000/s", "2,000/s"]
    assert lines[-1] == ""


def test_nobody_is_told_where_nobody_looks() -> None:
    stream = io.StringIO()
    line = LiveLine(stream, clock=lambda: 1.0)
    line.show(PROGRESS)
    line.clear()
    assert stream.getvalue() == ""
