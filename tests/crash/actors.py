"""Clients that keep a node busy: publishers, consumers, and somebody who declares and deletes. Each does one thing on
one connection.

What they do is drawn from a random generator of their own; when the node dies is not, so a seed gives the same load and
not the same crash.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from tests.crash.ledger import PREFIX, Copy, Fate, Group, Ledger, Message
from tests.crash.link import Link, Owner
from tests.support.wire import Method, WireError

BARRIER = "barrier"
"""The queue of the messages that consumers publish to learn that their acks are safe."""
SECOND_BARRIER = "barrier-2"
"""The same for a consumer of that queue."""
OUT_MAX = 1 << 19
"""Bytes that wait for a socket; a publisher does not go on before they are fewer."""


class Actor(Owner):
    """One of them."""

    def __init__(self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int) -> None:
        self.name = name
        self.ledger = ledger
        self.random = random_
        self.link = Link(host, port, self)

    def __str__(self) -> str:
        return self.name


class Publishing(Actor):
    """Publishes in confirm mode; `waiting` are the messages without an answer, in order."""

    def __init__(self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.link.client.ask(1, "confirm.select")
        self.waiting: dict[int, Message] = {}
        self._first = 1
        self._next = 1

    def send(self, message: Message, mandatory: bool = False) -> None:
        """Publish a message."""
        self.waiting[self._next] = message
        self._next += 1
        self.link.publish(message.exchange, message.routing_key, message.header(), message.body(), mandatory)

    def on_answer(self, tag: int, multiple: bool, nack: bool) -> None:
        first = self._first if multiple else tag
        if not first <= tag < self._next:
            raise WireError(f"{self}: an answer to {tag}")
        for each in range(first, tag + 1):
            message = self.waiting.pop(each, None)
            if message is None:
                if not multiple:
                    raise WireError(f"{self}: a second answer to {each}")
                continue
            if nack:
                self.ledger.refuse(message, Fate.NACKED)
            else:
                self.ledger.confirm(message)
                self.confirmed(message)
        if multiple:
            self._first = tag + 1

    def confirmed(self, message: Message) -> None:
        """The node has taken responsibility for a message."""


class Publisher(Publishing):
    """As fast as the window allows, to an exchange whose queues are known."""

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        random_: random.Random,
        host: str,
        port: int,
        *,
        exchange: str,
        routing_key: str,
        queues: Sequence[str],
        window: int = 300,
        transient: float = 0.0,
        large: float = 0.0,
        priorities: int = 0,
    ) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.target = (exchange, routing_key, tuple(queues))
        self.window = window
        self.transient = transient
        self.large = large
        self.priorities = priorities

    def pump(self) -> None:
        burst = self.random.randint(1, self.window)
        while burst and len(self.waiting) < self.window and len(self.link.out) < OUT_MAX and not self.link.blocked:
            burst -= 1
            draw = self.random.random
            exchange, routing_key, queues = self.target
            self.send(
                self.ledger.attempt(
                    self.name,
                    exchange,
                    routing_key,
                    queues,
                    persistent=draw() >= self.transient,
                    priority=self.random.randint(0, self.priorities) if self.priorities else 0,
                    size=200 * 1024 if draw() < self.large else PREFIX.size + int(400 * draw() * draw()),
                )
            )


class Committing(Actor):
    """Publishes in transactions; `open` are the messages of the one whose commit-ok has not come."""

    def __init__(self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.link.client.ask(1, "tx.select")
        self.open: list[Message] = []
        self.committed = 0

    def on_method(self, said: Method) -> None:
        if said.name != "tx.commit-ok":
            super().on_method(said)
        for message in self.open:
            self.ledger.confirm(message)
        self.open = []
        self.committed += 1


class Transactions(Committing):
    """Publishes some messages to two queues and commits, over and over; now and then it rolls back."""

    def __init__(
        self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int, queues: Sequence[str]
    ) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.queues = list(queues)

    def pump(self) -> None:
        if self.open or self.link.out:
            return
        group = Group(f"transaction {self.committed + 1} of {self.name}")
        back = self.random.random() < 0.1
        for _ in range(self.random.randint(2, 12)):
            queue = self.random.choice(self.queues)
            size = PREFIX.size + int(9000 * self.random.random() ** 4)
            message = self.ledger.attempt(self.name, "", queue, [queue], group=group, size=size)
            self.link.publish("", queue, message.header(), message.body())
            if back:
                self.ledger.refuse(message, Fate.NACKED)  # nobody must ever see it
            else:
                self.open.append(message)
        if back:
            self.link.say("tx.rollback")
        else:
            self.link.say("tx.commit")

    def on_method(self, said: Method) -> None:
        if said.name != "tx.rollback-ok":
            super().on_method(said)


class Transfers(Committing):
    """Moves messages to another queue: what it takes is acknowledged in the transaction that publishes as many new
    ones."""

    def __init__(
        self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int, source: str, target: str
    ) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.source = source
        self.target = target
        self.taken: list[tuple[int, Copy]] = []
        self.acked: list[Copy] = []
        self.link.client.ask(1, "basic.qos", prefetch_count=40)
        self.link.say("basic.consume", queue=source)

    def on_deliver(
        self, tag: int, redelivered: bool, exchange: str, routing_key: str, header: bytes, body: bytes
    ) -> None:
        copy = self.ledger.deliver(self.source, exchange, routing_key, redelivered, header, body)
        if copy is not None:
            self.taken.append((tag, copy))

    def pump(self) -> None:
        if self.open or not self.taken:
            return
        group = Group(f"transfer {self.committed + 1} of {self.name}")
        for tag, copy in self.taken:
            message = self.ledger.attempt(self.name, "", self.target, [self.target], group=group)
            self.link.publish("", self.target, message.header(), message.body())
            self.link.say("basic.ack", delivery_tag=tag)
            self.ledger.ack_in(group, copy)
            self.open.append(message)
            self.acked.append(copy)
        self.taken = []
        self.link.say("tx.commit")

    def on_method(self, said: Method) -> None:
        if said.name == "basic.consume-ok":
            return
        super().on_method(said)
        self.ledger.settle(self.acked)
        self.acked = []


class Consumer(Publishing):
    """Takes what comes and acknowledges it, singly or many at once; some it gives back, some it rejects.

    Behind its acks it publishes a message on the same channel: when that is confirmed, the acks before it are safe.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        random_: random.Random,
        host: str,
        port: int,
        queue: str,
        *,
        prefetch: int = 200,
        requeue: float = 0.0,
        reject: float = 0.0,
        lazy: float = 0.0,
    ) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.queue = queue
        self.requeue = requeue
        self.reject = reject
        self.lazy = lazy
        """How often a delivery is left unacknowledged."""
        self.multiple = random_.random() < 0.5
        self.unacked: deque[tuple[int, Copy]] = deque()
        self.left = 0
        """How many of those are meant to stay so."""
        self.acked: list[Copy] = []
        self.behind: dict[int, list[Copy]] = {}
        self.received = 0
        self.link.client.ask(1, "basic.qos", prefetch_count=prefetch)
        self.link.say("basic.consume", queue=queue)

    def on_method(self, said: Method) -> None:
        if said.name != "basic.consume-ok":
            super().on_method(said)

    def on_deliver(
        self, tag: int, redelivered: bool, exchange: str, routing_key: str, header: bytes, body: bytes
    ) -> None:
        self.received += 1
        copy = self.ledger.deliver(self.queue, exchange, routing_key, redelivered, header, body)
        if copy is not None:
            self.unacked.append((tag, copy))

    def pump(self) -> None:
        draw = self.random.random
        if self.multiple:
            if len(self.unacked) > self.random.randint(0, 50) and draw() >= self.lazy:
                tag = self.unacked[-1][0]
                self.link.say("basic.ack", delivery_tag=tag, multiple=True)
                self._ack([copy for _, copy in self.unacked])
                self.unacked.clear()
        else:
            while self.unacked and draw() >= self.lazy:
                tag, copy = self.unacked.popleft()
                chance = draw()
                if chance < self.requeue:
                    self.link.say("basic.nack", delivery_tag=tag, requeue=True)
                    self.ledger.requeue(copy)
                elif chance < self.requeue + self.reject:
                    self.link.say("basic.reject", delivery_tag=tag)
                    self.ledger.reject(copy)
                    self.acked.append(copy)
                else:
                    self.link.say("basic.ack", delivery_tag=tag)
                    self._ack([copy])
        if len(self.acked) > 50 and not self.waiting:
            self.barrier()

    def _ack(self, copies: list[Copy]) -> None:
        for copy in copies:
            self.ledger.ack(copy)
        self.acked += copies

    def barrier(self) -> None:
        """Publish the message behind the acks."""
        queue = BARRIER if self.queue != BARRIER else SECOND_BARRIER
        message = self.ledger.attempt(self.name, "", queue, [queue])
        self.behind[message.number] = self.acked
        self.acked = []
        self.send(message)

    def confirmed(self, message: Message) -> None:
        self.ledger.settle(self.behind.pop(message.number))


class Purger(Publishing):
    """Publishes some messages, takes some of them and gives them back, and purges the queue: over and over, and nobody
    else is there."""

    def __init__(self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int, queue: str) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.queue = queue
        self.left = 0
        """To be published before the purge."""
        self.unacked: list[Copy] = []
        self.purged: list[Copy] = []
        self.state = "idle"
        self.link.client.ask(1, "basic.qos", prefetch_count=60)

    def pump(self) -> None:
        if self.state == "idle":
            self.left = self.random.randint(1, 400)
            self.state = "publishing"
        if self.state == "publishing":
            while self.left and len(self.waiting) < 100 and len(self.link.out) < OUT_MAX and not self.link.blocked:
                self.left -= 1
                self.send(self.ledger.attempt(self.name, "", self.queue, [self.queue]))
            if not self.left and not self.waiting:
                self.state = "taking"
                self.link.say("basic.consume", queue=self.queue, consumer_tag="purger")
        elif self.state == "taking" and len(self.unacked) >= min(60, self.random.randint(1, 100)):
            self.state = "cancelling"
            self.link.say("basic.cancel", consumer_tag="purger")

    def on_deliver(
        self, tag: int, redelivered: bool, exchange: str, routing_key: str, header: bytes, body: bytes
    ) -> None:
        copy = self.ledger.deliver(self.queue, exchange, routing_key, redelivered, header, body)
        if copy is not None:
            self.unacked.append(copy)

    def on_method(self, said: Method) -> None:
        if said.name == "basic.consume-ok":
            return
        if said.name == "basic.cancel-ok":
            self._purge()
        elif said.name == "queue.purge-ok":
            self.ledger.settle(self.purged)
            self.purged = []
            self.state = "idle"
        else:
            super().on_method(said)

    def _purge(self) -> None:
        self.state = "purging"
        self.link.say("basic.nack", delivery_tag=0, multiple=True, requeue=True)
        for copy in self.unacked:
            self.ledger.requeue(copy)
        self.unacked = []
        self.link.say("queue.purge", queue=self.queue)
        self.purged = list(self.ledger.copies[self.queue].values())
        for copy in self.purged:
            self.ledger.ack(copy)


class Drainer(Consumer):
    """Takes everything out of a queue and acknowledges it all."""

    def __init__(
        self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int, queue: str, count: int
    ) -> None:
        super().__init__(name, ledger, random_, host, port, queue, prefetch=random_.choice((0, 0, 20, 500)))
        self.multiple = True
        self.count = count
        self.asked = False
        self.rest = -1
        """What the queue holds in the end, by the node's own count."""

    def on_deliver(
        self, tag: int, redelivered: bool, exchange: str, routing_key: str, header: bytes, body: bytes
    ) -> None:
        self.received += 1
        copy = self.ledger.deliver(self.queue, exchange, routing_key, redelivered, header, body)
        if copy is not None:
            self.ledger.fetch(copy)
            self.unacked.append((tag, copy))

    def pump(self) -> None:
        if self.unacked:
            self.link.say("basic.ack", delivery_tag=self.unacked[-1][0], multiple=True)
            self._ack([copy for _, copy in self.unacked])
            self.unacked.clear()
        if self.received >= self.count and not self.asked and not self.unacked:
            self.asked = True
            self.barrier()
            self.link.say("queue.declare", queue=self.queue, passive=True)

    def on_method(self, said: Method) -> None:
        if said.name == "queue.declare-ok":
            count = said["message_count"]
            assert isinstance(count, int)
            self.rest = count
        else:
            super().on_method(said)

    def is_done(self) -> bool:
        """Everything was taken and acknowledged, and the acks are safe."""
        return self.rest >= 0 and not self.waiting
