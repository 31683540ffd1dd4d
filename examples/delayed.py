"""Delayed messages: one waits in a queue without consumers until its time is over, and then comes as a dead letter.

One queue for each delay (x-message-ttl): messages expire when they come to the head of their queue, so that a long
delay given to a single message (its property expiration) would hold up shorter ones behind it.
"""

import os
import time

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    target = channel.queue_declare("", exclusive=True).method.queue
    queues = {}
    for delay_ms in (400, 100):
        delay = {"x-message-ttl": delay_ms, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}
        queues[delay_ms] = channel.queue_declare("", exclusive=True, arguments=delay).method.queue

    started = time.monotonic()
    for delay_ms, queue in queues.items():
        channel.basic_publish("", queue, str(delay_ms).encode())
        print(f"sent with a delay of {delay_ms} ms")

    deliveries = channel.consume(target, auto_ack=True)
    for _ in queues:
        _, _, body = next(deliveries)
        elapsed_ms = (time.monotonic() - started) * 1000
        print(f"came {'after' if elapsed_ms >= int(body) else 'before'} {body.decode()} ms")
