"""The records and questions that the data plane hands out, under the names everybody above uses.

Re-exports only. Loading this module loads the binding.
"""

from whimbrel._core import (
    METRICS,
    STATS,
    Audited,
    Authenticate,
    Authorize,
    ClientPage,
    ClientRecord,
    Connected,
    DataPlane,
    Disconnected,
    EnhancedAuthenticate,
    ListenError,
    Message,
    StoreTurned,
    __version__,
)

__all__ = [
    "METRICS",
    "STATS",
    "Audited",
    "Authenticate",
    "Authorize",
    "ClientPage",
    "ClientRecord",
    "Connected",
    "DataPlane",
    "Disconnected",
    "EnhancedAuthenticate",
    "ListenError",
    "Message",
    "StoreTurned",
    "__version__",
]
