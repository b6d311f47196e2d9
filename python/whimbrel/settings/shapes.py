"""The shapes a value can have: how it is read, in which unit it is kept, what is allowed, how it is written back.

Knows nothing of keys, sources or other values: each shape looks at one value. `read` takes what TOML or a program gave
and raises `Refusal`; for every value that `read` returned, reading `write` of it again gives the same value.
"""

import math
import pwd
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any, ClassVar, Final

from whimbrel.settings.model import TcpBind, UnixBind
from whimbrel.settings.problems import quoted

OFF: Final = "off"
"""What a listener's bind says when the listener is switched off."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME_ALLOWED: Final = 'a name of 1 to 64 letters, digits, "_" and "-"'

KB: Final = 1024
MB: Final = 1024 * KB
GB: Final = 1024 * MB
TB: Final = 1024 * GB

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


class Refusal(ValueError):
    """The value is not of this shape. The text is a hint how to mend it, or empty."""


class Shape(ABC):
    """One kind of value. `is_text`: a bare word in the environment or a flag is taken as text, never as a number."""

    is_text: ClassVar[bool] = False

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What may be written, for an operator."""

    @abstractmethod
    def read(self, written: object) -> Any:
        """The value in the unit of its field. Raises `Refusal`."""

    @abstractmethod
    def write(self, value: Any) -> str:
        """The value as TOML text."""


@dataclass(frozen=True, slots=True)
class Whole(Shape):
    """A whole number in a range, both ends included."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, written: object) -> int:
        number = _integer(written)
        return _within(number, self.low, self.high)

    def write(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Truth(Shape):
    """true or false."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def read(self, written: object) -> bool:
        if isinstance(written, bool):
            return written
        raise Refusal

    def write(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Choice(Shape):
    """One word of several."""

    words: tuple[str, ...]
    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return " or ".join(quoted(word) for word in self.words)

    def read(self, written: object) -> str:
        if isinstance(written, str) and written in self.words:
            return str(written)
        raise Refusal

    def write(self, value: str) -> str:
        return quoted(value)


_SIZE: Final = re.compile(r"([0-9]{1,18}) ?(|B|KB|MB|GB|TB)", re.IGNORECASE)
_SIZE_UNITS: Final = {"TB": TB, "GB": GB, "MB": MB, "KB": KB, "B": 1, "": 1}


@dataclass(frozen=True, slots=True)
class Size(Shape):
    """A number of bytes, both ends of the range included; 1KB is 1024 bytes."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        low, high = _size_text(self.low), _size_text(self.high)
        return f'a size from {low} to {high} (such as "64KB" or "1MB"; a plain number is bytes)'

    def read(self, written: object) -> int:
        number = _size_bytes(written) if isinstance(written, str) else _integer(written)
        return _within(number, self.low, self.high)

    def write(self, value: int) -> str:
        return quoted(_size_text(value))


def _size_bytes(written: str) -> int:
    match = _SIZE.fullmatch(written)
    if match is None:
        raise Refusal("a size is a whole number with B, KB, MB, GB or TB behind it")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def _size_text(number: int) -> str:
    units = (unit for unit, factor in _SIZE_UNITS.items() if number >= factor and number % factor == 0)
    unit = next(units, "B")
    return f"{number // _SIZE_UNITS[unit]}{unit}"


_DURATION: Final = re.compile(r"(?:[0-9]{1,15}(?:ms|s|m|h|d))+|[0-9]{1,15}")
_DURATION_PART: Final = re.compile(r"([0-9]+)(ms|s|m|h|d|)")
_DURATION_UNITS: Final = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1, "": SECOND}


@dataclass(frozen=True, slots=True)
class Duration(Shape):
    """A time span. The range is in milliseconds, both ends included; the value is a whole number of `unit_ms`."""

    low_ms: int
    high_ms: int
    unit_ms: int = 1

    @property
    def allowed(self) -> str:
        low, high = _duration_text(self.low_ms), _duration_text(self.high_ms)
        return f'a duration from {low} to {high} (such as "500ms", "15s", "2h" or "7d"; a plain number is seconds)'

    def read(self, written: object) -> int:
        span_ms = _within(_duration_ms(written), self.low_ms, self.high_ms)
        if span_ms % self.unit_ms:
            raise Refusal(f"it is counted in steps of {_duration_text(self.unit_ms)}")
        return span_ms // self.unit_ms

    def write(self, value: int) -> str:
        return quoted(_duration_text(value * self.unit_ms))


def _duration_ms(written: object) -> int:
    if isinstance(written, float):
        return _float_ms(written)
    if not isinstance(written, str):
        return _integer(written) * SECOND
    if _DURATION.fullmatch(written) is None:
        raise Refusal("a duration is a whole number with ms, s, m, h or d behind it")
    return sum(int(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(written))


def _float_ms(written: float) -> int:
    # The bound keeps the product finite; every range ends far below it.
    if not math.isfinite(written) or abs(written) > 1e12:
        raise Refusal
    return round(written * SECOND)


def _duration_text(span_ms: int) -> str:
    if span_ms == 0:
        return "0s"
    unit = next(unit for unit, factor in _DURATION_UNITS.items() if span_ms % factor == 0)
    return f"{span_ms // _DURATION_UNITS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Name(Shape):
    """A name that can be part of a key."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return NAME_ALLOWED

    def read(self, written: object) -> str:
        text = _text(written)
        if NAME.fullmatch(text):
            return text
        raise Refusal

    def write(self, value: str) -> str:
        return quoted(value)


_NODE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}@[A-Za-z0-9._:-]{1,255}")


@dataclass(frozen=True, slots=True)
class NodeName(Shape):
    """name@host, unique among the brokers of a cluster."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return 'name@host, such as "whimbrel@127.0.0.1"; the name of letters, digits, "_" and "-"'

    def read(self, written: object) -> str:
        text = _text(written)
        if _NODE_NAME.fullmatch(text):
            return text
        raise Refusal(f"write {quoted(text + '@127.0.0.1')}" if NAME.fullmatch(text) else "")

    def write(self, value: str) -> str:
        return quoted(value)


_PRIORITY_MAX: Final = 255
_PRIORITIES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Priorities(Shape):
    """Topics with a number each, as one text; a topic with a comma in it cannot be named."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return (
            f'up to {_PRIORITIES_MAX} topics, each with a number from 1 to {_PRIORITY_MAX}, such as "alarm/fire=255, '
            'alarm/water=200"; or ""'
        )

    def read(self, written: object) -> tuple[tuple[str, int], ...]:
        text = _text(written).strip()
        priorities = dict(_priority(entry) for entry in text.split(",")) if text else {}
        if len(priorities) != (text.count(",") + 1 if text else 0):
            raise Refusal("a topic is named twice")
        if len(priorities) > _PRIORITIES_MAX:
            raise Refusal
        return tuple(priorities.items())

    def write(self, value: tuple[tuple[str, int], ...]) -> str:
        return quoted(", ".join(f"{topic}={priority}" for topic, priority in value))


def _priority(entry: str) -> tuple[str, int]:
    topic, number = (part.strip() for part in entry.rpartition("=")[::2])
    if not topic or "+" in topic or "#" in topic:
        raise Refusal("write topic=number; a topic is not empty and has no wildcard")
    if re.fullmatch("[0-9]{1,3}", number) is None or not 1 <= int(number) <= _PRIORITY_MAX:
        raise Refusal(f"the number of {quoted(topic)} is not from 1 to {_PRIORITY_MAX}")
    return topic, int(number)


@dataclass(frozen=True, slots=True)
class Line(Shape):
    """One line of text, which may be empty."""

    longest: int
    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return f"one line of at most {self.longest} printable characters"

    def read(self, written: object) -> str:
        if isinstance(written, str) and len(written) <= self.longest and written.isprintable():
            return str(written)
        raise Refusal

    def write(self, value: str) -> str:
        return quoted(value)


@dataclass(frozen=True, slots=True)
class Directory(Shape):
    """A directory; a relative one starts at the working directory of the broker."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return "the path of a directory"

    def read(self, written: object) -> Path:
        path = _path(written)
        try:
            return path.absolute()
        except OSError:
            raise Refusal("the working directory is gone: write an absolute path") from None

    def write(self, value: Path) -> str:
        return quoted(str(value))


@dataclass(frozen=True, slots=True)
class PemFile(Directory):
    """A file with certificates or keys. It is read by the data plane, which can also say what is wrong in it."""

    @property
    def allowed(self) -> str:
        return "the path of a PEM file"


@dataclass(frozen=True, slots=True)
class Networks(Shape):
    """IP addresses and networks, kept in one spelling."""

    @property
    def allowed(self) -> str:
        return 'addresses and networks such as ["127.0.0.1", "10.0.0.0/8"], at least one and at most 1000'

    def read(self, written: object) -> tuple[str, ...]:
        parts = written.split(",") if isinstance(written, str) else written
        if not isinstance(parts, (list, tuple)) or not 0 < len(parts) <= _NETWORKS_MAX:
            raise Refusal
        return tuple(_network(part) for part in parts)

    def write(self, value: tuple[str, ...]) -> str:
        return f"[{', '.join(map(quoted, value))}]"


_NETWORKS_MAX: Final = 1000


def _network(written: object) -> str:
    text = _text(written).strip()
    if "%" in text:
        raise Refusal('an address with an interface ("%") is not supported')
    try:
        return str(ip_network(text))
    except ValueError:
        raise Refusal(_network_hint(text)) from None


def _network_hint(text: str) -> str:
    try:
        return f"the network of {text} is {quoted(str(ip_network(text, strict=False)))}"
    except ValueError:
        return ""


_USERS_MAX: Final = 100
# 2^32 - 1 means "no user" to the kernel.
_USER_MAX: Final = 2**32 - 2
_USER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Users(Shape):
    """Users of this machine, kept as their numbers."""

    @property
    def allowed(self) -> str:
        return f'names or numbers of users of this machine such as ["haproxy", 33], at least one, at most {_USERS_MAX}'

    def read(self, written: object) -> tuple[int, ...]:
        parts = written.split(",") if isinstance(written, str) else written
        parts = parts if isinstance(parts, (list, tuple)) else (parts,)
        if not 0 < len(parts) <= _USERS_MAX:
            raise Refusal
        return tuple(dict.fromkeys(_user(part) for part in parts))

    def write(self, value: tuple[int, ...]) -> str:
        return f"[{', '.join(map(str, value))}]"


def _user(written: object) -> int:
    if not isinstance(written, str):
        return _within(_integer(written), 0, _USER_MAX)
    name = _text(written).strip()
    if re.fullmatch("[0-9]{1,10}", name):
        return _within(int(name), 0, _USER_MAX)
    if _USER_NAME.fullmatch(name) is None:
        raise Refusal
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Refusal(f"there is no user {quoted(name)} on this machine") from None


_URL_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1023}")


@dataclass(frozen=True, slots=True)
class UrlPath(Shape):
    """The path of a URL, without a query."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return 'a path such as "/mqtt", at most 1024 letters that a URL may have, without "?"'

    def read(self, written: object) -> str:
        text = _text(written)
        if _URL_PATH.fullmatch(text):
            return text
        raise Refusal(f"write {quoted('/' + text)}" if _URL_PATH.fullmatch("/" + text) else "")

    def write(self, value: str) -> str:
        return quoted(value)


@dataclass(frozen=True, slots=True)
class SocketPath(Shape):
    """Where a Unix socket is; a relative path starts at node.data_dir, which only `rules` and `assemble` know."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return 'the path of a socket such as "whimbrel.sock" (relative to node.data_dir), or "off"'

    def read(self, written: object) -> UnixBind | str:
        if written == OFF:
            return OFF
        path = _path(written)
        if path.name in ("", ".."):
            raise Refusal("that is a directory; write the path of a socket in it")
        return UnixBind(path=path)

    def write(self, value: UnixBind | str) -> str:
        return quoted(str(value))


_ADDRESS: Final = re.compile(r"(?:(?P<host>\[[^\[\]]*\]|[^:\[\]/]*):)?(?P<port>[0-9]{1,5})")
_PORT_MAX: Final = 65_535
_EVERY_IPV4: Final = "0.0.0.0"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address(Shape):
    """An IP address and port to listen on. Host names are refused: where a broker is open must not depend on DNS."""

    is_text: ClassVar[bool] = True

    @property
    def allowed(self) -> str:
        return (
            'address:port such as "127.0.0.1:1883", "[::1]:1883", "*:1883" (every IPv4 address) or "1883" '
            '(this machine only), port from 0 to 65535; or "off"'
        )

    def read(self, written: object) -> TcpBind | str:
        text = str(_integer(written)) if isinstance(written, int) else _text(written)
        if text == OFF:
            return OFF
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise Refusal(_address_hint(text))
        return TcpBind(host=_host(match["host"]), port=_port(match["port"]))

    def write(self, value: TcpBind | str) -> str:
        return quoted(str(value))


def _address_hint(text: str) -> str:
    if "/" in text:
        return "a path belongs to a listener of kind unix: listeners.unix.<name>.bind"
    if text.count(":") > 1 and not text.startswith("["):
        return f"an IPv6 address is written in brackets: {quoted('[' + text.rpartition(':')[0] + ']:1883')}"
    if text and ":" not in text:
        return f"the port is missing: {quoted(text + ':1883')}"
    return ""


def _host(written: str | None) -> str:
    if written is None or written.lower() == "localhost":
        return _LOOPBACK
    if written in ("", "*"):
        return _EVERY_IPV4
    try:
        return str(_ipv6(written[1:-1]) if written.startswith("[") else IPv4Address(written))
    except AddressValueError:
        raise Refusal("write an IP address; host names are not looked up, apart from localhost") from None


def _ipv6(written: str) -> IPv6Address:
    if "%" in written:
        raise Refusal('an address with an interface ("%") is not supported')
    return IPv6Address(written)


def _port(written: str) -> int:
    port = int(written)
    if port > _PORT_MAX:
        raise Refusal(f"port {port} is above {_PORT_MAX}")
    return port


def _integer(written: object) -> int:
    if isinstance(written, int) and not isinstance(written, bool):
        return int(written)
    raise Refusal


def _within(number: int, low: int, high: int) -> int:
    if low <= number <= high:
        return number
    raise Refusal


def _text(written: object) -> str:
    if not isinstance(written, str):
        raise Refusal
    if any(not letter.isprintable() for letter in written):
        raise Refusal("it has a control character, or a byte that is not UTF-8")
    return str(written)


def _path(written: object) -> Path:
    text = _text(str(written) if isinstance(written, Path) else written)
    if text.startswith("~"):
        raise Refusal('"~" is not expanded here: write the whole path')
    if not text:
        raise Refusal
    return Path(text)
