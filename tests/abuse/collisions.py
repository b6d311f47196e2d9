"""Names that collide under hashes without a key.

Knows FNV-1a and FxHash, and the trick for both: two blocks that lead to the same state from the present one can be
chosen freely in each of n places, which makes 2^n names. Names are printable ASCII without what MQTT treats specially.
SipHash has no such blocks, also with a key that is known. Knows nothing of the broker.
"""

import itertools
import random
from collections.abc import Callable, Iterator

LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"
U64 = (1 << 64) - 1
FNV_START, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
FX_FACTOR = 0x517CC1B727220A95
# FNV-1a's low bits depend on low bits alone, and tables take their buckets from there.
FNV_BITS = 24
_dice = random.Random(7)


def plain(count: int) -> list[str]:
    """Names that are nothing special."""
    return [f"name-{number}" for number in range(count)]


def kinds(count: int) -> Iterator[tuple[str, list[str]]]:
    """(hash, names), `count` a power of two."""
    places = count.bit_length() - 1
    yield "FNV-1a", _chosen(_fnv_pairs(places))
    yield "FxHash", _chosen(_fx_pairs(places))


def fnv(octets: bytes, state: int = FNV_START) -> int:
    """FNV-1a, 64 bits."""
    for octet in octets:
        state = (state ^ octet) * FNV_PRIME & U64
    return state


def fx(octets: bytes, state: int = 0) -> int:
    """FxHash over words of eight bytes."""
    for at in range(0, len(octets), 8):
        state = _fx_step(state, int.from_bytes(octets[at : at + 8], "little"))
    return state


def _fx_step(state: int, word: int) -> int:
    return (_rotated(state) ^ word) * FX_FACTOR & U64


def _rotated(state: int) -> int:
    return (state << 5 | state >> 59) & U64


def _chosen(pairs: list[tuple[bytes, bytes]]) -> list[str]:
    return [b"".join(blocks).decode() for blocks in itertools.product(*pairs)]


def _fnv_pairs(places: int) -> list[tuple[bytes, bytes]]:
    mask = (1 << FNV_BITS) - 1
    return _pairs(places, FNV_START, lambda block, state: fnv(block, state) & mask, _meet_by_chance)


def _fx_pairs(places: int) -> list[tuple[bytes, bytes]]:
    return _pairs(places, 0, fx, _meet_by_design)


_Step = Callable[[bytes, int], int]


def _pairs(
    places: int, state: int, step: _Step, meet: Callable[[int, _Step], tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    pairs = []
    for _ in range(places):
        pair = meet(state, step)
        assert step(pair[0], state) == step(pair[1], state)
        state = step(pair[0], state)
        pairs.append(pair)
    return pairs


def _block(length: int) -> bytes:
    return bytes(_dice.choices(LETTERS, k=length))


def _meet_by_chance(state: int, step: _Step) -> tuple[bytes, bytes]:
    seen: dict[int, bytes] = {}
    while True:
        block = _block(6)
        other = seen.setdefault(step(block, state), block)
        if other != block:
            return block, other


def _meet_by_design(state: int, _step: _Step) -> tuple[bytes, bytes]:
    """The second word takes back what the first one changed, once it happens to be made of letters."""
    first, second = _block(8), _block(8)
    after = _rotated(_fx_step(state, int.from_bytes(first, "little")))
    wanted = after ^ int.from_bytes(second, "little")
    while True:
        other = _block(8)
        rest = (wanted ^ _rotated(_fx_step(state, int.from_bytes(other, "little")))).to_bytes(8, "little")
        if other != first and all(octet in LETTERS for octet in rest):
            return first + second, other + rest
