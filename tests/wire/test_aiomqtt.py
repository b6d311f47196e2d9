"""Many clients of aiomqtt at once; what one of them can do is in `test_clients.py`."""

import asyncio

import aiomqtt

from tests.wire.product import Product


def client(product: Product, client_id: str) -> aiomqtt.Client:
    return aiomqtt.Client(product.host, product.port, identifier=client_id, protocol=aiomqtt.ProtocolVersion.V5)


async def test_fifty_clients_at_once_each_get_their_own(product: Product, name: str) -> None:
    async def echo(number: int) -> bytes:
        async with client(product, f"{name}-{number}") as one:
            await one.subscribe(f"{name}/{number}", qos=1)
            await one.publish(f"{name}/{number}", str(number), qos=1)
            message = await anext(aiter(one.messages))
            assert isinstance(message.payload, bytes)
            return message.payload

    async with asyncio.timeout(30):
        echoes = await asyncio.gather(*map(echo, range(50)))
    assert echoes == [str(number).encode() for number in range(50)]
