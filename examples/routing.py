"""Routing: a direct exchange hands a message to the queues that are bound with exactly its routing key.

One queue may be bound with several keys, and several queues with one. A message whose key nobody asked for is dropped.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
EXCHANGE = "example.logs"

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "direct", auto_delete=True)

    everything = channel.queue_declare("", exclusive=True).method.queue
    for severity in ("info", "warning", "error"):
        channel.queue_bind(everything, EXCHANGE, routing_key=severity)
    errors = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(errors, EXCHANGE, routing_key="error")

    for severity, text in (("info", "started"), ("debug", "nobody asked for this"), ("error", "the disk is full")):
        channel.basic_publish(EXCHANGE, severity, text.encode())

    for name, queue, expected in (("everything", everything, 2), ("errors", errors, 1)):
        deliveries = channel.consume(queue, auto_ack=True)
        for _ in range(expected):
            method, _, body = next(deliveries)
            print(f"{name}: {method.routing_key}: {body.decode()}")
        channel.cancel()
