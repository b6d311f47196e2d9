"""An embedded broker: what a program sees of it."""

import asyncio
import socket
import statistics
import time
from pathlib import Path

import pytest

import whimbrel
from tests.embed.entering import entered
from tests.raw_client import DISCONNECT, RawClient
from tests.raw_packets import connect
from tests.waiting import until
from whimbrel.errors import ClientNotFound, StartError
from whimbrel.hooks.points import Answer
from whimbrel.settings import SettingsError

ADMINISTRATIVE_ACTION = 0x98
NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED = 0x10, 0x87


async def test_a_subscription_is_in_force_as_soon_as_it_is_made(broker: whimbrel.Broker) -> None:
    messages = broker.subscribe("a/#")
    assert await broker.publish("a/b", "hello", qos=1, user_properties=[("k", "v")]) == 1
    message = await anext(messages)
    assert (message.topic, message.payload, message.qos) == ("a/b", b"hello", 1)
    assert (message.client_id, message.user_properties) == ("", [("k", "v")])


async def test_messages_cross_between_clients_and_the_program_both_ways(broker: whimbrel.Broker) -> None:
    async with entered(broker, "c1") as (client,), broker.subscribe("up/+") as up:
        await asyncio.to_thread(client.subscribe, "down/#")
        await broker.publish("down/1", b"\x00\xff")
        assert await asyncio.to_thread(client.message) == ("down/1", b"\x00\xff")
        await asyncio.to_thread(client.publish, "up/1", b"x")
        message = await anext(up)
        assert (message.topic, message.payload, message.client_id) == ("up/1", b"x", "c1")


async def test_iteration_ends_when_the_broker_stops() -> None:
    broker = whimbrel.Broker()
    await broker.start()
    messages = broker.subscribe("#")
    reader = asyncio.ensure_future(messages.batch())
    await broker.stop()
    assert await reader == []


async def test_a_closed_subscription_takes_nothing_more(broker: whimbrel.Broker) -> None:
    async with broker.subscribe("a"):
        assert await broker.publish("a", b"") == 1
    await until_receivers(broker, "a", 0)


async def until_receivers(broker: whimbrel.Broker, topic: str, count: int) -> None:
    async with asyncio.timeout(5):
        while await broker.publish(topic, b"") != count:
            pass


async def test_a_full_subscription_drops_and_counts(broker: whimbrel.Broker) -> None:
    messages = broker.subscribe("a", capacity=2)
    for number in range(50):
        await broker.publish("a", str(number))
    await until(lambda: messages.dropped > 0)
    first = await anext(messages)
    assert first.payload == b"0"


@pytest.mark.parametrize(("topic", "qos"), [("a/#", 0), ("", 0), ("a", 3), ("a\0b", 0)])
async def test_an_invalid_publish_is_a_value_error(broker: whimbrel.Broker, topic: str, qos: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await broker.publish(topic, b"", qos=qos)


@pytest.mark.parametrize("filters", [("a/#/b",), ("a+",), ("",), ("$share/g/a",), ()])
async def test_an_invalid_filter_is_a_value_error(broker: whimbrel.Broker, filters: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        broker.subscribe(*filters)


async def test_clients_are_listed_with_what_is_known_about_them(broker: whimbrel.Broker) -> None:
    async with entered(broker, "c1", "c2") as (first, _):
        await asyncio.to_thread(first.subscribe, "a")
        listed = {record.client_id: record for record in await broker.clients()}
        assert listed.keys() == {"c1", "c2"}
        assert (listed["c1"].subscriptions, listed["c1"].is_connected, listed["c1"].protocol_version) == (1, True, 5)
        assert listed["c1"].listener == "tcp:default"


async def test_kick_ends_the_connection_and_the_session(broker: whimbrel.Broker) -> None:
    async with entered(broker, "c1") as (client,):
        await broker.kick("c1")
        packet = await asyncio.to_thread(client.expect, DISCONNECT)
        assert packet.body[0] == ADMINISTRATIVE_ACTION
        assert await asyncio.to_thread(client.packet) is None
    assert await broker.clients() == []
    with pytest.raises(ClientNotFound):
        await broker.kick("c1")


async def test_counters_count(broker: whimbrel.Broker) -> None:
    async with entered(broker, "c1") as (client,):
        before = broker.counters()
        await asyncio.to_thread(client.publish, "a", b"", qos=1)
        await asyncio.to_thread(client.packet)
        await until(lambda: broker.counters()["messages.received"] == before["messages.received"] + 1)
    assert all(isinstance(count, int) for count in before.values())


async def test_several_brokers_live_in_one_process_and_do_not_hear_each_other() -> None:
    async with whimbrel.Broker() as one, whimbrel.Broker() as other:
        assert one.port != other.port
        here, there = one.subscribe("a"), other.subscribe("a")
        await one.publish("a", b"one")
        await other.publish("a", b"other")
        assert ((await anext(here)).payload, (await anext(there)).payload) == (b"one", b"other")


async def test_a_unix_socket_takes_the_place_of_a_port(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    async with whimbrel.Broker(bind=f"unix:{path}") as broker:
        assert (broker.host, broker.port, broker.url) == (str(path), 0, f"mqtt+unix://{path}")
        client = await asyncio.to_thread(RawClient, str(path))
        assert await asyncio.to_thread(client.connect, "c1") == (0, False)
        client.close()


async def test_start_and_stop_take_at_most_fifty_milliseconds() -> None:
    taken_s = []
    for _ in range(20):
        began = time.perf_counter()
        async with whimbrel.Broker():
            pass
        taken_s.append(time.perf_counter() - began)
    assert statistics.median(taken_s) <= 0.050


async def test_the_url_names_the_real_port(broker: whimbrel.Broker) -> None:
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert broker.listeners == {"tcp:default": f"127.0.0.1:{broker.port}"}


async def test_a_taken_port_is_one_sentence_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError) as taken:
            await whimbrel.Broker(bind=f"127.0.0.1:{port}").start()
    assert str(taken.value) == (
        f"cannot listen on 127.0.0.1:{port} (tcp:default): address already in use; stop the program that uses it, "
        "or choose another with --set listeners.tcp.default.bind=127.0.0.1:PORT"
    )


async def test_a_broker_starts_once_and_says_when_it_does_not_run() -> None:
    broker = whimbrel.Broker()
    with pytest.raises(whimbrel.WhimbrelError, match="not running"):
        broker.counters()
    async with broker:
        with pytest.raises(whimbrel.WhimbrelError, match="starts once"):
            await broker.start()
    with pytest.raises(whimbrel.WhimbrelError, match="starts once"):
        await broker.start()


def test_wrong_settings_are_refused_when_the_broker_is_made() -> None:
    with pytest.raises(SettingsError, match=r"mqtt\.max_qos_allowed"):
        whimbrel.Broker({"mqtt.max_qos_allowed": 3})


async def test_listeners_of_other_kinds_say_their_url() -> None:
    settings = {"listeners.ws.web.bind": "127.0.0.1:0", "listeners.ws.web.path": "/here"}
    async with whimbrel.Broker(settings, bind=None) as broker:
        assert broker.url == f"ws://127.0.0.1:{broker.port}/here"
        assert await broker.reload_certificates() == 0


async def test_a_reload_holds_for_connections_from_then_on(broker: whimbrel.Broker) -> None:
    async with entered(broker, "before") as (before,):
        found = broker.reload({"mqtt.max_qos_allowed": 0, "workers": 2})
        assert (found.now, found.at_restart) == (("mqtt.max_qos_allowed",), ("workers",))
        async with entered(broker, "after") as (after,):
            assert await asyncio.to_thread(before.subscribe, "a", qos=1) == 1
            assert await asyncio.to_thread(after.subscribe, "a", qos=1) == 0
    with pytest.raises(SettingsError):
        broker.reload({"mqtt.max_qos_allowed": 3})


@pytest.mark.parametrize(
    "settings",
    [
        {"listeners.unix.default.bind": "off", "listeners.tcp.default.bind": "off"},
        {"listeners": {"tcp": {"default": {"bind": "off"}}}},
        {"listeners.tcp": {"default.bind": "off"}},
    ],
)
async def test_an_address_in_the_settings_wins_unless_bind_is_given(settings: dict[str, object]) -> None:
    async with whimbrel.Broker(settings) as broker:
        assert "tcp:default" not in broker.listeners
    async with whimbrel.Broker({"listeners.tcp.default.bind": "off"}, bind="127.0.0.1:0") as broker:
        assert "tcp:default" in broker.listeners


async def test_settings_of_another_listener_leave_the_free_port() -> None:
    async with whimbrel.Broker({"listeners.tcp.other.bind": "127.0.0.1:0"}) as broker:
        assert set(broker.listeners) == {"tcp:default", "tcp:other"}


async def test_a_stop_that_is_cancelled_ends_all_the_same_and_a_second_one_waits() -> None:
    ended = asyncio.Event()

    async def gone(_batch: object) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        ended.set()

    broker = whimbrel.Broker(hooks={"disconnected": gone})
    await broker.start()
    async with entered(broker, "c1"):
        first = asyncio.ensure_future(broker.stop())
        await asyncio.sleep(0)
        first.cancel()
        await broker.stop()
        assert ended.is_set()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_stop_on_another_loop_is_refused(broker: whimbrel.Broker) -> None:
    def elsewhere() -> None:
        asyncio.run(broker.stop())

    with pytest.raises(whimbrel.WhimbrelError, match="the event loop that started it"):
        await asyncio.to_thread(elsewhere)
    assert await broker.publish("a") == 0


async def test_the_stop_waits_for_what_it_cancels() -> None:
    entered_hook, ended = asyncio.Event(), []

    async def never(_question: object) -> Answer:
        entered_hook.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            ended.append("hook")
        return whimbrel.IGNORE

    async with whimbrel.Broker(hooks={"authenticate": never}) as broker:
        with RawClient((broker.host, broker.port), level=5) as client:
            client.send_octets(connect("c1", level=5))
            await entered_hook.wait()
            await broker.stop()
            assert ended == ["hook"]


async def test_other_hooks_are_asked_again_about_what_is_remembered(broker: whimbrel.Broker) -> None:
    async def yes(_question: object) -> Answer:
        return whimbrel.Allow()

    async def no(_question: object) -> Answer:
        return whimbrel.Deny()

    first = broker.hook.register("authorize", yes)
    async with entered(broker, "c1") as (client,):
        assert await asyncio.to_thread(client.publish_confirmed, "a", b"") in (0, NO_MATCHING_SUBSCRIBERS)
        broker.hook.remove(first)
        broker.hook.register("authorize", no)
        assert await asyncio.to_thread(client.publish_confirmed, "a", b"") == NOT_AUTHORIZED


@pytest.mark.parametrize(("filters", "capacity"), [(["a"], 0), (["a\0b"], 1), (["$share/g/a"], 1), ([], 1)])
async def test_a_subscription_that_cannot_work_is_refused(
    broker: whimbrel.Broker, filters: list[str], capacity: int
) -> None:
    with pytest.raises(ValueError, match=r"capacity is 0|is no filter for a program|at least one topic filter"):
        broker.subscribe(*filters, capacity=capacity)


async def test_payloads_may_be_any_octets_and_must_fit_into_a_packet(broker: whimbrel.Broker) -> None:
    messages = broker.subscribe("a")
    for payload in (b"x", bytearray(b"x"), memoryview(b"x"), "x"):
        await broker.publish("a", payload)
        assert (await anext(messages)).payload == b"x"
    with pytest.raises(ValueError, match="the payload has 268,435,456 bytes"):
        await broker.publish("a", bytes(268_435_456))
    with pytest.raises(ValueError, match="qos is 3; it is 0, 1 or 2"):
        await broker.publish("a", qos=3)


def test_a_bind_that_is_a_number_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="bind is 1883; it is text such as"):
        whimbrel.Broker(bind=1883)  # type: ignore[arg-type]
