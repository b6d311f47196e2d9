"""Raw clients that are let in: `entered` for a broker on the test's own loop, `enter` for one in the background.

On the test's own loop they connect in threads, so that the loop stays free.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import whimbrel
from tests.raw_client import RawClient
from tests.raw_packets import Properties, Will
from whimbrel.testing.background import BackgroundBroker

_NONE: Properties = {}


@asynccontextmanager
async def entered(broker: whimbrel.Broker, *client_ids: str, level: int = 5) -> AsyncIterator[tuple[RawClient, ...]]:
    """Connected clients with these ids; closed without DISCONNECT at the end."""
    async with AsyncExitStack() as stack:
        clients = []
        for client_id in client_ids:
            client = await asyncio.to_thread(RawClient, (broker.host, broker.port), level=level)
            stack.callback(client.close)
            code, _ = await asyncio.to_thread(client.connect, client_id)
            assert code == 0
            clients.append(client)
        yield tuple(clients)


def enter(
    broker: BackgroundBroker,
    client_id: str,
    *,
    level: int = 5,
    clean: bool = True,
    keep_alive_s: int = 0,
    will: Will | None = None,
    properties: Properties = _NONE,
) -> RawClient:
    """A connected client."""
    client = RawClient((broker.host, broker.port), level=level)
    code, _ = client.connect(client_id, clean=clean, keep_alive_s=keep_alive_s, will=will, properties=properties)
    assert code == 0, f"{client_id} was refused with {code:#x}"
    return client
