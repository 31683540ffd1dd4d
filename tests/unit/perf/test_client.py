"""The sockets of the load generator: nothing the broker says is lost when one hands over to the next."""

from __future__ import annotations

import asyncio

import pytest

from broker.perf.client import Control, ProducerSocket
from broker.perf.load import Producer, Sent, Tally
from broker.wire import spec
from broker.wire.methods import method_frame


@pytest.mark.asyncio
async def test_a_close_right_behind_select_ok_is_reported() -> None:
    close = [("short", 404), ("shortstr", "NOT_FOUND - no exchange 'x' in vhost '/'"), ("short", 60), ("short", 40)]
    said = method_frame(1, spec.CONFIRM_SELECT_OK, []) + method_frame(1, spec.CHANNEL_CLOSE, list(close))

    closed = asyncio.Event()

    async def answer(client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)  # one segment: the first read finds both
        await client.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        control = Control(reader, writer)
        await control.expect(spec.CONFIRM_SELECT_OK)
        producer = Producer(0, Tally(1, 1), Sent(b"\0\0\0\x01q\0", 24, False, 1, 131064))
        await ProducerSocket(producer, 0, broken.set_result).attach(control)
        assert "NOT_FOUND - no exchange 'x' in vhost '/'" in await asyncio.wait_for(broken, 10)
        writer.close()
        await asyncio.wait_for(closed.wait(), 10)
