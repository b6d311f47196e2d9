"""`whimbrel pub`, `sub` and `ctl` as programs, against the running product."""

import json
import signal
import subprocess
import sys

import pytest

from tests.wire.product import Product, command

WAIT_S = 15


def ran(*words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([command(), *words], capture_output=True, text=True, timeout=WAIT_S, check=False, input=stdin)


def where(product: Product) -> list[str]:
    return ["-h", product.host, "-p", str(product.port)]


def subscribing(product: Product, name: str, *words: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [command(), "sub", *where(product), "-i", name, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    product.wait_subscribed(name)
    return process


@pytest.mark.parametrize("protocol", ["4", "5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_what_pub_sends_sub_prints(product: Product, name: str, protocol: str, qos: str) -> None:
    more = ["-V", protocol, "-q", qos]
    with subscribing(product, name, *more, "-t", f"{name}/#", "-v", "-C", "1") as subscriber:
        sent = ran("pub", *where(product), *more, "-t", f"{name}/a", "-m", "it works")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert subscriber.communicate(timeout=WAIT_S) == (f"{name}/a it works\n", "")
        assert subscriber.returncode == 0


def test_lines_of_standard_input_are_messages_in_order(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name, "-q", "1", "-C", "3") as subscriber:
        ran("pub", *where(product), "-t", name, "-q", "1", "--stdin-line", stdin="a\nb\nc\n")
        assert subscriber.communicate(timeout=WAIT_S)[0] == "a\nb\nc\n"


def test_sub_ends_with_27_when_its_time_is_up(product: Product, name: str) -> None:
    result = ran("sub", *where(product), "-t", name, "-W", "0.2")
    assert (result.returncode, result.stdout, result.stderr) == (27, "", "")


def test_ctrl_c_ends_sub_quietly_with_130(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name) as subscriber:
        subscriber.send_signal(signal.SIGINT)
        assert subscriber.communicate(timeout=WAIT_S) == ("", "")
        assert subscriber.returncode == 130


def test_without_a_broker_pub_says_so_in_one_line() -> None:
    result = ran("pub", "-p", "1", "-t", "a", "-m", "x")
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot connect to 127.0.0.1:1: ")
    assert result.stderr.count("\n") == 1


def test_ctl_shows_a_client_on_the_way_from_worker_to_terminal(product: Product, name: str) -> None:
    with subscribing(product, name, "-t", name) as subscriber:
        result = ran("ctl", "--data-dir", str(product.data_dir), "clients", "--json")
        listed = {one["client_id"]: one for one in json.loads(result.stdout)}
        assert (listed[name]["subscriptions"], listed[name]["protocol_version"]) == (1, 5)
        assert ran("ctl", "--data-dir", str(product.data_dir), "kick", name).stdout == f"kicked {name}\n"
        assert subscriber.wait(WAIT_S) == 1
        assert name not in product.clients()


def test_version_is_printed_and_the_module_is_the_command() -> None:
    shown = ran("version")
    as_module = subprocess.run(
        [sys.executable, "-m", "whimbrel", "version"], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert (shown.returncode, shown.stdout) == (0, as_module.stdout)
    assert shown.stdout.startswith("whimbrel ")
