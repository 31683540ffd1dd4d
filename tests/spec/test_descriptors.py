"""Without descriptors, or space for a new file, the disk waits: nothing is lost, nothing is in doubt, and the node does
not end (docs/durability.md)."""

from __future__ import annotations

import errno

import pytest

from tests.support.durable import DurableBroker
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.memory import Client
from tests.support.wire import publish

BODY = bytes(60_000)
SITES = ["wal.create", "wal.open", "move.open", "segment.create", "manifest.create", "log.open"]


@pytest.fixture(params=[True, False], ids=["directly", "by the thread"])
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> DurableBroker:
    monkeypatch.setattr(DurableBroker, "writes_directly", request.param)
    return DurableBroker()


def publisher(broker: DurableBroker) -> Client:
    client = broker.open()
    client.ask("confirm.select")
    client.ask("queue.declare", queue="q", durable=True, arguments={"x-dead-letter-exchange": "amq.fanout"})
    client.hear()
    return client


def fill(broker: DurableBroker, client: Client, count: int) -> int:
    """Publishes so many messages, one a turn, while time passes; how many were confirmed."""
    for _ in range(count):
        client.send(publish(1, "", "q", BODY, properties={"delivery_mode": 2}))
        broker.advance(20)
    broker.advance(5000)
    confirmed = 0
    for said in client.hear():
        if said.method.name == "basic.ack":
            confirmed = int(str(said.method["delivery_tag"]))
    return confirmed


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("site", SITES)
def test_what_cannot_be_opened_is_opened_later(broker: DurableBroker, site: str, number: int) -> None:
    """Many files of the log are filled while every attempt to open something there fails, a dozen times."""
    count = 200 if site == "log.open" else 40  # more than a queue keeps in memory
    client = publisher(broker)
    assert isinstance(broker.disk, FaultyDisk)
    broker.disk.faults += [Fault("error", site, arg=number) for _ in range(12)]
    assert fill(broker, client, count) == count
    assert broker.failure is None
    if site == "log.open":
        consumer = broker.open()
        consumer.consume("q", no_ack=True)
        broker.advance(5000)
        assert len(consumer.bodies()) == count
    else:
        assert broker.killed().depth("q") == (count, 0)
    assert any(fault.seen for fault in broker.disk.faults)


@pytest.mark.parametrize(
    ("site", "number"),
    [("wal.create", errno.EMFILE)]
    + [(site, errno.ENOSPC) for site in ("wal.create", "wal.allocate", "wal.header", "wal.header.sync", "wal.publish")]
    + [("wal.allocate", errno.EDQUOT)],
)
def test_publishers_wait_while_no_file_can_be_begun(broker: DurableBroker, site: str, number: int) -> None:
    """A batch for which no file can be begun waits, those behind it too; nothing is confirmed meanwhile, everything
    afterwards."""
    client = publisher(broker)
    assert isinstance(broker.disk, FaultyDisk)
    faults = [Fault("error", site, arg=number) for _ in range(100_000)]
    broker.disk.faults += faults
    before = fill(broker, client, 20)
    assert 0 < before < 20
    assert broker.store.short_of_space
    assert broker.failure is None
    broker.disk.faults.clear()
    broker.advance(1000)
    broker.store.look_for_space()  # which the watcher of the disk does from time to time
    broker.run_turn()
    acks = [said for said in client.hear() if said.method.name == "basic.ack"]
    assert acks[-1].method["delivery_tag"] == 20
    assert not broker.store.short_of_space
    assert broker.killed().depth("q") == (20, 0)


def test_a_full_disk_does_not_end_the_node(broker: DurableBroker) -> None:
    """What there is no room for is not promised; all goes on when there is room again."""
    client = publisher(broker)
    assert isinstance(broker.disk, FaultyDisk)
    broker.disk.free = 0
    before = fill(broker, client, 40)
    assert 0 < before < 40
    assert broker.failure is None
    assert broker.store.short_of_space
    broker.disk.free = 1 << 30
    broker.advance(5000)
    broker.store.look_for_space()  # which the watcher of the disk does from time to time
    broker.run_turn()
    acks = [said for said in client.hear() if said.method.name == "basic.ack"]
    assert acks[-1].method["delivery_tag"] == 40
    assert not broker.store.short_of_space
    assert broker.killed().depth("q") == (40, 0)


def test_a_node_that_stops_while_a_batch_waits_writes_it_first(broker: DurableBroker) -> None:
    client = publisher(broker)
    assert isinstance(broker.disk, FaultyDisk)
    broker.disk.faults += [Fault("error", "wal.create", arg=errno.EMFILE) for _ in range(100_000)]
    fill(broker, client, 20)
    broker.disk.faults.clear()
    assert broker.stopped().depth("q") == (20, 0)


def test_what_has_to_be_read_at_once_is_not_taken_for_lost(broker: DurableBroker) -> None:
    """Dead-lettering of what is on disk only: without a descriptor the messages stay, and come back at the latest after
    a restart."""
    client = publisher(broker)
    assert fill(broker, client, 200) == 200
    assert isinstance(broker.disk, FaultyDisk)
    client.ask("queue.declare", queue="dead")
    client.ask("queue.bind", queue="dead", exchange="amq.fanout")
    client.consume("q", "c")
    broker.disk.faults += [Fault("error", "log.open", arg=errno.EMFILE) for _ in range(100_000)]
    broker.faults_expected = 1000
    client.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    broker.advance(100)
    assert broker.clock.faults.count == 1
    assert broker.store.logs.lost == []
    broker.disk.faults.clear()
    assert broker.killed().depth("q") == (200, 0)
