"""Priorities: a queue with x-max-priority delivers waiting messages of a higher priority first.

Within one priority the order stays. Only what waits is put in order, so consumers should ask for few messages at a time
(prefetch_count).
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-priority": 5}).method.queue
    for priority, text in ((1, "tidy up"), (1, "sweep the floor"), (5, "put out the fire"), (3, "answer the phone")):
        channel.basic_publish("", queue, text.encode(), pika.BasicProperties(priority=priority))

    channel.basic_qos(prefetch_count=1)
    deliveries = channel.consume(queue)
    for _ in range(4):
        method, properties, body = next(deliveries)
        print(f"priority {properties.priority}: {body.decode()}")
        channel.basic_ack(method.delivery_tag)
