"""Raw clients for a broker that runs on the test's own loop: they connect in threads, so that the loop stays free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import whimbrel
from tests.raw_client import RawClient


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
