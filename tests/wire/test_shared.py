"""Shared subscriptions as mosquitto_sub and paho-mqtt see them, in both versions."""

import subprocess
from collections import Counter
from contextlib import ExitStack

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.wire.paho_client import V4, V5, PahoClient
from tests.wire.product import Product

WAIT_S = 10
EACH = 10


@pytest.mark.parametrize("version", ["311", "5"])
@pytest.mark.parametrize("prefix", ["$share/g", "$queue"])
def test_three_mosquitto_subs_share_the_lines_evenly(
    product: Product, mosquitto_pub: str, mosquitto_sub: str, name: str, version: str, prefix: str
) -> None:
    where = ["-h", product.host, "-p", str(product.port), "-V", version, "-q", "1"]
    with ExitStack() as stack:
        members = []
        for number in range(3):
            words = [mosquitto_sub, *where, "-i", f"{name}-{number}", "-t", f"{prefix}/{name}/#", "-C", str(EACH)]
            process = subprocess.Popen([*words, "-W", str(WAIT_S)], stdout=subprocess.PIPE, text=True)
            members.append(stack.enter_context(process))
            product.wait_subscribed(f"{name}-{number}")
        lines = [f"{number:02d}" for number in range(3 * EACH)]
        publish = [mosquitto_pub, *where, "-t", f"{name}/a", "-l"]
        subprocess.run(publish, input="\n".join(lines) + "\n", text=True, check=True, timeout=WAIT_S)
        heard = [member.communicate(timeout=WAIT_S)[0].split() for member in members]
    assert [len(part) for part in heard] == [EACH] * 3
    assert sorted(line for part in heard for line in part) == lines
    assert all(part == sorted(part) for part in heard)


@pytest.mark.parametrize("version", [V4, V5], ids=["3.1.1", "5.0"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_clients_share_and_the_rest_goes_on_when_one_leaves(
    product: Product, name: str, version: MQTTProtocolVersion, qos: int
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(PahoClient(f"{name}-{number}", version)) for number in range(3)]
        for client in clients:
            assert client.connect(product.host, product.port)[0] == 0
        publisher, first, second = clients
        for client in (first, second):
            assert client.subscribe(f"$share/{name}/{name}/+", qos) == qos
        for number in range(2 * EACH):
            publisher.publish(f"{name}/a", b"%d" % number, qos=qos)
        heard = Counter(client.message().payload for client in (first, second) for _ in range(EACH))
        assert heard == Counter(b"%d" % number for number in range(2 * EACH))
        first.unsubscribe(f"$share/{name}/{name}/+")
        for number in range(EACH):
            publisher.publish(f"{name}/a", b"%d" % number, qos=qos)
        assert [second.message().payload for _ in range(EACH)] == [b"%d" % number for number in range(EACH)]
        assert not first.has_message()
