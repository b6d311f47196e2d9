"""The clients of this node: pages, one, all, kick. Runs on the engine's loop; raises EngineError like the engine."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from whimbrel.engine.engine import Engine
from whimbrel.errors import ClientNotFound

if TYPE_CHECKING:
    from whimbrel.engine.records import ClientPage, ClientRecord

PAGE_MAX = 10_000
_CURSOR_MAX = 2**64 - 1


class Clients:
    """Sessions and their connections, as their workers saw them at the moment of asking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def page(self, *, cursor: int = 0, limit: int = 1_000) -> "ClientPage":
        """The page at `cursor` (0: the first), of 1 .. 10,000 records. Raises ValueError for others."""
        if not 0 <= cursor <= _CURSOR_MAX:
            raise ValueError(f"cursor is {cursor}; it is 0 for the first page, then what the page before says")
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit is {limit}; a page has 1 to {PAGE_MAX} records")
        return await self._engine.clients_page(cursor=cursor, limit=limit)

    async def walk(self, *, page_size: int = 1_000) -> "AsyncIterator[ClientRecord]":
        """Every client, page by page. One that comes or goes meanwhile may be missed or seen."""
        cursor: int | None = 0
        while cursor is not None:
            page = await self.page(cursor=cursor, limit=page_size)
            for record in page.records:
                yield record
            cursor = page.next_cursor

    async def all(self) -> "list[ClientRecord]":
        """Every client in one list; cost and memory grow with their number."""
        return [record async for record in self.walk()]

    async def kick(self, client_id: str) -> None:
        """End a client's connection and session. Raises ClientNotFound."""
        if not await self._engine.kick(client_id):
            raise ClientNotFound(client_id)
