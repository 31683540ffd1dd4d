"""RPC: a request says where the reply should go (reply_to), and the reply which request it answers (correlation_id).

The client uses direct reply-to: it consumes from amq.rabbitmq.reply-to, which costs no queue. It must do so before the
first request, on the same channel, and without acknowledgements. The server here is a thread with a connection of its
own; in real life it is another program.
"""

import os
import threading
from typing import Any

import pika

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"))
QUEUE = "example.squares"
NUMBERS = (3, 5, 12)

server_is_ready = threading.Event()


def serve() -> None:
    """Answers as many requests as will come."""
    with pika.BlockingConnection(PARAMETERS) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, exclusive=True)
        server_is_ready.set()
        requests = channel.consume(QUEUE)
        for _ in NUMBERS:
            method, properties, body = next(requests)
            answer = str(int(body) ** 2).encode()
            channel.basic_publish(
                "", properties.reply_to, answer, pika.BasicProperties(correlation_id=properties.correlation_id)
            )
            channel.basic_ack(method.delivery_tag)


replies: dict[str, bytes] = {}


def on_reply(_channel: Any, _method: Any, properties: Any, body: bytes) -> None:
    """Keeps a reply under the number of its request."""
    replies[properties.correlation_id] = body


server = threading.Thread(target=serve, daemon=True)
server.start()
if not server_is_ready.wait(10):
    raise SystemExit("the server did not start")
with pika.BlockingConnection(PARAMETERS) as connection:
    channel = connection.channel()
    channel.basic_consume("amq.rabbitmq.reply-to", on_reply, auto_ack=True)
    for number in NUMBERS:
        request = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=f"request {number}")
        channel.basic_publish("", QUEUE, str(number).encode(), request)
    while len(replies) < len(NUMBERS):
        connection.process_data_events(time_limit=None)
for number in NUMBERS:
    print(f"the square of {number} is {replies[f'request {number}'].decode()}")
server.join()
