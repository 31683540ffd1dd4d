"""Resource alarms (RabbitMQ docs, Blocked Connection Notifications; Memory and Disk Alarms): who publishes waits, all
others go on."""

from __future__ import annotations

import pytest

from broker.alarms import DISK, MEMORY
from broker.watermarks import Probe, Watcher, Watermarks
from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.faulty_disk import FaultyDisk
from tests.support.memory import Broker
from tests.support.wire import body, header, method, publish


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


@pytest.mark.parametrize("who", ["operator", "client"])
def test_a_blocked_client_whose_connection_closes_is_read_again(who: str) -> None:
    """Its close-ok must be seen, whether the alarm lasts or not; as with RabbitMQ, whose closing connections are not
    blocked."""
    broker = alarmed()
    publisher = broker.open()
    if who == "operator":
        publisher.send(publish(1, "", "q", b"one"))
        publisher.expect("connection.blocked")
        publisher.opened.shut_down("enough")
        broker.run_turn()
    else:
        publisher.send(publish(1, "", "q", b"one") + header(1, 5))  # a header without its method
        publisher.expect("connection.blocked")
    publisher.connection_error(320 if who == "operator" else 505)
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert broker.server.closing == {}


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
    """One notice per connection until all is clear; who comes later hears both reasons, who comes after the first is
    cleared, one."""
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
    """A broker on a disk that fills up, a watcher whose only limit is the store's own need, and a publisher that it has
    blocked."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.broker = DurableBroker(self.disk)
        self.watcher = Watcher(
            self.broker.server.alarms, Watermarks(1 << 60, 0), Probe(self.disk, DATA_DIR, self.broker.store), 1000
        )
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


HALF = bytes(100_000)


def half_a_message(size: int = 3 * len(HALF)) -> bytes:
    """A publish whose body is begun and not whole."""
    return method(1, "basic.publish", exchange="", routing_key="q") + header(1, size) + body(1, HALF)


def test_an_alarm_stops_a_publisher_in_the_middle_of_a_body() -> None:
    """RabbitMQ (rabbit_reader, publish_received): a content header or body frame during an alarm blocks its
    connection."""
    broker = alarmed()
    broker.server.alarms.set(MEMORY, False)
    publisher, idle = broker.open(), broker.open()
    publisher.send(half_a_message())
    publisher.expect_nothing()
    broker.server.alarms.set(MEMORY, True)
    broker.run_turn()
    assert publisher.expect("connection.blocked")["reason"] == "low on memory"
    assert (publisher.sink.reading, idle.sink.reading) == (False, True)
    idle.ask("queue.declare", queue="other")
    publisher.send(body(1, HALF) + body(1, HALF))
    assert broker.depth("q") == (0, 0)
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert publisher.names() == ["connection.unblocked"]
    assert [len(each) for each in broker.open().drain("q")] == [300_000]
    assert broker.server.alarms.receiving == 0


def test_a_header_during_an_alarm_blocks_before_its_body() -> None:
    broker = alarmed()
    publisher = broker.open()
    publisher.send(method(1, "basic.publish", exchange="", routing_key="q") + header(1, 3))
    publisher.expect("connection.blocked")
    assert not publisher.sink.reading
    publisher.send(body(1, b"abc"))
    assert broker.depth("q") == (0, 0)
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    publisher.expect("connection.unblocked")
    assert broker.depth("q") == (1, 0)


def test_who_has_sent_a_whole_message_is_not_in_the_middle_of_one() -> None:
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    publisher.send(half_a_message(), body(1, HALF), body(1, HALF), chunks=[50_000])
    broker.server.alarms.set(MEMORY, True)
    broker.run_turn()
    publisher.expect_nothing()
    assert publisher.sink.reading


@pytest.mark.parametrize("end", ["drop", "channel", "connection", "error"])
def test_what_was_begun_and_given_up_is_not_counted_any_more(end: str) -> None:
    broker = Broker()
    publisher = broker.open(1, 2)
    publisher.send(half_a_message(), body(1, HALF)[:70_000], chunks=[60_000, 60_000])
    alarms = broker.server.alarms
    assert alarms.receiving == len(HALF) + 70_000
    if end == "drop":
        publisher.drop()
    elif end == "connection":
        publisher.opened.shut_down("test")
        publisher.drop()
    else:
        publisher.send(body(1, HALF)[70_000:])
        publisher.tell("channel.close", 1) if end == "channel" else publisher.send(body(2, b"x"))
        publisher.drop()
    assert alarms.receiving == 0
    alarms.set(MEMORY, True)
    broker.run_turn()
    assert not publisher.opened.session.blocked


def test_frames_that_wait_for_the_disk_are_counted() -> None:
    broker = DurableBroker()
    client = broker.open()
    broker.disk_is_stalled = True
    client.tell("queue.declare", queue="q", durable=True)
    client.send(publish(1, "", "q", HALF))
    assert broker.server.alarms.receiving > len(HALF)
    broker.disk_is_stalled = False
    broker.settled()
    assert broker.server.alarms.receiving == 0
    assert broker.depth("q") == (1, 0)


def test_bytes_on_their_way_ask_for_a_look_before_it_is_due() -> None:
    """As many as there was room at the last look: then memory is looked at, once, and the look says when next."""
    broker = Broker()
    alarms = broker.server.alarms
    looks: list[int] = []
    alarms.look_at_memory = lambda: looks.append(int(alarms.receiving))
    alarms.receiving_max = 2 * len(HALF) - 1
    publisher = broker.open()
    publisher.send(half_a_message(10 * len(HALF)))
    assert looks == []
    publisher.send(body(1, HALF))
    assert looks == [2 * len(HALF)]
    publisher.send(body(1, HALF))
    assert looks == [2 * len(HALF)]
