"""Retry: a task that failed waits for a while and is tried again, and after three attempts it is put aside.

A refused task (nack without requeue) is a dead letter of the queue of tasks, and goes to a queue that nobody consumes
from. When its time there is over (x-message-ttl), it is a dead letter again, and returns to the tasks. Its x-death
header says how often it was refused.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
TASKS, WAITING, FAILED = "example.retry.tasks", "example.retry.waiting", "example.retry.failed"
DELAY_MS = 100
ATTEMPTS = 3

with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    # Through the default exchange a routing key is the name of a queue.
    to_waiting = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": WAITING}
    to_tasks = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": TASKS, "x-message-ttl": DELAY_MS}
    channel.queue_declare(TASKS, exclusive=True, arguments=to_waiting)
    channel.queue_declare(WAITING, exclusive=True, arguments=to_tasks)
    channel.queue_declare(FAILED, exclusive=True)

    channel.basic_publish("", TASKS, b"resize the picture")
    for method, properties, body in channel.consume(TASKS):
        deaths = (properties.headers or {}).get("x-death", [])
        attempt = 1 + sum(death["count"] for death in deaths if death["queue"] == TASKS)
        if attempt < ATTEMPTS:
            print(f"attempt {attempt} failed, the next one in {DELAY_MS} ms")
            channel.basic_nack(method.delivery_tag, requeue=False)
        else:
            print(f"attempt {attempt} failed, put aside")
            channel.basic_publish("", FAILED, body, properties)
            channel.basic_ack(method.delivery_tag)
            break
    channel.cancel()
    _, _, body = channel.basic_get(FAILED, auto_ack=True)
    print(f"put aside: {body.decode()}")
