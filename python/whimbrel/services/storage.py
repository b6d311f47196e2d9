"""What can be asked of the store of this node while it is in use."""

import asyncio
from pathlib import Path

from whimbrel.engine.engine import Engine
from whimbrel.errors import StorageFailure


class Storage:
    """The store below the data plane."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def backup(self, path: Path) -> Path:
        """Copy what is committed to `path`, an absolute path where nothing is yet; clients are served meanwhile.

        Takes as long as the disk needs. Raises StorageFailure, and then nothing is left there.
        """
        await asyncio.to_thread(self._copy, path)
        return path

    def _copy(self, path: Path) -> None:
        if not path.is_absolute():
            raise StorageFailure(f"cannot copy the store to {path}: the broker needs an absolute path")
        if path.exists():
            raise StorageFailure(f"cannot copy the store to {path}: something is there already; choose another path")
        self._engine.backup(path)
