"""Both files of the manifest go bad in one place while the node runs: it says so and writes it again from what it
knows."""

from __future__ import annotations

from broker.inventory import declared_now
from broker.storelog import StoreLog
from tests.support.durable import DurableBroker
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.wire import publish

PERSISTENT = {"delivery_mode": 2}


def damage(broker: DurableBroker, offset: int) -> None:
    """The same block of both files."""
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    for name in list(disk.directory("/data/manifest").cache):
        path = f"/data/manifest/{name}"
        disk.damage(path, offset, bytes(byte ^ 0xFF for byte in disk.content(path)[offset : offset + 100]))


def declare(broker: DurableBroker) -> None:
    client = broker.open()
    client.ask(
        "exchange.declare",
        exchange="topics",
        type="topic",
        durable=True,
        arguments={"alternate-exchange": "amq.fanout"},
    )
    client.ask("exchange.declare", exchange="inner", type="headers", durable=True, internal=True, auto_delete=True)
    client.ask("exchange.declare", exchange="passing", type="direct")
    client.ask("queue.declare", queue="q", durable=True, arguments={"x-max-priority": 3})
    client.ask("queue.declare", queue="gone", durable=True)
    client.ask("queue.declare", queue="passing")
    client.ask("queue.bind", queue="q", exchange="topics", routing_key="a.#")
    client.ask("queue.bind", queue="q", exchange="amq.direct", routing_key="b")
    client.ask("queue.bind", queue="passing", exchange="topics", routing_key="c")
    client.ask(
        "exchange.bind", destination="inner", source="topics", routing_key="d", arguments={"x-match": "any", "e": 1}
    )
    client.ask("queue.delete", queue="gone")
    for _ in range(20):
        client.send(publish(1, "topics", "a.b", bytes(60_000), properties=PERSISTENT))
        broker.advance(50)
    broker.advance(5000)


def test_it_is_written_again_and_said() -> None:
    broker = DurableBroker()
    declare(broker)
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    assert disk.names("segment.list", "/data/segments")
    damage(broker, 8192)  # the first batch: the state at the beginning
    disk.faults.append(Fault("error", "manifest.sync"))  # the edit after it makes new files
    client = broker.open()
    client.ask("queue.declare", queue="later", durable=True)
    broker.advance(10_000)
    assert broker.failure is None
    StoreLog(broker.store).look()
    (loss,) = broker.store.damage.unconfirmed()
    assert "both files of the manifest are damaged in one place" in loss.what
    client.ask("queue.declare", queue="last", durable=True)
    broker.advance(10_000)
    again = broker.killed()
    assert again.store.findings == []
    assert declared_now(again.server.vhosts) == declared_now(broker.server.vhosts)
    names = {name for name, queue in again.server.vhosts["/"].queues.items() if queue.durable}
    assert names == {"q", "later", "last"}
    assert again.depth("q") == (20, 0)


def test_without_damage_nothing_is_said() -> None:
    broker = DurableBroker()
    declare(broker)
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    disk.faults.append(Fault("error", "manifest.sync"))
    broker.open().ask("queue.declare", queue="later", durable=True)
    broker.advance(10_000)
    StoreLog(broker.store).look()
    assert broker.store.damage.unconfirmed() == []
    assert declared_now(broker.killed().server.vhosts) == declared_now(broker.server.vhosts)
