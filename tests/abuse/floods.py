"""Attacks with too much of what is allowed: subscriptions, sessions, retained messages, wills, queues, groups.

Knows the limits that it runs against; they are small where the default would only take longer.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from tests import raw_packets
from tests.abuse.attack import Attack, Target, connect_octets, publish_all, subscribe_many
from tests.raw_client import CONNACK, DISCONNECT, UNSUBACK, RawClient
from tests.raw_packets import Property, Will

QUOTA_EXCEEDED, TAKEN_OVER = 0x97, 0x8E
SUBSCRIPTIONS_MAX = 100_000
# Without a store: it is about the memory of retained messages, and a store keeps its caches of some 48 MiB.
RETAINED = ("retained.max_messages=20000", "retained.max_size=8MB", "storage.durability=off")
RETAINED_MAX = 20_000
SESSIONS = ("mqtt.max_sessions=100",)
SESSIONS_MAX = 100
WILL_BYTES = 60_000


def subscriptions_of_one(target: Target) -> None:
    """One client to its limit, in large packets, and beyond."""
    with target.entered("greedy") as client:
        codes = subscribe_many(client, (f"flood/{n}/+/x" for n in range(SUBSCRIPTIONS_MAX)), size=25_000)
        assert set(codes) == {0}
        assert set(subscribe_many(client, (f"beyond/{n}" for n in range(10)))) == {QUOTA_EXCEEDED}


def subscriptions_of_many(target: Target) -> None:
    """Many clients, many filters, many of them the same; all clients leave at once."""
    with ExitStack() as stack:
        for number in range(100 * target.scale):
            client = stack.enter_context(target.entered(f"many-{number}"))
            subscribe_many(client, (f"many/{n}/{number % 7}/#" for n in range(100)))


def churn(target: Target) -> None:
    """Subscribe and unsubscribe without a pause: every publish of others has to be looked up anew."""
    filters = [f"churn/{n}/+" for n in range(20)]
    leave = raw_packets.packet(0xA2, b"\0\1\0" + b"".join(raw_packets.text(one) for one in filters))
    with target.entered("churn") as client:
        for _ in range(500 * target.scale):
            client.subscribe_all([(one, 1) for one in filters])
            client.send_octets(leave)
            client.expect(UNSUBACK)


def retained(target: Target) -> None:
    """Retained messages up to the limit in number and in bytes, beyond it, read by wildcards, and all cleared."""
    topics = [f"keep/{n}" for n in range(RETAINED_MAX + 100)]
    with target.entered("keeper") as client:
        publish_all(client, ((topic, b"x") for topic in topics), retain=True)
        for number in range(5 * target.scale):
            with target.entered(f"reader-{number}") as reader:
                reader.subscribe("+/#")
        publish_all(client, ((topic, b"") for topic in topics), retain=True)
        large = [(f"large/{n}", bytes(100_000)) for n in range(100)]
        publish_all(client, large, retain=True)
        publish_all(client, ((topic, b"") for topic, _ in large), retain=True)


def wills(target: Target) -> None:
    """Clients with large wills, retained and not, vanish at once."""
    with ExitStack() as stack:
        for number in range(100 * target.scale):
            client = stack.enter_context(target.client())
            client.connect(f"mortal-{number}", will=Will(f"will/{number}", bytes(WILL_BYTES), 1))


def sessions(target: Target) -> None:
    """Sessions of assigned names that outlive their connections, up to the limit; then they expire."""
    expiry = {Property.SESSION_EXPIRY_INTERVAL: 2}
    refused = 0
    for _ in range(SESSIONS_MAX * 2):
        with target.client() as client:
            client.send_octets(raw_packets.connect("", level=5, properties=expiry))
            # The property with the value 0 says that the session ends with the connection.
            refused += b"\x11\0\0\0\0" in client.expect(CONNACK).body
    assert refused >= SESSIONS_MAX / 2, f"{refused} were told that their session ends with the connection"


def absent(target: Target) -> None:
    """More messages for absent sessions than their queues hold."""
    names = [f"absent-{number}" for number in range(20)]
    for name in names:
        with target.client(level=4) as client:
            client.connect(name, clean=False)
            client.subscribe("absent/#", qos=1)
            client.disconnect()
    with target.entered("sender") as sender:
        publish_all(sender, ((f"absent/{n}", bytes(1_000)) for n in range(3_000 * target.scale)))
    for name in names:
        with target.entered(name, level=4) as client:  # A clean start discards what waits.
            client.disconnect()


def groups(target: Target) -> None:
    """A thousand groups, joined, left, and published to, again and again."""
    with ExitStack() as stack:
        members = [stack.enter_context(target.entered(f"member-{number}")) for number in range(4)]
        publisher = stack.enter_context(target.entered("to-groups"))
        for _ in range(3 * target.scale):
            for member in members:
                subscribe_many(member, (f"$share/g{n}/groups/{n % 10}" for n in range(1_000)))
            publish_all(publisher, ((f"groups/{n}", b"x") for n in range(10)))
            for member in members:
                leave_groups(member)


def leave_groups(member: RawClient) -> None:
    """UNSUBSCRIBE from all of them; messages may come before the answer."""
    names = b"".join(raw_packets.text(f"$share/g{n}/groups/{n % 10}") for n in range(1_000))
    member.send_octets(raw_packets.packet(0xA2, b"\0\1\0" + names))
    while (packet := member.packet()) is not None and packet.kind != UNSUBACK:
        pass
    assert packet is not None, "the broker closed a member's connection"


def fan_out(target: Target) -> None:
    """Bursts of small messages to many who do not read: each is little work, all of them in one read are much."""
    burst = raw_packets.publish("fan", b"x", level=5) * 5_000
    with ExitStack() as stack:
        for number in range(100 * target.scale):
            listener = stack.enter_context(target.entered(f"fan-{number}"))
            listener.subscribe("fan")
        publisher = stack.enter_context(target.entered("fan-publisher"))
        for _ in range(4):
            publisher.send_octets(burst)
        publisher.sent_so_far()


def replays(target: Target) -> None:
    """Many subscribe to many retained messages and read none of them."""
    topics = [f"replay/{n}" for n in range(1_000)]
    with ExitStack() as stack:
        keeper = stack.enter_context(target.entered("replay-keeper"))
        publish_all(keeper, ((topic, bytes(1_000)) for topic in topics), retain=True)
        for number in range(200 * target.scale):
            reader = stack.enter_context(target.entered(f"replay-{number}"))
            reader.subscribe("replay/#", qos=1)
        keeper.sent_so_far()
        publish_all(keeper, ((topic, b"") for topic in topics), retain=True)


def takeovers(target: Target) -> None:
    """One client id, again and again, each connection taking the session from the one before."""
    with ExitStack() as stack:
        before: RawClient | None = None
        for _ in range(500 * target.scale):
            own = stack.enter_context(ExitStack())
            client = own.enter_context(target.client())
            client.connect("stormy", clean=False, properties={Property.SESSION_EXPIRY_INTERVAL: 60})
            if before is not None:
                assert before.expect(DISCONNECT).reason == TAKEN_OVER
                before.close()
            before = client
    with target.entered("stormy"):
        pass  # A clean start discards the session.


def connects(target: Target) -> None:
    """CONNECT and away, at full rate, with and without waiting for the answer."""
    for number in range(1_000 * target.scale):
        with target.client() as client:
            client.send_octets(connect_octets(f"hasty-{number}"))
            if number % 2:
                client.expect(CONNACK)


ATTACKS: Sequence[Attack] = (
    Attack("subscriptions of one client", subscriptions_of_one, moved={"packets.subscribe.error": 1}, slow_scale=0),
    Attack("subscriptions of many clients", subscriptions_of_many),
    Attack("subscribe and unsubscribe", churn, moved={"packets.unsubscribe.received": 500}),
    Attack("retained messages", retained, RETAINED, moved={"whimbrel.retained.refused": 100}),
    Attack("large wills", wills, slow_scale=100),
    Attack("sessions that stay", sessions, SESSIONS, moved={"whimbrel.sessions.refused": 50}, slow_scale=0),
    Attack("queues of absent sessions", absent, moved={"delivery.dropped.queue_full": 20_000}),
    Attack("groups that come and go", groups),
    Attack("bursts to many", fan_out, moved={"whimbrel.connections.rested": 1}, slow_scale=3),
    Attack("retained messages that nobody reads", replays),
    Attack("takeovers of one client id", takeovers, moved={"session.takeovered": 400}),
    Attack("connects at full rate", connects, moved={"client.connect": 500}),
)
