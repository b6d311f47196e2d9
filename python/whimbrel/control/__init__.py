"""The local management line: a Unix socket in the data directory, one JSON request and one JSON answer per line.

`operations` is the table of what may be asked, `views` turns records into JSON values, `server` and `client` are the
two ends. The file mode (0600) is the access control: whoever may open the data directory may manage the broker.

    -> {"op": "clients", "cursor": 0, "limit": 100}
    <- {"ok": true, "result": {"clients": [...], "next_cursor": null}}
    <- {"ok": false, "error": {"code": "unknown_operation", "text": "there is no operation \\"x\\"; ..."}}
"""

from pathlib import Path

from whimbrel.settings.rules import CONTROL_SOCKET_NAME

SOCKET_NAME = CONTROL_SOCKET_NAME


def socket_path(data_dir: Path) -> Path:
    """Where the broker that uses `data_dir` listens for management requests."""
    return data_dir / SOCKET_NAME
