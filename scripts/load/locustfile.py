"""Load from locust: each user has a connection of its own, publishes to a queue with confirms, and consumes what it has
published.

    locust -f scripts/load/locustfile.py --headless --users 50 --spawn-rate 10 --run-time 1m
        --host amqp://guest:guest@127.0.0.1:5672/%2f

The figures that come out: `connect`, `publish` (until the confirm), `consume` (the wait for the delivery) and
`end to end` (from the publish to the delivery of the same message). pika sends and waits, so this shows latency under
many users; for the highest throughput of a node see the load generator `leveret perf`.

LOAD_BODY_SIZE (256) sets the bytes of a message, LOAD_PERSISTENT=1 makes messages and queues durable, LOAD_PREFETCH
(10) sets the prefetch.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import pika
from locust import User, constant, task

BODY_SIZE = int(os.environ.get("LOAD_BODY_SIZE", "256"))
PERSISTENT = os.environ.get("LOAD_PERSISTENT", "") == "1"
PREFETCH = int(os.environ.get("LOAD_PREFETCH", "10"))
DEFAULT_ADDRESS = "amqp://guest:guest@127.0.0.1:5672/%2f"
DELIVERY_TIMEOUT_S = 10
RECONNECT_PAUSE_S = 1
SENT_AT = "sent-at"


class PublishAndConsume(User):
    """One client with one queue: publish, wait for the confirm, take the message back, acknowledge it."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Makes the body; the first task connects."""
        self.body = os.urandom(BODY_SIZE)
        self.connection: pika.BlockingConnection | None = None

    def on_stop(self) -> None:
        """Leaves nothing behind."""
        if self.connection is not None and self.connection.is_open:
            self.channel.cancel()
            self.channel.queue_delete(self.queue)
            self.connection.close()

    @task
    def round_trip(self) -> None:
        """One message there and back, on a new connection when there is none."""
        if (self.connection is not None and self.connection.is_open) or self.connect():
            if self.publish():
                self.consume()

    def connect(self) -> bool:
        """Connects and declares the user's queue; whether that went well. Its consumer starts with the first delivery
        awaited."""
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            self.connection = pika.BlockingConnection(pika.URLParameters(self.host or DEFAULT_ADDRESS))
            self.channel = self.connection.channel()
            self.channel.confirm_delivery()
            self.channel.basic_qos(prefetch_count=PREFETCH)
            self.queue = f"load-{uuid.uuid4()}"
            self.channel.queue_declare(
                self.queue, durable=PERSISTENT, exclusive=not PERSISTENT, arguments={"x-expires": 60_000}
            )
            self.deliveries = self.channel.consume(self.queue, inactivity_timeout=DELIVERY_TIMEOUT_S)
        except (pika.exceptions.AMQPError, OSError) as error:
            failure = error
            self.connection = None
        self.report("connect", started, 0, failure)
        if failure is not None:
            # A node that is down must not be met with a storm of attempts.
            time.sleep(RECONNECT_PAUSE_S)
        return failure is None

    def publish(self) -> bool:
        """Publishes one message; whether the broker has confirmed it."""
        headers = {SENT_AT: str(time.perf_counter_ns())}
        properties = pika.BasicProperties(headers=headers, delivery_mode=2 if PERSISTENT else 1)
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            self.channel.basic_publish("", self.queue, self.body, properties, mandatory=True)
        except pika.exceptions.AMQPError as error:
            failure = error
        self.report("publish", started, BODY_SIZE, failure)
        return failure is None

    def consume(self) -> None:
        """Takes one delivery and acknowledges it."""
        started = time.perf_counter()
        try:
            method, properties, body = next(self.deliveries)
            if method is None:
                self.report("consume", started, 0, TimeoutError(f"nothing was delivered within {DELIVERY_TIMEOUT_S} s"))
                return
            self.report("consume", started, len(body), None)
            sent_at = int(properties.headers[SENT_AT]) / 1e9
            wrong = None if body == self.body else ValueError("the body is not the one that was published")
            self.report("end to end", sent_at, len(body), wrong)
            self.channel.basic_ack(method.delivery_tag)
        except pika.exceptions.AMQPError as error:
            self.report("consume", started, 0, error)

    def report(self, name: str, started: float, size: int, failure: Exception | None) -> None:
        """Tells locust about one step; `started` is a reading of perf_counter."""
        fields: dict[str, Any] = {"request_type": "AMQP", "name": name, "response_length": size, "exception": failure}
        self.environment.events.request.fire(response_time=(time.perf_counter() - started) * 1000, **fields)
