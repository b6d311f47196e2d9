"""The broker as paho-mqtt sees it, in both versions of the protocol."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.wire.paho_client import V4, V5, PahoClient
from tests.wire.product import Product

Enter = Callable[..., PahoClient]

BOTH = pytest.mark.parametrize("version", [V4, V5], ids=["3.1.1", "5.0"])


@pytest.fixture
def enter(product: Product) -> Iterator[Enter]:
    """Make a connected client; it is disconnected when the test ends."""
    with ExitStack() as stack:

        def entered(client_id: str, version: MQTTProtocolVersion, *, clean: bool = True) -> PahoClient:
            client = stack.enter_context(PahoClient(client_id, version, clean=clean))
            assert client.connect(product.host, product.port)[0] == 0
            return client

        yield entered


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_arrives_whole_at_each_quality_of_service(
    enter: Enter, name: str, version: MQTTProtocolVersion, qos: int
) -> None:
    publisher, subscriber = enter(f"{name}-p", version), enter(f"{name}-s", version)
    assert subscriber.subscribe(f"{name}/+", qos) == qos
    payload = bytes(range(256)) * 40
    publisher.publish(f"{name}/a", payload, qos=qos)
    message = subscriber.message()
    assert (message.topic, message.payload, message.qos, message.retain) == (f"{name}/a", payload, qos, False)


@BOTH
@pytest.mark.parametrize(("sent", "granted"), [(1, 0), (0, 1), (2, 1), (1, 2)])
def test_delivery_has_the_lower_quality_of_publish_and_subscription(
    enter: Enter, name: str, version: MQTTProtocolVersion, sent: int, granted: int
) -> None:
    client = enter(name, version)
    client.subscribe(name, granted)
    client.publish(name, b"x", qos=sent)
    assert client.message().qos == min(sent, granted)


@BOTH
def test_many_messages_keep_their_order(enter: Enter, name: str, version: MQTTProtocolVersion) -> None:
    publisher, subscriber = enter(f"{name}-p", version), enter(f"{name}-s", version)
    subscriber.subscribe(name, 1)
    for number in range(500):
        publisher.paho.publish(name, str(number), 1)
    assert [int(subscriber.message().payload) for _ in range(500)] == list(range(500))


@BOTH
@pytest.mark.parametrize(
    ("topic_filter", "hits", "misses"),
    [
        ("{}/+/c", ["{}/a/c", "{}//c"], ["{}/a/b/c", "{}/c"]),
        ("{}/a/#", ["{}/a", "{}/a/b", "{}/a/b/c"], ["{}/b", "{}/ab"]),
        ("{}/+", ["{}/a", "{}/"], ["{}", "{}/a/b"]),
    ],
)
def test_wildcards_match_whole_levels(
    enter: Enter,
    name: str,
    version: MQTTProtocolVersion,
    topic_filter: str,
    hits: list[str],
    misses: list[str],
) -> None:
    client = enter(name, version)
    client.subscribe(topic_filter.format(name), 1)
    client.subscribe(f"end/{name}", 1)
    topics = [topic.format(name) for topic in misses + hits]
    for topic in [*topics, f"end/{name}"]:
        client.publish(topic, b"", qos=1)
    arrived = [client.message().topic for _ in range(len(hits) + 1)]
    assert arrived == [*(topic.format(name) for topic in hits), f"end/{name}"]


@BOTH
def test_after_unsubscribing_nothing_comes(enter: Enter, name: str, version: MQTTProtocolVersion) -> None:
    client = enter(name, version)
    client.subscribe(f"{name}/a", 1)
    client.subscribe(f"{name}/b", 1)
    client.unsubscribe(f"{name}/a")
    client.publish(f"{name}/a", b"", qos=1)
    client.publish(f"{name}/b", b"", qos=1)
    assert client.message().topic == f"{name}/b"


@BOTH
def test_a_retained_message_waits_for_subscribers_until_an_empty_one_clears_it(
    enter: Enter, name: str, version: MQTTProtocolVersion
) -> None:
    client = enter(name, version)
    client.publish(f"{name}/a", b"kept", qos=1, retain=True)
    client.subscribe(f"{name}/+", 1)
    message = client.message()
    assert (message.payload, message.retain) == (b"kept", True)
    client.publish(f"{name}/a", b"", qos=1, retain=True)
    assert client.message().payload == b""
    late = enter(f"{name}-late", version)
    late.subscribe(f"{name}/+", 1)
    late.publish(f"{name}/end", b"", qos=1)
    assert late.message().topic == f"{name}/end"


@BOTH
def test_a_will_is_published_when_the_connection_dies_and_not_after_disconnect(
    product: Product, enter: Enter, name: str, version: MQTTProtocolVersion
) -> None:
    watcher = enter(f"{name}-w", version)
    watcher.subscribe(f"{name}/#", 1)
    for client_id in ("polite", "crash"):
        client = PahoClient(f"{name}-{client_id}", version)
        client.paho.will_set(f"{name}/{client_id}", b"gone", 1)
        assert client.connect(product.host, product.port)[0] == 0
        if client_id == "crash":
            client.drop()
        else:
            client.__exit__(None, None, None)
    message = watcher.message()
    assert (message.topic, message.payload) == (f"{name}/crash", b"gone")


@BOTH
def test_a_second_connection_takes_the_client_id_over(enter: Enter, name: str, version: MQTTProtocolVersion) -> None:
    first = enter(name, version)
    # Otherwise paho comes back and takes the id over in its turn.
    first.paho.reconnect_delay_set(60, 60)
    second = enter(name, version)
    assert first.disconnected.wait(10)
    second.subscribe(name, 1)
    second.publish(name, b"alive", qos=1)
    assert second.message().payload == b"alive"


@BOTH
def test_a_session_that_is_kept_queues_what_came_meanwhile(
    product: Product, enter: Enter, name: str, version: MQTTProtocolVersion
) -> None:
    with PahoClient(name, version, clean=False) as client:
        assert client.connect(product.host, product.port, session_expiry_s=60) == (0, False)
        client.subscribe(name, 1)
    enter(f"{name}-p", version).publish(name, b"meanwhile", qos=1)
    with PahoClient(name, version, clean=False) as client:
        assert client.connect(product.host, product.port, session_expiry_s=60) == (0, True)
        assert client.message().payload == b"meanwhile"


def test_messages_cross_the_versions(enter: Enter, name: str) -> None:
    old, new = enter(f"{name}-4", V4), enter(f"{name}-5", V5)
    for subscriber, publisher in ((old, new), (new, old)):
        subscriber.subscribe(name, 1)
        publisher.publish(name, b"across", qos=1)
        assert subscriber.message().payload == b"across"
        subscriber.unsubscribe(name)
