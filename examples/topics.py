"""Topics: a topic exchange compares the words of the routing key with patterns.

Words are separated by dots. In a pattern * stands for one word, and # for any number of words, also none.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
EXCHANGE = "example.sensors"
KEYS = ("kitchen.temperature", "kitchen.oven.temperature", "cellar.humidity")

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", auto_delete=True)
    queues = {}
    for pattern in ("*.temperature", "kitchen.#", "#"):
        queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queues[pattern], EXCHANGE, routing_key=pattern)

    channel.confirm_delivery()  # each message is in its queues before the next step
    for key in KEYS:
        channel.basic_publish(EXCHANGE, key, b"21")

    for pattern, queue in queues.items():
        matched = []
        for _ in range(channel.queue_declare(queue, passive=True).method.message_count):
            method, _, _ = channel.basic_get(queue, auto_ack=True)
            matched.append(method.routing_key)
        print(f"{pattern} matches {', '.join(matched)}")
