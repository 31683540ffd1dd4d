"""Content that consumers' unacknowledged messages do not keep in memory (broker/queues/reload.py), and how it comes
back.

AMQP 0-9-1 basic.consume without basic.qos: a consumer gets all there is. RabbitMQ docs, Consumer Acknowledgements: what
it does not acknowledge goes back to its place.
"""

from __future__ import annotations

import pytest

from broker.message import ON_DISK
from broker.queues.entry import Entry
from broker.store.batch_loader import IDLE_MS
from broker.store.filesystem import File
from tests.support.faulty_disk import FaultyDisk
from tests.support.memory import Client
from tests.support.paging import BODY, KINDS, MEMORY_MAX, Setting, dead, is_empty, number, unacked_items
from tests.support.wire import Said

COUNT = 300
"""Messages: more than a megabyte, of which MEMORY_MAX may stay."""


def tag_of(said: Said) -> int:
    return int(str(said.method["delivery_tag"]))


def kept(setting: Setting) -> int:
    """Bytes of unacknowledged deliveries that are in memory."""
    items = [item for backlog in setting.backlogs for item in unacked_items(backlog)]
    return sum(len((item.message if isinstance(item, Entry) else item).content) for item in items)


def take_all(setting: Setting, count: int = COUNT) -> Client:
    """A client that has everything, and forgets most of it: what comes in one more delivery makes it look."""
    reader = setting.broker.open()
    reader.consume("q")
    assert len(reader.deliveries()) == count
    setting.broker.settled()
    for _ in range(2):
        setting.publish(1)
        assert len(reader.deliveries()) == 1
        setting.broker.settled()
    return reader


def order(client: Client) -> list[tuple[int, bool]]:
    """Everything that waits, and whether it was delivered before."""
    found = []
    while (said := client.get("q", no_ack=True)) is not None:
        found.append((number(said.body), bool(said.method["redelivered"])))
    return found


@KINDS
def test_what_a_consumer_does_not_acknowledge_leaves_the_memory(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    setting.publish(COUNT, persistent=persistent)
    reader = take_all(setting)
    in_memory_only = 0 if persistent and durable else 30 * BODY  # what came before the backlog began to page
    assert kept(setting) < in_memory_only + 10 * BODY
    assert setting.broker.depth("q") == (0, COUNT + 2)
    reader.tell("basic.ack", delivery_tag=0, multiple=True)
    assert is_empty(setting)


def test_a_few_are_kept() -> None:
    setting = Setting()
    setting.publish(10)
    take_all(setting, 10)
    assert kept(setting) > 12 * BODY
    assert 12 * BODY < MEMORY_MAX


@KINDS
def test_what_comes_back_is_read_and_keeps_its_place(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    setting.publish(COUNT, persistent=persistent)
    reader = take_all(setting)
    reader.drop()
    assert setting.broker.depth("q") == (COUNT + 2, 0)
    assert setting.drain() == list(range(COUNT + 2))
    assert is_empty(setting)


def test_messages_that_consumers_get_as_they_come_leave_the_memory_too() -> None:
    """None of them was ever in a page."""
    setting = Setting()
    reader = setting.broker.open()
    reader.consume("q")
    got = 0
    for _ in range(COUNT // 10):
        setting.publish(10)
        got += len(reader.deliveries())
    assert got == COUNT
    assert kept(setting) < MEMORY_MAX + 20 * BODY
    reader.drop()
    assert order(setting.client) == [(each, True) for each in range(COUNT)]
    assert is_empty(setting)


@pytest.mark.parametrize("count", [10, COUNT])
def test_what_waits_again_counts_as_memory_as_far_as_it_is_there(count: int) -> None:
    """One budget for all queues (memory.py): a delivery is the channel's, what came back is the queue's again."""
    setting = Setting()
    setting.publish(count)
    reader = take_all(setting, count)
    memory = setting.disk.share._memory
    assert memory.used < 2 * BODY, "told from time to time"
    in_memory = kept(setting)
    reader.drop()
    assert setting.broker.depth("q") == (count + 2, 0)
    if count == 10:
        assert in_memory < memory.used < 2 * in_memory
    else:
        assert memory.used < 3 * MEMORY_MAX
    assert setting.drain() == list(range(count + 2))
    assert is_empty(setting)
    assert memory.used < 2 * BODY, "told from time to time"


def test_they_go_to_consumers_in_order() -> None:
    setting = Setting()
    setting.publish(COUNT)
    take_all(setting).drop()
    reader = setting.broker.open()
    reader.ask("basic.qos", prefetch_count=7)
    reader.consume("q")
    got = []
    while heard := reader.deliveries():
        got += [number(said.body) for said in heard]
        assert all(said.method["redelivered"] for said in heard)
        reader.tell("basic.ack", delivery_tag=tag_of(heard[-1]), multiple=True)
    assert got == list(range(COUNT + 2))
    assert is_empty(setting)


def test_single_ones_come_back_between_others() -> None:
    setting = Setting()
    setting.publish(COUNT)
    reader = take_all(setting)
    back = [5, 6, 100, 250]
    for each in back:
        reader.tell("basic.nack", delivery_tag=each + 1, requeue=True)
    assert [number(said.body) for said in reader.deliveries()] == back, "to the same consumer, which has room"
    reader.tell("basic.cancel", consumer_tag="nobody")
    reader.tell("basic.ack", delivery_tag=0, multiple=True)
    assert is_empty(setting)


def test_several_consumers_in_turns() -> None:
    setting = Setting()
    readers = [setting.broker.open() for _ in range(3)]
    for reader in readers:
        reader.consume("q")
    for _ in range(30):
        setting.publish(12)
        setting.broker.settled()
    assert kept(setting) < MEMORY_MAX + 20 * BODY
    readers[0].drop()
    readers[2].drop()
    heard = [number(said.body) for said in readers[1].deliveries()]
    assert sorted(heard) == list(range(360))
    readers[1].tell("basic.ack", delivery_tag=0, multiple=True)
    assert is_empty(setting)


@pytest.mark.parametrize("multiple", [False, True])
def test_rejected_messages_are_read_to_be_dead_lettered(multiple: bool) -> None:
    setting = Setting(x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(COUNT)
    reader = take_all(setting)
    if multiple:
        reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    else:
        for tag in range(1, COUNT + 3):
            reader.tell("basic.reject", delivery_tag=tag, requeue=False)
    assert dead(setting) == list(range(COUNT + 2))
    assert is_empty(setting)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why files were opened since the test looked last."""
    sites: list[str] = []
    do_open = FaultyDisk.do_open

    def noted(disk: FaultyDisk, site: str, path: str) -> File:
        sites.append(site)
        return do_open(disk, site, path)

    monkeypatch.setattr(FaultyDisk, "do_open", noted)
    return sites


def test_rejected_without_a_dead_letter_exchange_is_not_read(opened: list[str]) -> None:
    setting = Setting()
    setting.publish(COUNT)
    reader = take_all(setting)
    opened.clear()
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    assert is_empty(setting)
    assert "log.open" not in opened


def test_what_expires_after_it_came_back_is_dead_lettered() -> None:
    setting = Setting(x_message_ttl=10_000, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(COUNT)
    take_all(setting).drop()
    assert setting.broker.depth("q") == (COUNT + 2, 0)
    setting.broker.advance(10_100)
    assert dead(setting) == list(range(COUNT + 2))
    assert is_empty(setting)


@pytest.mark.parametrize("dead_letters", [False, True])
def test_what_came_back_is_dropped_when_the_queue_is_too_long(opened: list[str], dead_letters: bool) -> None:
    more: dict[str, object] = (
        {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"} if dead_letters else {}
    )
    setting = Setting(True, x_max_length=COUNT + 2, **more)
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(COUNT)
    take_all(setting).drop()
    opened.clear()
    setting.publish(50)
    assert ("log.open" in opened) == dead_letters
    assert dead(setting) == (list(range(50)) if dead_letters else [])
    assert setting.drain() == list(range(50, COUNT + 52))
    assert is_empty(setting)


def wait_for_a_read(setting: Setting) -> Client:
    """Everything came back, and the disk does not answer: a client whose basic.get waits for the first of it."""
    reader = take_all(setting)
    setting.broker.advance(2 * IDLE_MS + 1)  # nothing that was read before is kept
    setting.broker.disk_is_stalled = True
    reader.drop()
    waiter = setting.broker.open()
    waiter.tell("basic.get", queue="q", no_ack=True)
    return waiter


def test_purge_while_it_is_read() -> None:
    setting = Setting()
    setting.publish(COUNT)
    wait_for_a_read(setting)
    assert setting.backlog.available() == 0
    purger = setting.broker.open()
    assert setting.backlog.count() == COUNT + 2
    purger.tell("queue.purge", queue="q")
    setting.broker.disk_is_stalled = False
    setting.broker.run_turn()
    assert setting.drain() == []
    assert is_empty(setting)


def test_what_is_dropped_while_it_is_read_is_not_counted() -> None:
    setting = Setting(x_max_length=COUNT + 2)
    setting.publish(COUNT)
    waiter = wait_for_a_read(setting)
    setting.publish(20)
    setting.broker.disk_is_stalled = False
    setting.broker.settled()
    said = waiter.expect_said("basic.get-ok")
    assert number(said.body) == 20
    assert setting.drain() == list(range(21, COUNT + 22))
    assert is_empty(setting)


def test_a_transaction_that_is_rolled_back_keeps_them() -> None:
    setting = Setting()
    setting.publish(COUNT)
    reader = setting.broker.open()
    reader.ask("tx.select")
    reader.consume("q")
    heard = reader.deliveries()
    for _ in range(2):
        setting.publish(1)
        heard += reader.deliveries()
        setting.broker.settled()
    assert kept(setting) < 10 * BODY
    reader.tell("basic.nack", delivery_tag=100, multiple=True, requeue=True)
    reader.ask("tx.rollback")
    reader.tell("basic.ack", delivery_tag=50, multiple=True)
    reader.ask("tx.commit")
    reader.drop()
    assert order(setting.client) == [(each, True) for each in range(50, COUNT + 2)]
    assert is_empty(setting)


def test_priorities_come_back_to_their_own_lines() -> None:
    setting = Setting(x_max_priority=2)
    for round_ in range(6):
        setting.publish(50, priority=round_ % 3)
    reader = take_all(setting)
    reader.drop()
    expected = sorted(range(COUNT), key=lambda each: (-(each // 50 % 3), each))
    assert setting.drain() == [*expected, COUNT, COUNT + 1]
    assert is_empty(setting)


def test_rejected_priorities_settle_in_their_own_lines() -> None:
    setting = Setting(x_max_priority=2)
    for round_ in range(6):
        setting.publish(50, priority=round_ % 3)
    take_all(setting).tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    assert is_empty(setting)


@pytest.mark.parametrize("end", ["killed", "lost_power", "stopped"])
def test_a_restart_finds_them(end: str) -> None:
    setting = Setting()
    setting.publish(COUNT)
    take_all(setting)
    setting.broker = getattr(setting.broker.settled(), end)()
    setting.begin()
    assert order(setting.client) == [(each, True) for each in range(COUNT + 2)]
    assert is_empty(setting)


@pytest.mark.parametrize("wanted", ["get", "get at once", "consume", "dead letter"])
def test_what_cannot_be_read_is_lost_and_told(wanted: str) -> None:
    """Damage takes a batch; everything else goes on."""
    more: dict[str, object] = (
        {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"} if wanted == "dead letter" else {}
    )
    setting = Setting(True, **more)
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(28)
    reader = take_all(setting, 28)
    assert kept(setting) < 10 * BODY
    log = setting.disk.kept.log
    assert log is not None
    place = log.extents.wal[log.extents.head].location
    disk = setting.broker.disk
    assert isinstance(disk, FaultyDisk)
    disk.damage(f"/data/wal/{place.generation:016x}.wal", place.offset + 300, b"damage")
    if wanted == "dead letter":
        reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
        found = dead(setting)
    elif wanted == "get at once":
        setting.broker.disk_is_stalled = True  # nothing is read ahead
        reader.drop()
        entry = setting.broker.queue("q").get(True)
        assert entry is not None
        assert (entry.position, entry.message is ON_DISK) == (7, False)
        setting.broker.disk_is_stalled = False
        setting.broker.settled()
        found = [7, *setting.drain()]
    elif wanted == "get":
        reader.drop()
        found = [each for each, _ in order(setting.client)]
    else:
        reader.drop()
        found = setting.drain()
    assert found == list(range(7, 30)), "seven messages came in the batch that is damaged"
    assert setting.broker.store.logs.lost
    assert is_empty(setting)


def test_nothing_is_forgotten_before_it_is_on_the_disk() -> None:
    setting = Setting()
    reader = setting.broker.open()
    reader.consume("q")
    setting.broker.disk_is_stalled = True
    for _ in range(10):
        setting.publish(7)
    assert len(reader.deliveries()) == 70
    assert kept(setting) > 70 * BODY
    assert ON_DISK.content == b""
    setting.broker.disk_is_stalled = False
    setting.broker.settled()
    setting.publish(1)
    assert len(reader.deliveries()) == 1
    assert kept(setting) < 10 * BODY
    reader.drop()
    assert setting.drain() == list(range(71))
    assert is_empty(setting)
