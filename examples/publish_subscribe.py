"""Publish and subscribe: a fanout exchange copies every message to the queue of each subscriber.

Every subscriber has a queue of its own, named by the broker and gone with its connection (exclusive). The exchange goes
with the last of them (auto_delete). Who subscribes later does not get what was published before.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
EXCHANGE = "example.news"

with pika.BlockingConnection(PARAMETERS) as connection:
    subscribers = []
    for name in ("reader 1", "reader 2"):
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "fanout", auto_delete=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EXCHANGE)
        subscribers.append((name, channel, queue))

    publisher = connection.channel()
    for headline in ("sunny today", "rain tomorrow"):
        publisher.basic_publish(EXCHANGE, routing_key="", body=headline.encode())

    for name, channel, queue in subscribers:
        deliveries = channel.consume(queue, auto_ack=True)
        for _ in range(2):
            _, _, body = next(deliveries)
            print(f"{name}: {body.decode()}")
