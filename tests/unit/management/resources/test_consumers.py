"""GET /api/consumers."""

from __future__ import annotations

from broker.management.resources.consumers import row
from broker.protocol.channel_consumer import ChannelConsumer
from tests.support.memory import Broker


def test_a_consumer_whose_queue_went_while_the_list_was_made_is_still_shown() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    client.consume("q")
    queue = broker.queue("q")
    consumer = queue.consumers.all[0]
    assert isinstance(consumer, ChannelConsumer)
    assert row(broker.server, broker.vhost, queue, consumer)["activity_status"] == "single_active"
    client.ask("queue.delete", queue="q")
    assert row(broker.server, broker.vhost, queue, consumer)["activity_status"] == "waiting"
