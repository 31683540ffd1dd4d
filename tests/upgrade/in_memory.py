"""A node in memory that has opened a kept data directory, and a client that looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.inventory import declared_now
from broker.metadata.changes import DurableBinding, DurableExchange, DurableQueue, decode
from broker.store.records import PUT, key_of, value_of
from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.fake_clock import FakeClock
from tests.support.memory import Broker
from tests.support.wire import Reader, longstr, plain
from tests.upgrade import fixtures

if TYPE_CHECKING:
    import pytest

    from tests.support.wire import Method, Said
    from tests.upgrade.expected import Json, World


class InMemory:
    """A client of a node in memory; see `check.Client`."""

    def __init__(self, broker: DurableBroker) -> None:
        self.broker = broker
        self.client = broker.open()

    def ask(self, name: str, /, **arguments: object) -> Method:
        return self.client.ask(name, **arguments)  # type: ignore[arg-type]

    def get(self, queue: str) -> Said | None:
        return self.client.get(queue)

    def send(self, data: bytes) -> None:
        self.client.send(data)
        self.broker.settled()

    def publish(self, exchange: str, key: str, data: bytes, properties: Mapping[str, object]) -> None:
        self.client.publish(key, data, exchange=exchange, properties=properties)
        self.client.expect_nothing()
        self.broker.settled()

    def count(self, queue: str) -> int:
        return self.broker.depth(queue)[0]

    def declared(self) -> tuple[list[Json], list[Json], list[Json]]:
        exchanges: list[Json] = []
        queues: list[Json] = []
        bindings: list[Json] = []
        for put in declared_now(self.broker.server.vhosts).values():
            found = decode(key_of(PUT, put), value_of(put))
            row: Json = {"arguments": plain(Reader(longstr(found.arguments)).table())}
            if isinstance(found, DurableBinding):
                row |= {"source": found.source, "destination": found.destination, "routing_key": found.binding_key}
                bindings.append(row | {"destination_type": "exchange" if found.to_exchange else "queue"})
                continue
            row |= {"name": found.name, "durable": True, "auto_delete": found.auto_delete}
            if isinstance(found, DurableExchange):
                exchanges.append(row | {"type": found.type_name, "internal": found.internal})
            elif isinstance(found, DurableQueue):
                queues.append(row)
        return exchanges, queues, bindings


def set_clock(world: World, monkeypatch: pytest.MonkeyPatch, after_ms: int) -> None:
    """Nodes in memory start so long after the directory was written."""

    class Clock(FakeClock):
        def __init__(self) -> None:
            super().__init__()
            self.wall_offset_ms = world.ended_ms + after_ms - self.time_ms
            self.refresh()

    monkeypatch.setattr(Broker, "clock_type", Clock)


def opened(name: str, world: World, monkeypatch: pytest.MonkeyPatch, after_ms: int) -> DurableBroker:
    """Today's node on a copy of that directory, so long after it was written."""
    set_clock(world, monkeypatch, after_ms)
    return DurableBroker(fixtures.simulated(name, DATA_DIR))
