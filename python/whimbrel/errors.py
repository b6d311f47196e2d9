"""The one tree of exceptions that Whimbrel raises.

    WhimbrelError
    ├── settings.SettingsError    what the operator wrote cannot be meant; lists every problem
    ├── StartError                the machine refuses: taken port, unwritable or occupied data directory
    ├── ListenFailure             the kernel refused to bind one listener; `app` and `embed` know what to advise
    ├── CertificateFailure        a listener's certificates cannot be used, at start or when they are read again
    ├── StorageFailure            the store cannot be used: at start, by a tool, or to copy it
    │   └── StorageRefused        the running store takes nothing at the moment; nothing was changed
    ├── EngineError               the data plane has stopped or does not reply
    ├── HookError                 a hook was registered wrongly or answered nonsense: the hook's author has to mend it
    ├── ClientNotFound            there is no session of that client id
    └── ControlError              the management line: no broker there, or it refused the request

Knows no other module of the package, so that every layer may import it. An error lives beside the code that raises it
when it carries that code's types (`SettingsError`); the others live here.
"""

from typing import Final

EXIT_REFUSED: Final = 1
"""The machine refused what was asked for: the same command may work later or elsewhere."""

EXIT_MISTAKE: Final = 2
"""What was asked for is wrong: it has to be written differently."""


class WhimbrelError(Exception):
    """Base of everything that Whimbrel raises on purpose. Its text is one that an operator can act on."""


class StartError(WhimbrelError):
    """The broker cannot start here and now; nothing was damaged.

    The message is one sentence: where, what was found, how to mend it.
    `exit_code` is what the command line ends with: EXIT_REFUSED (1) unless the caller says otherwise.
    """

    def __init__(self, sentence: str, *, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class ListenFailure(WhimbrelError):
    """One listener could not be bound. `listener` is "tcp:default", `address` as configured, `reason` the kernel's.

    `listener` is empty where the address belongs to none of them; `errno` is 0 where the kernel gave none.
    """

    def __init__(self, *, address: str, listener: str, reason: str, errno: int = 0) -> None:
        where = f"{address} ({listener})" if listener else address
        super().__init__(f"cannot listen on {where}: {reason.lower()}")
        self.address = address
        self.listener = listener
        self.reason = reason
        self.errno = errno


class CertificateFailure(WhimbrelError):
    """A listener's certificates cannot be used. Its text names the listener, the file and what is wrong there."""


class StorageFailure(WhimbrelError):
    """A store cannot be used. Its text names the place, what is wrong there and how to mend it."""


class StorageRefused(StorageFailure):
    """The store takes nothing at the moment, so nothing was changed. Try again when its alarm is over."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the store took nothing of this: {reason}; nothing was changed, try again later")
        self.reason = reason


class EngineError(WhimbrelError):
    """The data plane has stopped, or did not reply in time. Retrying helps only in the second case."""


class HookError(WhimbrelError):
    """A hook does not keep to its declaration in `hooks.points`."""


class ClientNotFound(WhimbrelError):
    """No session has this client id."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"there is no client {client_id!r}")
        self.client_id = client_id


class ControlError(WhimbrelError):
    """The management line cannot be used, or the broker refused the request; `code` is for programs."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.code = code
