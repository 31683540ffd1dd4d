"""Direct reply-to (RabbitMQ docs, Direct Reply-to): answers go straight to the requester's channel, through no queue.

The requester consumes from ``amq.rabbitmq.reply-to`` without acknowledgements; its requests carry that name as reply-to, which is
rewritten to an address nobody can guess; the responder publishes to that address through the default exchange.
"""

from __future__ import annotations

import secrets
from typing import final

from broker.message import ACCEPTED, Confirm, Message
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.channel_consumer import ChannelConsumer
from broker.queues.consumers import Consumer
from broker.queues.entry import Entry
from broker.queues.options import QueueOptions
from broker.queues.queue import Queue
from broker.queues.ready import Ready
from broker.queues.returned_run import ReturnedRun
from broker.turn import Deferred
from broker.vhost import REPLY_TO, REPLY_TO_PREFIX
from broker.wire.table import EMPTY


@final
class ReplyQueue(Queue):
    """Where the replies to one channel go: not a queue at all, it holds nothing. One per channel."""

    def __init__(self, channel: Channel, consumer_tag: str) -> None:
        super().__init__(REPLY_TO, False, True, None, EMPTY, QueueOptions(EMPTY))
        self.token = secrets.token_urlsafe(24)
        self.address = REPLY_TO_PREFIX + self.token
        self.channel = channel
        self.tag = consumer_tag
        self._consumer: ChannelConsumer | None = ChannelConsumer(channel, self, consumer_tag, True, False, 0, 0)
        self._ready = Ready()

    def enqueue(self, message: Message, confirm: Confirm | None, sequence: i64) -> int:
        consumer = self._consumer
        if consumer is not None and not self.channel.closing:
            consumer.deliver(self, self._ready, [message], 0, 1, False)
        return ACCEPTED

    def ready_count(self) -> i64:
        return 0

    def dispatch(self) -> None:
        pass

    def dispatch_some(self) -> bool:
        return True

    def mark(self) -> None:
        pass

    def can_get(self) -> bool:
        return True

    def wait(self, waiter: Deferred) -> None:
        pass

    def get(self) -> Entry | None:
        return None

    def level_of(self, entry: Entry) -> Ready:
        return self._ready

    def settle(self, ready: Ready, first: i64, count: i64, stride: i64) -> None:
        pass

    def hold(self, ready: Ready) -> None:
        pass

    def release(self, ready: Ready) -> None:
        pass

    def requeue(self, ready: Ready, run: ReturnedRun) -> None:
        pass

    def reject(self, ready: Ready, run: ReturnedRun, limit: i64) -> bool:
        return True

    def purge(self) -> i64:
        return 0

    def add_consumer(self, consumer: Consumer) -> None:
        pass

    def remove_consumer(self, consumer: Consumer) -> None:
        pass

    def unblock(self, consumer: Consumer) -> None:
        pass

    def expires_from_now(self) -> None:
        pass

    def touch(self) -> None:
        pass

    def close(self) -> i64:
        self._consumer = None  # it leads back here: nothing is left for the collector of cycles
        return 0
