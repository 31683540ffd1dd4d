"""What is on disk of a backlog (broker/queues/disk_backlog.py): it leaves the memory and comes back whole, in order.

RabbitMQ docs, Classic Queues: messages beyond a small part in memory are on disk, of whatever queue; Queues, Message
Ordering.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from broker.message import ON_DISK
from broker.store.batch import LARGE
from broker.store.batch_reader import Fetcher
from broker.store.read_request import Read
from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.paging import (
    BODY,
    KINDS,
    MEMORY_MAX,
    Setting,
    dead,
    disk_backlog_of,
    is_empty,
    number,
    unacked_items,
)
from tests.support.wire import publish

BACKLOG = 1200
"""Messages: five megabytes, several reads."""


def held(setting: Setting) -> int:
    """Bytes of messages that the backlog has in memory, in front and in its tail, as it has told."""
    return int(setting.disk.report())


@KINDS
def test_a_backlog_leaves_the_memory(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    setting.publish(BACKLOG, persistent=persistent)
    assert held(setting) < MEMORY_MAX + 7 * (BODY + 1000)
    assert setting.disk.paging
    assert (setting.backlog.count(), setting.backlog.body_bytes) == (BACKLOG, BACKLOG * BODY)
    assert setting.broker.depth("q") == (BACKLOG, 0)
    assert setting.drain() == list(range(BACKLOG))
    assert is_empty(setting)


@KINDS
def test_a_consumer_gets_a_backlog_in_order_and_a_part_at_a_time(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    setting.publish(BACKLOG, persistent=persistent)
    reader = setting.broker.open()
    reader.ask("basic.qos", prefetch_count=20)
    reader.consume("q")
    got: list[int] = []
    largest = 0
    while heard := reader.deliveries():
        got += [number(said.body) for said in heard]
        largest = max(largest, int(setting.backlog.memory_bytes))
        reader.tell("basic.ack", delivery_tag=heard[-1].method["delivery_tag"], multiple=True)
    assert got == list(range(BACKLOG))
    assert largest < 2 * MEMORY_MAX, "what is read at a time, and what may still be there before that"
    assert is_empty(setting)


@KINDS
def test_no_ack_consumers_settle_what_they_get(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    setting.publish(300, persistent=persistent)
    readers = [setting.broker.open() for _ in range(2)]
    for reader in readers:
        reader.consume("q", no_ack=True)
    setting.publish(300, persistent=persistent)
    got = [[number(body) for body in reader.bodies()] for reader in readers]
    assert all(each == sorted(each) for each in got)
    assert sorted(got[0] + got[1]) == list(range(600))
    assert is_empty(setting)


@KINDS
def test_a_drained_backlog_lives_in_memory_again_and_may_page_once_more(durable: bool, persistent: bool) -> None:
    setting = Setting(durable)
    for round_ in range(3):
        setting.publish(100, persistent=persistent)
        assert setting.disk.paging
        assert setting.drain() == list(range(round_ * 110, round_ * 110 + 100))
        assert not setting.disk.paging
        setting.publish(10, persistent=persistent)
        assert not setting.disk.paging
        assert len(setting.drain()) == 10
    assert is_empty(setting)


def test_what_is_published_while_the_backlog_pages_stands_behind_it() -> None:
    setting = Setting()
    setting.publish(50)
    getter = setting.broker.open()
    got = []
    for _ in range(40):
        for _ in range(3):
            said = getter.get("q", no_ack=True)
            assert said is not None
            got.append(number(said.body))
        setting.publish(5, persistent=bool(setting.serial % 2))
    assert got + setting.drain() == list(range(setting.serial))
    assert is_empty(setting)


def test_paged_messages_keep_their_properties_and_their_route() -> None:
    """Neighbours of another route and with other properties do not rub off."""
    setting = Setting()
    setting.client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key="#")
    given: list[tuple[str, str, dict[str, object]]] = [
        ("", "q", {"delivery_mode": 2, "message_id": "m", "app_id": "a", "priority": 3, "timestamp": 5}),
        ("amq.topic", "a." + "k" * 253, {"delivery_mode": 1}),
        ("amq.topic", "", {"delivery_mode": 2, "expiration": "100000000"}),
    ]
    for index in range(90):
        exchange, key, properties = given[index % 3]
        setting.client.send(publish(1, exchange, key, b"%d" % index * 1000, properties=properties))
    assert setting.disk.paging
    reader = setting.broker.open()
    for index in range(90):
        said = reader.get("q", no_ack=True)
        assert said is not None
        found = (said.method["exchange"], said.method["routing_key"], dict(said.properties), said.body)
        assert found == (*given[index % 3], b"%d" % index * 1000)
        assert not said.method["redelivered"]
    assert is_empty(setting)


def test_requeued_messages_go_in_front_of_the_pages() -> None:
    setting = Setting()
    setting.publish(200)
    reader = setting.broker.open()
    taken = [reader.get("q") for _ in range(60)]
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert len(taken) == 60
    again = setting.broker.open()
    flags = []
    order = []
    while (said := again.get("q", no_ack=True)) is not None:
        order.append(number(said.body))
        flags.append(bool(said.method["redelivered"]))
    assert order == list(range(200))
    assert flags == [True] * 60 + [False] * 140
    assert is_empty(setting)


@KINDS
@pytest.mark.parametrize("taken", [0, 5, 60])
def test_purge_drops_pages_too(durable: bool, persistent: bool, taken: int) -> None:
    setting = Setting(durable)
    setting.publish(200, persistent=persistent)
    reader = setting.broker.open()
    for _ in range(taken):
        assert reader.get("q") is not None
    assert reader.ask("queue.purge", queue="q")["message_count"] == 200 - taken
    assert setting.broker.depth("q") == (0, taken)
    setting.publish(3, persistent=persistent)
    reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert setting.drain() == [*range(taken), 200, 201, 202], "what was delivered was not purged, and keeps its place"
    assert is_empty(setting)


def test_purge_during_a_read_leaves_nothing_behind() -> None:
    setting = Setting()
    setting.publish(600)
    reader = setting.broker.open()
    reader.ask("basic.qos", prefetch_count=1)
    setting.broker.disk_is_stalled = True
    reader.tell("basic.get", queue="q", no_ack=True)
    purger = setting.broker.open()
    purger.tell("queue.purge", queue="q")
    setting.broker.disk_is_stalled = False
    setting.broker.run_turn()
    assert setting.drain() == []
    setting.publish(2)
    assert setting.drain() == [600, 601]
    assert is_empty(setting)


@pytest.mark.parametrize("durable", [True, False])
def test_a_deleted_queue_leaves_nothing_behind(durable: bool) -> None:
    setting = Setting(durable)
    setting.publish(200)
    numbers = {
        int(log.number) for backlog in setting.backlogs if (log := disk_backlog_of(backlog).kept.log) is not None
    }
    assert setting.client.ask("queue.delete", queue="q")["message_count"] == 200
    assert numbers
    assert numbers.isdisjoint(map(int, setting.broker.store.logs.logs))
    setting.begin()
    assert setting.drain() == []


@pytest.mark.parametrize("dead_letters", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_max_length_drops_the_head_of_a_backlog_that_pages(durable: bool, dead_letters: bool) -> None:
    """RabbitMQ docs, Queue Length Limit: the oldest go; with a dead letter exchange, in order, to it."""
    more = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"} if dead_letters else {}
    setting = Setting(durable, x_max_length=100, **more)
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(250)
    assert setting.broker.depth("q") == (100, 0)
    assert dead(setting) == (list(range(150)) if dead_letters else [])
    setting.publish(60, each_turn=1)
    assert dead(setting) == (list(range(150, 210)) if dead_letters else [])
    assert setting.drain() == list(range(210, 310))
    assert is_empty(setting)


@pytest.mark.parametrize("durable", [True, False])
def test_nobody_waits_for_a_large_message_at_the_head_of_a_backlog_that_pages(durable: bool) -> None:
    """Rule: what takes long to read is read by the thread for it, and dropped when it is there."""
    setting = Setting(durable, x_max_length=40, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(30)
    setting.publish(3, LARGE + 5)
    setting.publish(5)
    reads: list[bool] = []
    reader = setting.broker.store.logs.reader
    assert isinstance(reader, Fetcher)
    fetch_now = reader.fetch_now

    def counted(read: Read) -> None:
        reads.append(read.is_large())
        fetch_now(read)

    reader.fetch_now = counted  # type: ignore[method-assign]
    setting.publish(40)
    assert setting.broker.depth("q") == (40, 0)
    assert [(number(body), len(body) > LARGE) for body in setting.broker.open().drain("dead")] == [
        (index, 30 <= index < 33) for index in range(38)
    ]
    assert reads.count(True) == 0
    assert setting.drain() == list(range(38, 78))


def test_of_what_is_rejected_one_large_message_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: dead-lettering looks at the clock behind each that was on the disk only and is large."""
    monkeypatch.setattr(DurableBroker, "clock_type", HurriedClock)
    setting = Setting(True, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(20, LARGE // 2, each_turn=1)
    setting.publish(6, LARGE + 5, each_turn=1)
    setting.publish(20, LARGE // 2, each_turn=1)
    setting.client.consume("q", "c")
    assert len(setting.client.deliveries()) == 46
    turns: list[int] = []
    reader = setting.broker.store.logs.reader
    assert isinstance(reader, Fetcher)
    fetch_now = reader.fetch_now

    def counted(read: Read) -> None:
        if read.is_large():
            turns.append(setting.broker.turn.turns)
        fetch_now(read)

    reader.fetch_now = counted  # type: ignore[method-assign]
    setting.client.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    assert [number(body) for body in setting.broker.open().drain("dead")] == list(range(46))
    assert len(turns) >= 5
    assert len(set(turns)) == len(turns)


def test_max_length_bytes_of_a_backlog_that_pages() -> None:
    """RabbitMQ docs, Queue Length Limit: the sum of the bodies. Of messages of one size nothing is guessed."""
    setting = Setting(x_max_length_bytes=100 * BODY)
    setting.publish(250)
    assert setting.broker.depth("q") == (100, 0)
    assert setting.backlog.body_bytes == 100 * BODY
    assert setting.drain() == list(range(150, 250))
    assert is_empty(setting)


def test_reject_publish_counts_what_is_paged() -> None:
    setting = Setting(x_max_length=100, x_overflow="reject-publish")
    setting.publish(250)
    assert setting.drain() == list(range(100))
    setting.publish(3)
    assert setting.drain() == [250, 251, 252]
    assert is_empty(setting)


@KINDS
def test_paged_messages_expire(durable: bool, persistent: bool) -> None:
    """RabbitMQ docs, Time-To-Live: from the head of the queue, to the dead letter exchange, when their time has
    come."""
    setting = Setting(durable, x_message_ttl=10_000, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    setting.client.ask("queue.declare", queue="dead")
    setting.publish(150, persistent=persistent)
    setting.broker.advance(5000)
    setting.publish(150, persistent=persistent)
    assert setting.broker.depth("q") == (300, 0)
    setting.broker.advance(5100)
    assert setting.broker.depth("q") == (150, 0)
    assert dead(setting) == list(range(150))
    setting.broker.advance(5100)
    assert setting.broker.depth("q") == (0, 0)
    assert dead(setting) == list(range(150, 300))
    assert is_empty(setting)


def test_an_expiration_of_its_own_behind_pages() -> None:
    """Only heads are looked at: it goes when those before it are gone (RabbitMQ docs, Time-To-Live, Caveats)."""
    setting = Setting()
    setting.publish(100)
    setting.publish(1, expiration="50")
    setting.publish(1)
    setting.broker.advance(1000)
    assert setting.broker.depth("q")[0] == 102
    assert setting.drain() == [*range(100), 101]
    assert is_empty(setting)


def test_priorities_page_backlog_by_backlog() -> None:
    """RabbitMQ docs, Priority: higher ones first, in order among equals."""
    setting = Setting(x_max_priority=2)
    for round_ in range(6):
        setting.publish(50, priority=round_ % 3)
    assert sum(disk_backlog_of(backlog).paging for backlog in setting.backlogs) == 3
    order = setting.drain()
    expected = sorted(range(300), key=lambda each: (-(each // 50 % 3), each))
    assert order == expected
    assert is_empty(setting)


def test_single_acks_in_any_order_free_everything() -> None:
    setting = Setting()
    setting.publish(300)
    reader = setting.broker.open()
    reader.consume("q")
    tags = [int(str(said.method["delivery_tag"])) for said in reader.deliveries()]
    assert len(tags) == 300
    random.Random(1).shuffle(tags)
    for tag in tags:
        reader.tell("basic.ack", delivery_tag=tag)
    assert is_empty(setting)


def test_several_consumers_share_a_backlog() -> None:
    setting = Setting()
    setting.publish(300)
    readers = [setting.broker.open() for _ in range(3)]
    for reader in readers:
        reader.ask("basic.qos", prefetch_count=10)
        reader.consume("q")
    got: list[list[int]] = [[], [], []]
    while sum(map(len, got)) < 300:
        for own, reader in zip(got, readers, strict=True):
            heard = reader.deliveries()
            own += [number(said.body) for said in heard]
            if heard:
                reader.tell("basic.ack", delivery_tag=heard[-1].method["delivery_tag"], multiple=True)
    assert sorted(got[0] + got[1] + got[2]) == list(range(300))
    assert all(own == sorted(own) for own in got)
    assert is_empty(setting)


# ---- after a restart


def test_a_recovered_backlog_stays_on_disk_until_it_is_wanted() -> None:
    setting = Setting()
    setting.publish(BACKLOG)
    setting.restart()
    assert (setting.backlog.count(), setting.backlog.in_memory(), setting.backlog.memory_bytes) == (BACKLOG, 0, 0)
    assert setting.backlog.body_bytes == BACKLOG * BODY
    setting.serial = BACKLOG
    setting.publish(5)
    assert setting.drain() == list(range(BACKLOG + 5))
    assert is_empty(setting)


def test_limits_and_purge_hold_for_what_was_recovered() -> None:
    setting = Setting(x_max_length=100)
    setting.publish(100)
    setting.restart()
    setting.serial = 100
    setting.publish(30)
    assert setting.broker.depth("q") == (100, 0)
    assert setting.client.get("q", no_ack=True) is not None
    assert setting.client.ask("queue.purge", queue="q")["message_count"] == 99
    assert is_empty(setting)


def test_gaps_of_messages_that_did_not_survive() -> None:
    """Every third message is persistent: the backlog has holes afterwards, and goes on counting behind them."""
    setting = Setting()
    for index in range(300):
        setting.publish(1, persistent=index % 3 == 0)
    setting.restart()
    setting.serial = 300
    setting.publish(4)
    assert setting.drain() == [*range(0, 300, 3), 300, 301, 302, 303]
    assert is_empty(setting)


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_what_is_published_after_a_restart_was_never_delivered(end: str) -> None:
    """A crash makes all that it left doubtful, and nothing that comes later (AMQP 0-9-1 basic.deliver,
    "redelivered")."""
    setting = Setting()
    setting.publish(3)
    assert setting.client.get("q") is not None
    setting.broker = getattr(setting.broker.settled(), end)()
    setting.begin()
    setting.publish(100)
    flags = []
    while (said := setting.client.get("q", no_ack=True)) is not None:
        flags.append(bool(said.method["redelivered"]))
    assert flags[0]
    assert flags[3:] == [False] * 100
    assert end == "killed" or flags[1:3] == [False, False]


class Item:
    """A message of the model."""

    def __init__(self, serial: int, persistent: bool) -> None:
        self.serial = serial
        self.persistent = persistent
        self.redelivered = False
        self.doubtful = False
        """A crash may have forgotten that it was not delivered."""


class Model:
    """The queue in the plainest words."""

    def __init__(self, durable: bool) -> None:
        self.durable = durable
        self.waiting: list[Item] = []
        self.unacked: list[tuple[int, Item]] = []

    def take(self) -> Item:
        return self.waiting.pop(0)

    def put_back(self, items: list[Item]) -> None:
        for item in items:
            item.redelivered = True
        self.waiting = sorted(self.waiting + items, key=lambda item: item.serial)

    def chosen(self, tag: int, multiple: bool) -> list[Item]:
        found = [(each, item) for each, item in self.unacked if each == tag or (multiple and each <= tag)]
        self.unacked = [pair for pair in self.unacked if pair not in found]
        return [item for _, item in found]

    def restarted(self, clean: bool) -> None:
        for item in self.waiting:
            item.doubtful = item.doubtful or not clean
        self.put_back([item for _, item in self.unacked])
        self.unacked = []
        self.waiting = [item for item in self.waiting if self.durable and item.persistent]


def actions(chance: random.Random) -> Iterator[str]:
    weights = {
        "publish": 30,
        "get": 14,
        "consume": 8,
        "ack": 12,
        "nack": 5,
        "reject": 3,
        "purge": 1,
        "restart": 4,
        "wait": 4,
    }
    while True:
        yield chance.choices(list(weights), list(weights.values()))[0]


@pytest.mark.parametrize("seed", range(24))
def test_random_lives_agree_with_a_list(seed: int) -> None:
    """Publish, get, consume, ack, requeue, reject, purge and three kinds of ends, in any order."""
    chance = random.Random(seed)
    durable = seed % 4 != 3
    setting = Setting(durable)
    sizes = [[1, 50, 400], [3000, 20_000], [60_000]][seed % 3]
    model = Model(durable)
    after = actions(chance)
    for step in range(150):
        where = f"seed {seed}, step {step}"
        action = next(after)
        client = setting.client
        if action == "publish":
            for _ in range(chance.randrange(1, 4)):
                count, persistent = chance.choice([1, 3, 10]), chance.random() < 0.7
                model.waiting += [Item(setting.serial + index, persistent) for index in range(count)]
                setting.publish(count, chance.choice(sizes), each_turn=chance.choice([1, 10]), persistent=persistent)
        elif action in ("get", "consume"):
            no_ack = chance.random() < 0.3
            wanted = chance.choice([1, 2, 10, 40])
            heard = []
            if action == "get":
                for _ in range(wanted):
                    said = client.get("q", no_ack=no_ack)
                    heard += [] if said is None else [said]
                assert len(heard) == min(wanted, len(model.waiting)), where
            else:
                client.ask("basic.qos", prefetch_count=wanted)
                client.consume("q", "c", no_ack=no_ack)
                heard = client.deliveries()
                client.ask("basic.cancel", consumer_tag="c")
                assert len(heard) == (len(model.waiting) if no_ack else min(wanted, len(model.waiting))), where
            for said in heard:
                item = model.take()
                assert number(said.body) == item.serial, where
                flag = bool(said.method["redelivered"])
                assert flag == item.redelivered or (flag and item.doubtful), where
                if not no_ack:
                    model.unacked.append((int(str(said.method["delivery_tag"])), item))
        elif action in ("ack", "nack", "reject") and model.unacked:
            tag, multiple = chance.choice(model.unacked)[0], chance.random() < 0.4
            items = model.chosen(tag, multiple)
            if action == "ack":
                client.tell("basic.ack", delivery_tag=tag, multiple=multiple)
            else:
                client.tell("basic.nack", delivery_tag=tag, multiple=multiple, requeue=action == "nack")
            if action == "nack":
                model.put_back(items)
        elif action == "purge":
            assert client.ask("queue.purge", queue="q")["message_count"] == len(model.waiting), where
            model.waiting = []
        elif action == "wait":
            setting.broker.settled()
        elif action == "restart":
            end = chance.choice(["killed", "lost power", "stopped"])
            setting.broker.settled()
            broker = setting.broker
            setting.broker = (
                broker.killed()
                if end == "killed"
                else broker.lost_power(step)
                if end == "lost power"
                else broker.stopped()
            )
            setting.begin()
            model.restarted(end == "stopped")
        assert setting.broker.depth("q") == (len(model.waiting), len(model.unacked)), where
    assert setting.drain() == [item.serial for item in model.waiting], f"seed {seed}"
    setting.client.tell("basic.ack", delivery_tag=0, multiple=True)
    assert is_empty(setting)


# The tail, and the memory of all queues


@KINDS
def test_the_tail_stays_in_memory_as_far_as_it_may(durable: bool, persistent: bool) -> None:
    """A consumer near the end of a backlog that pages does not read what was written a moment ago."""
    setting = Setting(durable)
    setting.publish(200, persistent=persistent)
    getter = setting.broker.open()
    for expected in range(190):
        said = getter.get("q", no_ack=True)
        assert said is not None
        assert number(said.body) == expected
    setting.publish(5, persistent=persistent)
    disk = setting.broker.disk
    assert isinstance(disk, FaultyDisk)
    reads = disk.sites.count("log.read")
    assert [number(body) for body in setting.broker.open().drain("q")] == list(range(190, 205))
    assert disk.sites.count("log.read") == reads
    assert not setting.disk.paging
    assert is_empty(setting)


def test_backlogs_share_the_memory_of_the_node() -> None:
    """broker/queues/memory.py: what n backlogs have in memory does not grow with n; each has what it needs to go on."""
    setting = Setting(durable=False)
    memory = setting.broker.server.queue_memory
    memory.limit = 1 << 20
    for index in range(20):
        setting.client.ask("queue.declare", queue=f"q{index}")
    for start in range(0, 400, 5):
        for index in range(20):
            name = f"q{index}"
            setting.client.send(*(publish(1, "", name, (b"%d " % (start + at)).ljust(BODY, b".")) for at in range(5)))
    assert 800_000 < memory.used < (1 << 20) + 20 * (64 << 10)
    for index in range(20):
        bodies = setting.broker.open().drain(f"q{index}")
        assert [number(body) for body in bodies] == list(range(400))
    assert memory.used < 20 * 4096 + 1


def test_a_queue_that_is_deleted_or_purged_gives_its_memory_back() -> None:
    setting = Setting(durable=False)
    memory = setting.broker.server.queue_memory
    setting.publish(500, 2000)
    assert memory.used > 40_000
    setting.client.ask("queue.purge", queue="q")
    assert memory.used == 0
    setting.publish(10, 1000)
    setting.client.ask("queue.delete", queue="q")
    assert memory.used == 0


@KINDS
def test_the_size_of_what_is_left_is_exact_whatever_the_sizes_are(durable: bool, persistent: bool) -> None:
    """RabbitMQ docs, Queue Length Limit: x-max-length-bytes counts bodies; a large one behind many small ones must not
    count as theirs."""
    setting = Setting(durable)
    for _ in range(6):
        setting.publish(60, 1000, persistent=persistent)
        setting.publish(1, 300_000, persistent=persistent)
    sizes = ([1000] * 60 + [300_000]) * 6
    getter = setting.broker.open()
    while sizes:
        assert setting.backlog.body_bytes == sum(sizes)
        said = getter.get("q", no_ack=True)
        assert said is not None
        assert len(said.body) == sizes.pop(0)
    assert is_empty(setting)


def test_what_leaves_the_memory_in_one_go_is_let_go_in_slices() -> None:
    """A message of 32 MiB made 150,000 small ones leave the memory: the node stood still for 60 ms."""
    setting = Setting()
    setting.publish(60)
    disk = setting.disk
    assert disk.paging
    disk.share.most = 64 << 20
    setting.publish(20_000, 20, each_turn=1000)
    parts = [block.items for block in setting.backlog.table.blocks()][1:-1]
    assert len(parts) >= 6

    def let_go() -> int:
        return sum(sys.getrefcount(part) <= 3 for part in parts)  # nobody else has it

    disk.share.most = MEMORY_MAX
    seen = [let_go()]
    setting.client.auto = False
    setting.publish(1)
    setting.broker.store.logs.batch.hurry()
    setting.broker.hurry()
    while setting.broker.turn.scheduled or setting.broker.work():
        setting.broker.turn.run()
        seen.append(let_go())
    assert held(setting) < 2 * MEMORY_MAX
    assert seen[-1] - seen[0] >= 5
    assert max(after - before for before, after in pairwise(seen)) <= 1


def test_a_delivery_takes_the_content_of_some_earlier_ones_out_of_the_memory() -> None:
    """Not of all at once: when memory becomes short there may be a million."""
    setting = Setting()
    setting.disk.share.most = 64 << 20
    reader = setting.broker.open()
    reader.consume("q")
    setting.publish(3000, 20, each_turn=500)

    def forgotten() -> int:
        return sum(item is ON_DISK for item in unacked_items(setting.backlog))

    assert forgotten() == 0
    setting.disk.share.most = MEMORY_MAX
    seen = [0]
    for _ in range(16):
        setting.publish(1, 20)
        seen.append(forgotten())
    assert 0 < max(after - before for before, after in pairwise(seen)) <= 256
    assert seen[-1] > 2900
