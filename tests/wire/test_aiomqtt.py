"""The broker as aiomqtt sees it."""

import asyncio

import aiomqtt
import pytest

from tests.wire.product import Product

VERSIONS = [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5]


def client(product: Product, client_id: str, version: aiomqtt.ProtocolVersion) -> aiomqtt.Client:
    return aiomqtt.Client(product.host, product.port, identifier=client_id, protocol=version)


@pytest.mark.parametrize("version", VERSIONS, ids=["3.1.1", "5.0"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_in_order(
    product: Product, name: str, version: aiomqtt.ProtocolVersion, qos: int
) -> None:
    async with client(product, f"{name}-s", version) as subscriber, client(product, f"{name}-p", version) as publisher:
        await subscriber.subscribe(f"{name}/#", qos=qos)
        for number in range(20):
            await publisher.publish(f"{name}/{number}", str(number), qos=qos)
        async with asyncio.timeout(10):
            messages = [await anext(aiter(subscriber.messages)) for _ in range(20)]
    assert [message.payload for message in messages] == [str(number).encode() for number in range(20)]


async def test_fifty_clients_at_once_each_get_their_own(product: Product, name: str) -> None:
    async def echo(number: int) -> bytes:
        async with client(product, f"{name}-{number}", VERSIONS[1]) as one:
            await one.subscribe(f"{name}/{number}", qos=1)
            await one.publish(f"{name}/{number}", str(number), qos=1)
            message = await anext(aiter(one.messages))
            assert isinstance(message.payload, bytes)
            return message.payload

    async with asyncio.timeout(30):
        echoes = await asyncio.gather(*map(echo, range(50)))
    assert echoes == [str(number).encode() for number in range(50)]
