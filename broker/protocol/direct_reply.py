"""Direct reply-to (RabbitMQ docs, Direct Reply-to): answers go straight to the requester's channel, through no queue.

The requester consumes from ``amq.rabbitmq.reply-to`` without acknowledgements; its requests carry that name as
reply-to, which is rewritten to an address nobody can guess; the responder publishes to that address through the default
exchange.
"""

from __future__ import annotations

import secrets
from typing import final

from broker.destination import MessageTarget
from broker.message import ACCEPTED, Message
from broker.protocol.channel import Channel
from broker.protocol.channel_consumer import write_delivery
from broker.vhost.names import REPLY_TO, REPLY_TO_PREFIX


@final
class ReplyTarget(MessageTarget):
    """Where the replies to one channel go. One per channel; it holds nothing."""

    def __init__(self, channel: Channel, consumer_tag: str) -> None:
        super().__init__(REPLY_TO)
        self.token = secrets.token_urlsafe(24)
        self.address = REPLY_TO_PREFIX + self.token
        self.tag = consumer_tag
        self._channel: Channel | None = channel
        self._tag_bytes = consumer_tag.encode("utf-8", "surrogateescape")

    def enqueue(self, message: Message) -> int:
        channel = self._channel
        if channel is not None and not channel.closing:
            channel.session.counters.messages_delivered_auto_ack += 1
            channel.stirred().deliver_no_ack += 1
            write_delivery(channel, self._tag_bytes, channel.unacked.skip(1), message, False)
        return ACCEPTED

    def close(self) -> None:
        """The requester is gone: replies are dropped."""
        self._channel = None  # it leads back here: nothing is left for the collector of cycles
