"""What can be asked of the doors of this node while they are open."""

import asyncio

from whimbrel.engine.engine import Engine


class Listeners:
    """The listeners of the data plane."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def reload_certificates(self) -> int:
        """Read the certificates of all TLS listeners again; how many there are. Connections go on as they are.

        Raises CertificateFailure where one cannot be used; then every listener keeps what it has.
        """
        return await asyncio.to_thread(self._engine.reload_certificates)
