"""Tells systemd that the broker is ready or stopping, where it runs under it (sd_notify(3), Type=notify).

One datagram to the socket named by NOTIFY_SOCKET; without that variable nothing happens. A notification that cannot
be sent is logged and changes nothing else.
"""

import logging
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
# A receiver that does not read must not stop the broker's loop for longer.
SEND_WAIT_S = 1.0

_log = logging.getLogger("whimbrel.app")


def notify(state: str) -> None:
    """Send one state, for example READY."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # A leading @ stands for an address in the abstract namespace, which begins with a null byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.settimeout(SEND_WAIT_S)
            line.sendto(state.encode(), target)
    except OSError as error:
        _log.warning("cannot notify systemd: %s", error)
