"""Enhanced authentication on real connections: a toy challenge and response, in a hook and in a raw client."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import whimbrel
from tests.raw_client import CONNACK, DISCONNECT, PINGRESP, RawClient
from tests.raw_packets import Packet
from whimbrel import IGNORE, Allow, Continue, Deny, Reason

AUTH = 15
METHOD = "toy"
SECRET = b"whistle"
CONTINUE_AUTHENTICATION, RE_AUTHENTICATE = 0x18, 0x19
NOT_AUTHORIZED, BAD_METHOD, PROTOCOL_ERROR = 0x87, 0x8C, 0x82


def proof(nonce: bytes) -> bytes:
    return hashlib.sha256(SECRET + nonce).digest()


class Toy:
    """A nonce, then its hash with the secret. Nonces by exchange, because client ids may be shared by rivals."""

    def __init__(self) -> None:
        self.questions: list[Any] = []
        self._nonces: dict[int, bytes] = {}

    async def __call__(self, question: Any) -> Any:
        self.questions.append(question)
        if question.method != METHOD:
            return IGNORE
        if question.step == 0:
            nonce = self._nonces[question.exchange] = f"nonce {len(self.questions)}".encode()
            return Continue(nonce)
        is_right = question.auth_data == proof(self._nonces.pop(question.exchange))
        return Allow(auth_data=b"welcome") if is_right else Deny(Reason.NOT_AUTHORIZED)


def properties(method: str | None, auth_data: bytes | None) -> bytes:
    section = b"" if method is None else b"\x15" + struct.pack("!H", len(method)) + method.encode()
    if auth_data is not None:
        section += b"\x16" + struct.pack("!H", len(auth_data)) + auth_data
    return bytes([len(section)]) + section


def data_of(packet: Packet) -> bytes:
    """The authentication data: the last property of every packet here."""
    _, _, rest = packet.body.partition(METHOD.encode() + b"\x16")
    return rest[2 : 2 + int.from_bytes(rest[:2])]


class Pupil(RawClient):
    """A raw client that knows the packets of the exchange."""

    def hello(self, method: str | None = METHOD, auth_data: bytes | None = None) -> None:
        head = b"\x00\x04MQTT\x05\x02\x00\x00"
        self.send(0x10, head + properties(method, auth_data) + b"\x00\x01c")

    def auth(self, code: int, auth_data: bytes | None = None, *, method: str = METHOD) -> None:
        self.send(0xF0, bytes([code]) + properties(method, auth_data))

    def enter(self) -> Packet:
        self.hello()
        self.auth(CONTINUE_AUTHENTICATION, proof(data_of(self.expect(AUTH))))
        return self.expect(CONNACK)


@asynccontextmanager
async def school(toy: Any, **settings: Any) -> AsyncIterator[Pupil]:
    hooks = {} if toy is None else {"enhanced_authenticate": toy}
    async with whimbrel.Broker(settings or None, hooks=hooks) as broker:
        pupil = await asyncio.to_thread(Pupil, (broker.host, broker.port), level=5)
        try:
            yield pupil
        finally:
            pupil.close()


@pytest.mark.parametrize("workers", [1, 4])
async def test_the_right_answer_to_the_challenge_lets_the_client_in(workers: int) -> None:
    toy = Toy()
    async with school(toy, workers=workers) as pupil:
        connack = await asyncio.to_thread(pupil.enter)
        assert connack.body[1] == 0
        assert data_of(connack) == b"welcome"
        await asyncio.to_thread(pupil.send, 0xC0, b"")
        await asyncio.to_thread(pupil.expect, PINGRESP)
    assert [(one.step, one.client_id, one.is_reauthentication) for one in toy.questions] == [
        (0, "c", False),
        (1, "c", False),
    ]


async def test_a_wrong_answer_is_refused() -> None:
    async with school(Toy()) as pupil:
        await asyncio.to_thread(pupil.hello)
        await asyncio.to_thread(pupil.expect, AUTH)
        await asyncio.to_thread(pupil.auth, CONTINUE_AUTHENTICATION, b"guess")
        assert (await asyncio.to_thread(pupil.expect, CONNACK)).body[1] == NOT_AUTHORIZED
        assert await asyncio.to_thread(pupil.packet) is None


@pytest.mark.parametrize(("toy", "method"), [(None, METHOD), (Toy(), "other")], ids=["no-hook", "unknown"])
async def test_a_method_that_nobody_knows_is_a_bad_one(toy: Any, method: str) -> None:
    async with school(toy) as pupil:
        await asyncio.to_thread(pupil.hello, method)
        assert (await asyncio.to_thread(pupil.expect, CONNACK)).body[1] == BAD_METHOD
        assert await asyncio.to_thread(pupil.packet) is None


async def test_another_method_in_auth_is_a_protocol_error() -> None:
    async with school(Toy()) as pupil:
        await asyncio.to_thread(pupil.hello)
        await asyncio.to_thread(pupil.expect, AUTH)
        pupil.auth(CONTINUE_AUTHENTICATION, b"", method="other")
        assert (await asyncio.to_thread(pupil.expect, CONNACK)).body[1] == PROTOCOL_ERROR


async def test_a_client_that_never_answers_the_challenge_is_closed() -> None:
    async with school(Toy(), **{"mqtt.idle_timeout": "200ms"}) as pupil:
        await asyncio.to_thread(pupil.hello)
        await asyncio.to_thread(pupil.expect, AUTH)
        assert await asyncio.to_thread(pupil.packet) is None


async def test_a_client_may_authenticate_anew_and_goes_on() -> None:
    toy = Toy()
    async with school(toy) as pupil:
        await asyncio.to_thread(pupil.enter)
        pupil.auth(RE_AUTHENTICATE)
        challenge = await asyncio.to_thread(pupil.expect, AUTH)
        assert challenge.body[0] == CONTINUE_AUTHENTICATION
        # The connection lives on with what it had.
        pupil.send(0xC0, b"")
        await asyncio.to_thread(pupil.expect, PINGRESP)
        pupil.auth(CONTINUE_AUTHENTICATION, proof(data_of(challenge)))
        success = await asyncio.to_thread(pupil.expect, AUTH)
        assert (success.body[0], data_of(success)) == (0, b"welcome")
    assert [(one.step, one.is_reauthentication) for one in toy.questions[2:]] == [(0, True), (1, True)]


async def test_a_failed_re_authentication_ends_the_connection() -> None:
    async with school(Toy()) as pupil:
        await asyncio.to_thread(pupil.enter)
        pupil.auth(RE_AUTHENTICATE)
        await asyncio.to_thread(pupil.expect, AUTH)
        pupil.auth(CONTINUE_AUTHENTICATION, b"guess")
        assert (await asyncio.to_thread(pupil.expect, DISCONNECT)).body[0] == NOT_AUTHORIZED
        assert await asyncio.to_thread(pupil.packet) is None


async def test_auth_without_a_method_in_connect_is_a_protocol_error() -> None:
    async with school(Toy()) as pupil:
        await asyncio.to_thread(pupil.hello, None)
        assert (await asyncio.to_thread(pupil.expect, CONNACK)).body[1] == 0
        pupil.auth(RE_AUTHENTICATE)
        assert (await asyncio.to_thread(pupil.expect, DISCONNECT)).body[0] == PROTOCOL_ERROR
