"""Resource alarms (RabbitMQ docs, Blocked Connection Notifications; Memory and Disk Alarms): who publishes waits, all others go on."""

from __future__ import annotations

from broker.alarms import DISK, MEMORY
from broker.watermarks import Probe, Watcher, Watermarks
from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.faulty_disk import FaultyDisk
from tests.support.memory import Broker
from tests.support.wire import publish


def alarmed() -> Broker:
    """A broker with a queue and its memory alarm raised."""
    broker = Broker()
    broker.open().ask("queue.declare", queue="q")
    broker.server.alarms.set(MEMORY, True)
    return broker


def test_the_first_publish_during_an_alarm_blocks_its_connection() -> None:
    """It is told once, with the reason; what it published before the broker stopped reading is taken."""
    broker = alarmed()
    publisher = broker.open()
    publisher.send(publish(1, "", "q", b"one") + publish(1, "", "q", b"two"))
    assert publisher.expect("connection.blocked")["reason"] == "low on memory"
    publisher.expect_nothing()
    assert not publisher.sink.reading
    assert broker.depth("q") == (2, 0)


def test_it_goes_on_when_the_alarm_is_over() -> None:
    broker = alarmed()
    publisher = broker.open()
    publisher.send(publish(1, "", "q", b"one"))
    publisher.hear()
    publisher.send(publish(1, "", "q", b"two"))
    assert broker.depth("q") == (1, 0)
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    publisher.expect("connection.unblocked")
    assert publisher.sink.reading
    assert broker.depth("q") == (2, 0)


def test_all_alarms_must_be_over() -> None:
    broker = alarmed()
    broker.server.alarms.set(DISK, True)
    publisher = broker.open()
    publisher.send(publish(1, "", "q", b"one"))
    assert publisher.expect("connection.blocked")["reason"] == "low on memory & low on disk"
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert not publisher.sink.reading
    broker.server.alarms.set(DISK, False)
    broker.run_turn()
    publisher.expect("connection.unblocked")
    assert publisher.sink.reading


def test_consumers_and_declarations_go_on() -> None:
    broker = alarmed()
    consumer = broker.open()
    consumer.ask("queue.declare", queue="other")
    consumer.consume("q")
    broker.open().send(publish(1, "", "q", b"one"))
    assert consumer.bodies() == [b"one"]
    assert consumer.sink.reading


def test_a_client_that_did_not_ask_for_the_notice_gets_none() -> None:
    """Capability connection.blocked in the client's properties."""
    broker = alarmed()
    publisher = broker.open(capabilities={})
    publisher.send(publish(1, "", "q", b"one"))
    publisher.expect_nothing()
    assert not publisher.sink.reading
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    publisher.expect_nothing()
    assert publisher.sink.reading


def test_a_blocked_client_is_not_taken_for_dead() -> None:
    """It is not read, so its heartbeats cannot be seen: the check is suspended."""
    broker = alarmed()
    publisher = broker.connect(heartbeat_s=10)
    publisher.ask("channel.open")
    publisher.send(publish(1, "", "q", b"one"))
    broker.advance(120_000)
    assert not publisher.sink.aborted
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    broker.advance(60_000)
    assert publisher.sink.aborted


def test_a_blocked_client_that_leaves_is_forgotten() -> None:
    broker = alarmed()
    publisher = broker.open()
    publisher.send(publish(1, "", "q", b"one"))
    publisher.drop()
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert publisher.sink.take().count(b"\x00\x0a\x00\x3d") == 0


def test_what_was_taken_is_confirmed_and_delivered_during_the_alarm() -> None:
    """Nothing is taken from a blocked connection any more; what is owed to it still goes to it."""
    broker = alarmed()
    publisher = broker.open()
    publisher.ask("confirm.select")
    publisher.consume("q", "c", no_ack=True)
    publisher.send(publish(1, "", "q", b"one"))
    names = publisher.names()
    assert sorted(names) == ["basic.ack", "basic.deliver", "connection.blocked"]
    other = broker.open()
    other.send(publish(1, "", "q", b"two"))
    assert publisher.bodies() == [b"two"]


def test_a_second_alarm_says_nothing_more_to_who_is_blocked() -> None:
    """One notice per connection until all is clear; who comes later hears both reasons, who comes after the first is cleared, one."""
    broker = alarmed()
    publishers = [broker.open() for _ in range(3)]
    reasons = []
    for number, publisher in enumerate(publishers):
        publisher.send(publish(1, "", "q", b"x"))
        reasons.append(publisher.expect("connection.blocked")["reason"])
        broker.server.alarms.set(DISK, True)
        broker.server.alarms.set(MEMORY, number == 0)
        broker.run_turn()
    assert reasons == ["low on memory", "low on memory & low on disk", "low on disk"]
    for publisher in publishers:
        publisher.expect_nothing()
    broker.server.alarms.set(DISK, False)
    broker.run_turn()
    assert [publisher.names() for publisher in publishers] == [["connection.unblocked"]] * 3


def test_an_alarm_that_comes_back_blocks_again() -> None:
    broker = alarmed()
    publisher = broker.open()
    for _ in range(3):
        broker.server.alarms.set(MEMORY, True)
        publisher.send(publish(1, "", "q", b"x"))
        publisher.expect("connection.blocked")
        broker.server.alarms.set(MEMORY, False)
        broker.run_turn()
        publisher.expect("connection.unblocked")
        publisher.send(publish(1, "", "q", b"y"))
        publisher.expect_nothing()
    assert broker.depth("q") == (6, 0)


class FullDisk:
    """A broker on a disk that fills up, a watcher whose only limit is the store's own need, and a publisher that it has blocked."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.broker = DurableBroker(self.disk)
        self.watcher = Watcher(self.broker.server.alarms, Watermarks(1 << 60, 0), Probe(self.disk, DATA_DIR, self.broker.store), 1000)
        self.broker.settled()
        self.publisher = self.broker.open()
        self.publisher.ask("queue.declare", queue="q", durable=True)
        self.publisher.ask("confirm.select")
        self.broker.settled()
        self.disk.free = 100_000
        self.sent = 0
        while self.publisher.sink.reading:
            self.publisher.send(publish(1, "", "q", b"x" * 20_000, properties={"delivery_mode": 2}))
            self.sent += 1
            assert self.sent < 100, "no alarm"
            self.pass_time()
        assert self.broker.failure is None
        assert "connection.blocked" in self.publisher.names()

    def pass_time(self) -> None:
        self.watcher.look()
        self.broker.advance(1000)


def test_a_full_disk_blocks_before_a_promise_is_broken_and_consumers_make_room() -> None:
    """docs/durability-format.md, "A full disk": publishers wait, what was confirmed is there, and goes to consumers."""
    full = FullDisk()
    assert len(full.broker.open().drain("q")) == full.sent
    following = full.broker.settled().killed()
    assert following.open().drain("q") == []


def test_space_that_others_give_back_ends_the_alarm() -> None:
    """Nobody consumes and nobody can publish: only a look at the disk can tell."""
    full = FullDisk()
    full.disk.free = 1 << 30
    for _ in range(20):
        full.pass_time()
    assert full.publisher.names() == ["connection.unblocked"]
