"""Work queue: tasks wait in a durable queue, and every task goes to one of the workers.

A worker acknowledges a task when it is done, and prefetch_count=1 gives the next one to whoever is free. What a worker
had in hand when it went away goes to another one. The workers here are connections of one program; in real life they
are programs of their own.
"""

import os

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
QUEUE = "example.tasks"
PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)

connection = pika.BlockingConnection(PARAMETERS)
channel = connection.channel()
channel.queue_declare(QUEUE, durable=True)
try:
    for number in range(1, 5):
        channel.basic_publish("", QUEUE, f"task {number}".encode(), PERSISTENT)

    workers = []
    for _ in range(2):
        worker = pika.BlockingConnection(PARAMETERS).channel()
        worker.basic_qos(prefetch_count=1)
        workers.append(worker)
    first, second = workers
    tasks_of_first, tasks_of_second = first.consume(QUEUE), second.consume(QUEUE)

    method, _, body = next(tasks_of_first)
    print(f"worker 1: {body.decode()}")
    _, _, unfinished = next(tasks_of_second)
    print(f"worker 2: {unfinished.decode()}")
    second.connection.close()
    print(f"worker 2 goes away in the middle of {unfinished.decode()}")

    for _ in range(3):
        first.basic_ack(method.delivery_tag)
        method, _, body = next(tasks_of_first)
        print(f"worker 1: {body.decode()}{', delivered again' if method.redelivered else ''}")
    first.basic_ack(method.delivery_tag)
    first.connection.close()
finally:
    channel.queue_delete(QUEUE)
    connection.close()
