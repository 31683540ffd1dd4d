"""pika, unmodified, against a real node: its three kinds of connections. Rule: README; AMQP 0-9-1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from tests.support import wait
from tests.support.node import Node
from tests.support.wire import WireClient

DEADLINE_S = 10.0


def parameters(node: Node, **more: Any) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(node.host, node.port, **more)


@contextlib.contextmanager
def connected(node: Node, **more: Any) -> Iterator[Any]:
    """A blocking connection and a channel of it."""
    connection = pika.BlockingConnection(parameters(node, **more))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def take(channel: Any, queue: str, count: int) -> list[tuple[Any, Any, bytes]]:
    """The next messages of a queue, unsettled, through a consumer that is cancelled afterwards."""
    taken: list[tuple[Any, Any, bytes]] = []
    for delivered in channel.consume(queue, inactivity_timeout=DEADLINE_S):
        assert delivered[0] is not None, f"{len(taken)} of {count} messages arrived within {DEADLINE_S} s"
        taken.append(delivered)
        if len(taken) == count:
            break
    return taken


def test_a_confirmed_message_comes_back_as_it_was_sent(node: Node) -> None:
    with connected(node) as channel:
        channel.queue_declare("confirmed", durable=True)
        channel.confirm_delivery()
        properties = pika.BasicProperties(
            content_type="text/plain",
            headers={"a": 1, "b": ["x", {"c": True}]},
            delivery_mode=2,
            message_id="m",
            timestamp=5,
        )
        channel.basic_publish("", "confirmed", "grüße".encode(), properties)
        ((method, got, body),) = take(channel, "confirmed", 1)
        channel.basic_ack(method.delivery_tag)
        assert (body.decode(), method.redelivered, method.exchange, method.routing_key) == (
            "grüße",
            False,
            "",
            "confirmed",
        )
        assert got == properties
        channel.cancel()
        assert channel.queue_declare("confirmed", passive=True).method.message_count == 0


def test_a_message_that_nobody_wants_is_returned(node: Node) -> None:
    """basic.publish, mandatory: with confirms pika raises, without it hands the return to a callback."""
    with connected(node) as channel:
        returned: list[tuple[int, str, bytes]] = []
        channel.add_on_return_callback(
            lambda _, method, __, body: returned.append((method.reply_code, method.reply_text, body))
        )
        channel.basic_publish("amq.direct", "nobody", b"x", mandatory=True)
        channel.connection.process_data_events(0)
        wait.until(lambda: channel.connection.process_data_events(0) or bool(returned), what="the return arrives")
        assert returned == [(312, "NO_ROUTE", b"x")]
        channel.confirm_delivery()
        with pytest.raises(UnroutableError):
            channel.basic_publish("amq.direct", "nobody", b"x", mandatory=True)


def test_a_message_that_a_full_queue_refuses_is_nacked(node: Node) -> None:
    with connected(node) as channel:
        channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.confirm_delivery()
        channel.basic_publish("", "full", b"1")
        with pytest.raises(NackError):
            channel.basic_publish("", "full", b"2")


def test_nacked_messages_come_again_or_go_away(node: Node) -> None:
    """basic.nack with requeue: redelivered, in their old order; without: gone."""
    with connected(node) as channel:
        channel.queue_declare("nacked")
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "nacked", body)
        taken = take(channel, "nacked", 3)
        channel.basic_nack(taken[-1][0].delivery_tag, multiple=True, requeue=True)
        channel.cancel()
        again = take(channel, "nacked", 3)
        assert [(method.redelivered, body) for method, _, body in again] == [(True, b"1"), (True, b"2"), (True, b"3")]
        channel.basic_reject(again[0][0].delivery_tag, requeue=False)
        channel.basic_nack(again[2][0].delivery_tag, multiple=True, requeue=False)
        channel.cancel()
        assert channel.queue_declare("nacked", passive=True).method.message_count == 0


def test_deleting_a_queue_cancels_its_consumers(node: Node) -> None:
    """RabbitMQ docs, Consumer Cancel Notification."""
    with connected(node) as consuming, connected(node) as deleting:
        consuming.queue_declare("short-lived")
        cancelled: list[str] = []
        consuming.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        consuming.basic_consume("short-lived", lambda *_: None, consumer_tag="tag")
        deleting.queue_delete("short-lived")
        wait.until(lambda: consuming.connection.process_data_events(0) or bool(cancelled), what="the cancel arrives")
        assert cancelled == ["tag"]
        assert consuming.is_open


def test_an_exclusive_queue_belongs_to_its_connection(node: Node) -> None:
    """queue.declare, exclusive: locked for others, gone with its connection."""
    with connected(node) as other:
        with connected(node) as owner:
            owner.queue_declare("own", exclusive=True)
            with pytest.raises(ChannelClosedByBroker) as raised:
                other.queue_declare("own", passive=True)
            assert raised.value.reply_code == 405
        again = other.connection.channel()
        assert again.queue_declare("own").method.message_count == 0


@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_large_bodies_arrive_whole(node: Node, frame_max: int) -> None:
    """AMQP 0-9-1 §4.2.6: a body is cut to the negotiated frame size, also when publisher and consumer negotiated
    different ones."""
    body = os.urandom(5_000_000)
    with connected(node) as publishing, connected(node, frame_max=frame_max) as consuming:
        name = f"large-{frame_max}"
        publishing.queue_declare(name)
        publishing.confirm_delivery()
        publishing.basic_publish("", name, body)
        ((method, _, got),) = take(consuming, name, 1)
        assert got == body
        consuming.basic_ack(method.delivery_tag)
        consuming.cancel()
        consuming.basic_publish("", name, body)
        wait.until(
            lambda: publishing.queue_declare(name, passive=True).method.message_count == 1, what="the message arrives"
        )
        assert publishing.basic_get(name, auto_ack=True)[2] == body


def test_prefetch_bounds_what_is_outstanding(node: Node) -> None:
    """RabbitMQ docs, Consumer Prefetch."""
    with connected(node) as channel:
        channel.queue_declare("windowed")
        for number in range(10):
            channel.basic_publish("", "windowed", str(number).encode())
        channel.basic_qos(prefetch_count=3)
        got: list[int] = []
        channel.basic_consume("windowed", lambda _, method, __, ___: got.append(method.delivery_tag))
        wait.until(lambda: channel.connection.process_data_events(0) or len(got) == 3, what="three messages arrive")
        assert channel.queue_declare("windowed", passive=True).method.message_count == 7
        channel.basic_ack(3, multiple=True)
        wait.until(lambda: channel.connection.process_data_events(0) or len(got) == 6, what="three more arrive")


def test_two_publishers_and_a_consumer_at_once(node: Node) -> None:
    """RabbitMQ docs, Message Ordering: what one channel publishes keeps its order, whatever others do meanwhile."""
    count = 2000
    errors: list[BaseException] = []

    def publish(name: str) -> None:
        try:
            with connected(node) as channel:
                for number in range(count):
                    channel.basic_publish("", "shared", f"{name} {number}".encode())
        except BaseException as error:
            errors.append(error)

    with connected(node) as channel:
        channel.queue_declare("shared")
        channel.basic_qos(prefetch_count=100)
        threads = [threading.Thread(target=publish, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        got: dict[str, list[int]] = {"a": [], "b": []}
        for received, delivered in enumerate(channel.consume("shared", inactivity_timeout=DEADLINE_S), 1):
            method, _, body = delivered
            assert method is not None, (errors, {name: len(numbers) for name, numbers in got.items()})
            name, _, number = body.decode().partition(" ")
            got[name].append(int(number))
            channel.basic_ack(method.delivery_tag)
            if received == 2 * count:
                break
        for thread in threads:
            thread.join()
        channel.cancel()
    assert not errors
    assert got == {"a": list(range(count)), "b": list(range(count))}


def test_heartbeats_keep_a_connection_and_silence_ends_it(node: Node) -> None:
    """AMQP 0-9-1 §4.2.7: a peer that says nothing for two intervals is gone; one that sends heartbeats stays, however
    idle."""
    silent = WireClient(node.host, node.port)
    silent.handshake(heartbeat_s=1)
    with connected(node, heartbeat=1) as channel:
        connection = channel.connection
        heard = b""
        while True:
            # both connections are idle; the time goes by on the node's clock
            connection.process_data_events(0.05)
            if select.select([silent.socket], [], [], 0)[0]:
                with contextlib.suppress(ConnectionError):
                    data = silent.socket.recv(4096)
                    heard += data
                    if data:
                        continue
                break
        assert heard.startswith(b"\x08\x00\x00\x00\x00\x00\x00\xce"), "the node sent heartbeats before it gave up"
        assert connection.is_open
        assert channel.queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")
    silent.close()


class Dialogue:
    """The same conversation on each of pika's asynchronous adapters: declare, publish with confirms, consume,
    acknowledge, close."""

    COUNT = 50

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.confirmed = 0
        self.bodies: list[bytes] = []
        self.closed: Any = None
        self.channel: Any = None
        self.stop: Any = None

    def on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self.on_channel)

    def on_failure(self, _: Any, error: Any) -> None:
        self.closed = error
        self.stop()

    def on_channel(self, channel: Any) -> None:
        self.channel = channel
        channel.queue_declare(self.queue, auto_delete=True, callback=self.on_declared)

    def on_declared(self, _: Any) -> None:
        self.channel.basic_qos(prefetch_count=7)
        self.channel.basic_consume(self.queue, self.on_message)
        self.channel.confirm_delivery(self.on_confirm, self.on_selected)

    def on_selected(self, _: Any) -> None:
        for number in range(self.COUNT):
            self.channel.basic_publish("", self.queue, str(number).encode(), mandatory=True)

    def on_confirm(self, frame: Any) -> None:
        assert frame.method.NAME == "Basic.Ack"
        self.confirmed = frame.method.delivery_tag
        self.finish()

    def on_message(self, channel: Any, method: Any, _: Any, body: bytes) -> None:
        self.bodies.append(body)
        channel.basic_ack(method.delivery_tag)
        self.finish()

    def finish(self) -> None:
        if self.confirmed == self.COUNT == len(self.bodies):
            self.channel.connection.close()

    def on_close(self, _: Any, error: Any) -> None:
        self.closed = error
        self.stop()


@pytest.mark.parametrize("adapter", ["select", "asyncio"])
def test_the_asynchronous_adapters(node: Node, adapter: str) -> None:
    dialogue = Dialogue(f"adapter-{adapter}")
    callbacks = {
        "on_open_callback": dialogue.on_open,
        "on_open_error_callback": dialogue.on_failure,
        "on_close_callback": dialogue.on_close,
    }
    if adapter == "select":
        connection = pika.SelectConnection(parameters(node), **callbacks)
        dialogue.stop = connection.ioloop.stop
        connection.ioloop.call_later(DEADLINE_S, connection.ioloop.stop)
        connection.ioloop.start()
        connection.ioloop.close()
    else:
        loop = asyncio.new_event_loop()
        connection = AsyncioConnection(parameters(node), custom_ioloop=loop, **callbacks)
        dialogue.stop = loop.stop
        loop.call_later(DEADLINE_S, loop.stop)
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert dialogue.bodies == [str(number).encode() for number in range(dialogue.COUNT)]
    assert (dialogue.confirmed, dialogue.closed.reply_code) == (dialogue.COUNT, 200)


def test_two_hundred_connections(node: Node) -> None:
    """Each with a channel and a message of its own, all open at the same time."""
    clients = []
    try:
        for number in range(200):
            client = WireClient(node.host, node.port)
            clients.append(client)
            client.handshake()
            client.open_channel()
            client.ask(1, "queue.declare", queue=f"many-{number}", exclusive=True)
        with connected(node) as channel:
            for number in range(200):
                channel.basic_publish("", f"many-{number}", str(number).encode())
            channel.queue_declare("", exclusive=True)
        got = [client.get(1, f"many-{number}", no_ack=True).body for number, client in enumerate(clients)]
        assert got == [str(number).encode() for number in range(200)]
    finally:
        for client in clients:
            client.close()
