"""aio-pika against a real node. Rule: README."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from aiormq.exceptions import ChannelLockedResource

from tests.support.node import Node

pytestmark = pytest.mark.asyncio

DEADLINE_S = 10.0


def cut_all(node: Node) -> None:
    """An operator closes every connection."""
    api = f"http://{node.host}:{node.ports['management']}/api/connections"
    headers = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
    with urllib.request.urlopen(urllib.request.Request(api, headers=headers)) as answer:
        names = [row["name"] for row in json.load(answer)]
    assert names
    for name in names:
        request = urllib.request.Request(f"{api}/{urllib.parse.quote(name, safe='')}", headers=headers, method="DELETE")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 204


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(f"amqp://guest:guest@{node.host}:{node.port}/")
    async with connection:
        yield await connection.channel()


async def test_messages_arrive_in_order_and_are_acknowledged(node: Node) -> None:
    async with connected(node) as channel:
        queue = await channel.declare_queue("ordered", durable=True)
        await channel.set_qos(prefetch_count=10)
        sent = [str(number).encode() for number in range(100)]
        await asyncio.gather(
            *[
                channel.default_exchange.publish(aio_pika.Message(body, headers={"n": len(body)}), "ordered")
                for body in sent
            ]
        )
        got: list[bytes] = []
        async with asyncio.timeout(DEADLINE_S), queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    assert message.headers == {"n": len(message.body)}
                    got.append(message.body)
                if len(got) == len(sent):
                    break
        assert got == sent
        assert (await channel.declare_queue("ordered", passive=True)).declaration_result.message_count == 0


async def test_a_rejected_message_comes_again_and_a_message_for_nobody_comes_back(node: Node) -> None:
    async with connected(node) as channel:
        queue = await channel.declare_queue("again", auto_delete=False)
        await channel.default_exchange.publish(aio_pika.Message(b"x"), "again")
        message = await queue.get(timeout=DEADLINE_S)
        await message.nack(requeue=True)
        message = await queue.get(timeout=DEADLINE_S)
        assert (message.redelivered, message.body) == (True, b"x")
        await message.reject(requeue=False)
        assert await queue.get(fail=False) is None
    connection = await aio_pika.connect(f"amqp://guest:guest@{node.host}:{node.port}/")
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(PublishError) as returned:
            await channel.default_exchange.publish(aio_pika.Message(b"y"), "nobody")
        assert "NO_ROUTE" in str(returned.value)


async def test_a_full_queue_refuses(node: Node) -> None:
    async with connected(node) as channel:
        await channel.declare_queue("small", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"x"), "small")


async def test_a_request_is_answered_without_a_reply_queue(node: Node) -> None:
    """RabbitMQ docs, Direct Reply-to."""
    async with connected(node) as server, connected(node) as client:
        requests = await server.declare_queue("requests")

        async def answer(message: AbstractIncomingMessage) -> None:
            assert message.reply_to is not None
            reply = aio_pika.Message(message.body[::-1], correlation_id=message.correlation_id)
            await server.default_exchange.publish(reply, message.reply_to)
            await message.ack()

        await requests.consume(answer)
        replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        reply_to = await client.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await reply_to.consume(replies.put, no_ack=True)
        request = aio_pika.Message(b"abc", reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        await client.default_exchange.publish(request, "requests")
        async with asyncio.timeout(DEADLINE_S):
            reply = await replies.get()
        assert (reply.body, reply.correlation_id) == (b"cba", "1")


async def test_errors_close_the_channel_and_not_the_connection(node: Node) -> None:
    connection = await aio_pika.connect(f"amqp://guest:guest@{node.host}:{node.port}/")
    async with connection, connected(node) as other:
        await other.declare_queue("locked", exclusive=True)
        for name, error in (("missing", ChannelNotFoundEntity), ("locked", ChannelLockedResource)):
            channel = await connection.channel()
            with pytest.raises(error):
                await channel.declare_queue(name, passive=True)
        assert not connection.is_closed
        assert (await (await connection.channel()).declare_queue("fine", auto_delete=True)).name == "fine"


async def test_a_robust_connection_comes_back_after_it_was_closed(node: Node) -> None:
    """What a client declared with connect_robust is there again after a reconnect."""
    connection = await aio_pika.connect_robust(f"amqp://guest:guest@{node.host}:{node.port}/", reconnect_interval=0.05)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("robust", auto_delete=True)
        got: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(got.put, no_ack=True)
        back = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_: back.set())
        await asyncio.to_thread(cut_all, node)
        async with asyncio.timeout(DEADLINE_S):
            await back.wait()
            await channel.default_exchange.publish(aio_pika.Message(b"again"), "robust")
            assert (await got.get()).body == b"again"
