"""Somebody who declares, binds, unbinds and deletes while the node dies, and what must be there afterwards (I8).

A thing is known to be there or not from the last -ok; while an answer is missing it is unknown, and the next start
shows what it is. From then on it stays so.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.crash.actors import Actor
from tests.crash.ledger import Ledger
from tests.support.wire import Method, WireClient, method, publish

QUEUES: Final[Mapping[str, Mapping[str, object]]] = {
    "x-plain": {},
    "x-auto-delete": {"auto_delete": True},
    "x-priority": {"arguments": {"x-max-priority": 3}},
    "x-quorum": {"arguments": {"x-queue-type": "quorum"}},
    "x-dead-letter": {"arguments": {"x-dead-letter-exchange": "e-direct", "x-dead-letter-routing-key": "none"}},
}
SOURCES: Final[Mapping[str, Mapping[str, object]]] = {
    "e-direct": {"type": "direct"},
    "e-topic": {"type": "topic"},
    "e-fanout-auto-delete-not": {"type": "direct"},
    "e-headers": {"type": "headers", "arguments": {"alternate-exchange": "none"}},
}
INNER: Final[Mapping[str, Mapping[str, object]]] = {"e-inner": {"type": "fanout", "internal": True}}
"""Exchanges that others are bound to."""
EXCHANGES: Final = {**SOURCES, **INNER}
PROBE: Final = "v-probe"
"""A queue that gets what comes to the inner exchanges, while it is looked whether anything does."""
VANISHING: Final[Mapping[str, Mapping[str, object]]] = {
    "v-transient": {},
    "v-exclusive": {"exclusive": True},
    "v-durable-exclusive": {"durable": True, "exclusive": True},
    "v-transient-auto-delete": {"auto_delete": True},
}


class Binding(NamedTuple):
    """From an exchange to a queue or an inner exchange, under a key, or for headers, that no other one has."""

    exchange: str
    destination: str
    has_arguments: bool

    @property
    def key(self) -> str:
        """Its binding key, which a publisher uses as well."""
        return f"{self.exchange}.{self.destination}.{self.has_arguments}"

    @property
    def headers(self) -> dict[str, object]:
        """Those of a message that it is for; all exchanges but one look at the key only."""
        return {"of": self.key}

    @property
    def arguments(self) -> dict[str, object]:
        """They are part of its name: unbinding has to give them as well."""
        if self.exchange == "e-headers":
            return {"x-match": "all", **self.headers}
        return {"number": 1} if self.has_arguments else {}

    @property
    def ends(self) -> dict[str, object]:
        """What bind and unbind are asked for."""
        if self.destination in INNER:
            names = {"source": self.exchange, "destination": self.destination}
        else:
            names = {"exchange": self.exchange, "queue": self.destination}
        return {**names, "routing_key": self.key, "arguments": self.arguments}


Thing = str | Binding


class Declarations:
    """What is declared, as far as one client knows: True, False, or None while nobody knows."""

    def __init__(self) -> None:
        bindings = [
            Binding(source, end, has_any)
            for source in SOURCES
            for end in [*QUEUES, *INNER]
            for has_any in (False, True)
        ]
        self.there: dict[Thing, bool | None] = dict.fromkeys([*QUEUES, *EXCHANGES, *bindings], False)
        self.changes = 0

    def is_there(self, thing: Thing) -> bool:
        """Known to be there."""
        return self.there[thing] is True

    def bindings_of(self, name: str) -> list[Binding]:
        """All that begin or end there, declared or not."""
        return [thing for thing in self.there if isinstance(thing, Binding) and name in thing]

    def affected(self, thing: Thing, wanted: bool) -> dict[Thing, bool]:
        """What a change that ends well makes true: bindings go with their ends."""
        changes: dict[Thing, bool] = {thing: wanted}
        if not wanted and isinstance(thing, str):
            changes |= {binding: False for binding in self.bindings_of(thing) if self.there[binding] is not False}
        return changes

    def may_change(self, thing: Thing) -> bool:
        """Bindings need both ends."""
        return isinstance(thing, str) or (self.is_there(thing.exchange) and self.is_there(thing.destination))


class Declarer(Actor):
    """Changes one thing after the other, each when the one before is answered."""

    def __init__(
        self, name: str, ledger: Ledger, random_: random.Random, host: str, port: int, declarations: Declarations
    ) -> None:
        super().__init__(name, ledger, random_, host, port)
        self.declarations = declarations
        self.pending: dict[Thing, bool] = {}
        for queue, options in VANISHING.items():
            self.link.client.ask(1, "queue.declare", queue=queue, **options)
        self.link.client.ask(1, "exchange.declare", exchange="v-exchange", type="fanout")
        self.link.client.ask(1, "queue.bind", queue="v-transient", exchange="amq.direct", routing_key="v")

    def pump(self) -> None:
        if self.pending:
            return
        known = self.declarations
        thing = self.random.choice([thing for thing in known.there if known.may_change(thing)])
        wanted = not known.is_there(thing) if self.random.random() < 0.8 else True
        self.pending = known.affected(thing, wanted)
        for each in self.pending:
            if known.there[each] is not self.pending[each]:
                known.there[each] = None
        self._ask(thing, wanted)

    def _ask(self, thing: Thing, wanted: bool) -> None:
        say = self.link.say
        if isinstance(thing, Binding):
            say(
                f"{'exchange' if thing.destination in INNER else 'queue'}.{'bind' if wanted else 'unbind'}",
                **thing.ends,
            )
        elif thing in QUEUES:
            if wanted:
                say("queue.declare", queue=thing, durable=True, **QUEUES[thing])
            else:
                say("queue.delete", queue=thing)
        elif wanted:
            say("exchange.declare", exchange=thing, durable=True, **EXCHANGES[thing])
        else:
            say("exchange.delete", exchange=thing)

    def on_method(self, said: Method) -> None:
        if not said.name.endswith("-ok"):
            super().on_method(said)
        self.declarations.there |= self.pending
        self.declarations.changes += 1
        self.pending = {}


class Inspector:
    """Compares a node that has just started with what must be declared; learns what was unknown."""

    def __init__(self, client: WireClient, declarations: Declarations, ledger: Ledger) -> None:
        """`client` has just connected."""
        self.client = client
        self.client.handshake()
        self.client.open_channel()
        self.known = declarations
        self.ledger = ledger

    def run(self) -> None:
        """All of it."""
        for queue in VANISHING:
            if self._passes("queue.declare", queue=queue, passive=True):
                self.ledger.broken("I8", f"{queue} has outlived the node")
        if self._passes("exchange.declare", exchange="v-exchange", passive=True):
            self.ledger.broken("I8", "v-exchange has outlived the node")
        for queue in QUEUES:
            self._compare(queue, self._queue(queue))
        for exchange in EXCHANGES:
            self._compare(exchange, self._passes("exchange.declare", exchange=exchange, passive=True))
        self.client.ask(1, "queue.declare", queue=PROBE, exclusive=True)
        for exchange in INNER:
            if self.known.is_there(exchange):
                self.client.ask(1, "queue.bind", queue=PROBE, exchange=exchange)
        for thing in self.known.there:
            if isinstance(thing, Binding):
                self._compare(thing, self._leads(thing))
        self.client.ask(1, "queue.delete", queue=PROBE)
        for queue in QUEUES:
            if self.known.is_there(queue):
                self.client.ask(1, "queue.purge", queue=queue)
        for exchange in EXCHANGES:
            if self.known.is_there(exchange) and not self._passes(
                "exchange.declare", exchange=exchange, durable=True, **EXCHANGES[exchange]
            ):
                self.ledger.broken("I8", f"{exchange} is not what was declared")
        self.client.goodbye()

    def _compare(self, thing: Thing, found: bool) -> None:
        expected = self.known.there[thing]
        if expected is not None and found != expected:
            self.ledger.broken(
                "I8", f"{thing} was {'declared' if expected else 'deleted'} and is {'there' if found else 'gone'}"
            )
        self.known.there[thing] = found

    def _queue(self, queue: str) -> bool:
        found = self._passes("queue.declare", queue=queue, passive=True)
        if found:
            if not self._passes("queue.declare", queue=queue, durable=True, **QUEUES[queue]):
                self.ledger.broken("I8", f"{queue} is not what was declared")
            elif self.count:
                self.ledger.broken("I5", f"{queue} was purged or is new, and holds {self.count} messages")
        return found

    def _leads(self, binding: Binding) -> bool:
        if not self.known.is_there(binding.exchange):
            return False
        properties = {"delivery_mode": 2, "headers": binding.headers}
        self.client.send(
            publish(1, binding.exchange, binding.key, b"probe", mandatory=True, properties=properties),
            method(1, "basic.qos"),
        )
        said = self.client.read()
        if said.method.name == "basic.return":
            self.client.expect("basic.qos-ok", 1)
            return False
        assert said.method.name == "basic.qos-ok", said
        return True

    count = 0
    """Messages in the queue that was declared last."""

    def _passes(self, name: str, **arguments: object) -> bool:
        """Whether the node answers with -ok; with 404 or 406 the channel is opened again."""
        self.client.send(method(1, name, **arguments))
        said = self.client.read().method
        if said.name == "channel.close":
            assert said["reply_code"] in (404, 406), said
            self.client.send(method(1, "channel.close-ok"))
            self.client.open_channel()
            return False
        assert said.name == f"{name}-ok", said
        if said.name == "queue.declare-ok":
            self.count = said.number("message_count")
        return True
