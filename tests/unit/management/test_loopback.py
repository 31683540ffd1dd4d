"""The API's own client: what it asks is decided by the same code as for any client. Rule:
broker/management/loopback.py."""

from __future__ import annotations

import asyncio

import pytest

from broker.management import loopback
from broker.management.loopback import Loopback, Refused
from broker.wire import spec
from broker.wire.properties import Properties
from broker.wire.writer import HEARTBEAT
from tests.support.api import LoopTurns
from tests.support.memory import Broker

pytestmark = pytest.mark.asyncio


def broker_with_queue() -> Broker:
    broker = Broker()
    broker.open().ask("queue.declare", queue="q")
    broker.turn.waker = LoopTurns(broker.turn)
    return broker


async def test_what_it_publishes_arrives_whole() -> None:
    """Bodies larger than a frame are cut; AMQP 0-9-1 §4.2.6."""
    broker = broker_with_queue()
    large = bytes(range(256)) * 10_000
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        for body in (b"", b"x", large):
            assert await client.publish("", "q", Properties(type="t"), body) == (True, True)
        for body in (b"", b"x", large):
            got = await client.call(spec.BASIC_GET, ("short", 0), ("shortstr", "q"), ("octet", 1))
            assert (got.index, got.properties.type, got.body) == (spec.BASIC_GET_OK, "t", body)
        got = await client.call(spec.BASIC_GET, ("short", 0), ("shortstr", "q"), ("octet", 1))
        assert got.index == spec.BASIC_GET_EMPTY


async def test_a_message_for_nobody_comes_back() -> None:
    broker = broker_with_queue()
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        assert await client.publish("", "nobody", Properties(), b"x" * 3_000_000) == (False, True)
        assert await client.publish("amq.fanout", "", Properties(), b"") == (False, True)


async def test_a_message_that_a_queue_refuses_is_not_accepted() -> None:
    """RabbitMQ docs, Queue Length Limit: x-overflow reject-publish is told by basic.nack."""
    broker = broker_with_queue()
    broker.open().ask("queue.declare", queue="full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        assert await client.publish("", "full", Properties(), b"x") == (True, False)


async def test_a_refusal_carries_code_and_text() -> None:
    broker = broker_with_queue()
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        with pytest.raises(Refused) as raised:
            await client.publish("none", "q", Properties(), b"")
    assert (raised.value.code, raised.value.text) == (404, "NOT_FOUND - no exchange 'none' in vhost '/'")
    assert raised.value.explanation == "no exchange 'none' in vhost '/'"
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        with pytest.raises(Refused) as raised:
            await client.call(spec.BASIC_QOS, ("long", 1), ("short", 0), ("octet", 0))
    assert raised.value.code == 540, "a connection that is closed is a refusal, too"


async def test_what_it_left_unsettled_goes_back_when_it_is_gone() -> None:
    broker = broker_with_queue()
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        await client.publish("", "q", Properties(), b"x")
        await client.call(spec.BASIC_GET, ("short", 0), ("shortstr", "q"), ("octet", 0))
        assert broker.depth("q") == (0, 1)
    broker.run_turn()
    assert broker.depth("q") == (1, 0)


async def test_it_is_no_client_in_the_lists_and_leaves_nothing_behind() -> None:
    broker = broker_with_queue()
    connections, channels = list(broker.server.connections), broker.server.channels_open
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        await client.publish("", "q", Properties(), b"x")
        assert list(broker.server.connections) == connections
    assert (list(broker.server.connections), broker.server.channels_open) == (connections, channels)
    assert not broker.server.closing


async def test_an_alarm_does_not_hold_it_back() -> None:
    """RabbitMQ docs, Alarms: publishing connections are blocked; a message by hand is not what fills the memory."""
    broker = broker_with_queue()
    broker.server.alarms.set("memory", True)
    async with Loopback(broker.server, broker.vhost, "guest") as client:
        assert await client.publish("", "q", Properties(), b"x") == (True, True)
    broker.server.alarms.set("memory", False)


async def test_an_answer_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "ANSWER_TIMEOUT_S", 0.01)
    broker = broker_with_queue()
    with pytest.raises(TimeoutError):
        async with Loopback(broker.server, broker.vhost, "guest") as client:
            await client.ask(HEARTBEAT)
    await asyncio.sleep(0)
    assert broker.server.channels_open == 1
