"""The TLS context of a door, for the libraries that take Python's own."""

import ssl

from tests.wire.clients.adapter import Door


def context_of(door: Door) -> ssl.SSLContext | None:
    """None where the door is not one of TLS."""
    if door.ca is None:
        return None
    made = ssl.create_default_context(cafile=str(door.ca))
    if door.pair is not None:
        made.load_cert_chain(door.pair.cert, door.pair.key)
    return made
