"""Publisher confirms: the broker says of every message whether it has taken it, refuses it, or has no queue for it.

A confirm of a persistent message in a durable queue means that the message is on the disk. pika's blocking connection
waits for each confirm; where many messages a second are published, a client that does not wait (pika's other
connections, aio-pika) lets some hundred be under way.
"""

import os

import pika
from pika.exceptions import NackError, UnroutableError

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    limits = {"x-max-length": 2, "x-overflow": "reject-publish"}
    queue = channel.queue_declare("", exclusive=True, arguments=limits).method.queue

    for number in range(1, 4):
        try:
            channel.basic_publish("", queue, f"order {number}".encode(), mandatory=True)
            print(f"order {number}: taken")
        except NackError:
            print(f"order {number}: refused, the queue is full")
    try:
        channel.basic_publish("", "example.no-such-queue", b"order 4", mandatory=True)
    except UnroutableError as error:
        print(f"order 4: returned, {error.messages[0].method.reply_text}")
