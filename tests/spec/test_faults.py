"""A mistake of the broker's own costs the connection it belongs to, which hears 541, and nobody else anything
(broker/faults.py).

Something raises where no exception is expected, in every place that serves many, one after the other; the others must
be served.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog

from broker.alarms import MEMORY
from broker.clock import Timed
from broker.faults import FaultOwner
from broker.message import Message
from broker.protocol.channel_consumer import ChannelConsumer
from broker.queues.classic import ClassicQueue
from broker.queues.entry import Entry
from broker.queues.queue import Queue
from broker.store.commit_group import Listener
from broker.store.runner import Job
from broker.turn import Deferred, Dispatchable, Flushable, Syncable
from tests.support.durable import DurableBroker
from tests.support.fakes import FakeConsumer, FakeHost, arguments, declared, environment, make_message, needs_traits
from tests.support.memory import Broker, Client
from tests.support.wire import PROTOCOL_HEADER, publish

OTHERS = 3


class BrokenConsumer(FakeConsumer):
    """Raises when it gets something, and when it is told that its queue is gone."""

    def __init__(self, victim: Client) -> None:
        super().__init__("broken")
        self.victim = victim

    def fault_owner(self) -> FaultOwner | None:
        return self.victim.opened

    def deliver(
        self,
        queue: Queue,
        level: int,
        items: list[Message | Entry | None],
        first_position: int,
        stride: int,
        redelivered: bool,
    ) -> None:
        raise ZeroDivisionError

    def cancelled(self) -> None:
        raise ZeroDivisionError


class BrokenDeferred(Deferred):
    def __init__(self, victim: Client) -> None:
        self.victim = victim

    def resume(self) -> None:
        raise ZeroDivisionError

    def fault_owner(self) -> FaultOwner | None:
        return self.victim.opened


class BrokenListener(Listener):
    def __init__(self, victim: Client) -> None:
        self.victim = victim

    def durable(self, through: int) -> None:
        raise ZeroDivisionError

    def fault_owner(self) -> FaultOwner | None:
        return self.victim.opened


class BrokenJob(Job):
    """Raises where it is told to."""

    def __init__(self, runs: bool) -> None:
        self.runs = runs

    def run(self) -> None:
        if not self.runs:
            raise ZeroDivisionError

    def finished(self) -> None:
        raise ZeroDivisionError


class BrokenHost(FakeHost):
    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        raise ZeroDivisionError


class BrokenWork(Dispatchable, Syncable, Flushable, Timed):
    """Work of a turn and of a timer."""

    def __init__(self, victim: Client | None) -> None:
        self.victim = victim

    def dispatch(self) -> None:
        raise ZeroDivisionError

    def sync(self) -> None:
        raise ZeroDivisionError

    def flush(self) -> None:
        raise ZeroDivisionError

    def on_timer(self, now_ms: int) -> None:
        raise ZeroDivisionError

    def fault_owner(self) -> FaultOwner | None:
        return None if self.victim is None else self.victim.opened


# Each breaks something of the victim's, and causes it to happen in the same turn as the work of the others, or says how
# long it takes.


def flush(broker: DurableBroker, victim: Client) -> int:
    victim.sink.broken = "write"
    victim.opened.session.send(publish(1, "", "none"))  # any frame
    return 0


def delivery_to_one(broker: DurableBroker, victim: Client) -> int:
    victim.ask("queue.declare", queue="of-victim")
    victim.auto = False
    broker.queue("of-victim").add_consumer(BrokenConsumer(victim))
    broker.queue("of-victim").enqueue(make_message(b"1"))
    return 0


def delivery_in_turns(broker: DurableBroker, victim: Client) -> int:
    queue = broker.queue("shared")
    queue.add_consumer(BrokenConsumer(victim))
    for _ in range(4 * (OTHERS + 1)):
        queue.enqueue(make_message(b"1"))
    return 0


def cancel(broker: DurableBroker, victim: Client) -> int:
    queue = broker.queue("shared")
    consumer = BrokenConsumer(victim)
    queue.consumers.all = [consumer, *queue.consumers.all]
    consumer.registered = True
    broker.vhost.remove_queue(queue)
    return 0


def deferred(broker: DurableBroker, victim: Client) -> int:
    broker.turn.defer(BrokenDeferred(victim))
    return 0


def waiting_for_a_message(broker: DurableBroker, victim: Client) -> int:
    victim.ask("queue.declare", queue="of-victim")
    queue = broker.queue("of-victim")
    queue.schedule.wait(BrokenDeferred(victim))
    queue.schedule_dispatch()
    return 0


def promise(broker: DurableBroker, victim: Client) -> int:
    broker.store.logs.batch.listen(BrokenListener(victim))
    broker.store.logs.batch.append(0, 0, b"x")
    return 0


def heartbeat(broker: DurableBroker, victim: Client) -> int:
    victim.sink.broken = "abort"
    return 3000


def alarm_is_over(broker: DurableBroker, victim: Client) -> int:
    broker.server.alarms.set(MEMORY, True)
    victim.send(publish(1, "", "none", b"x"))
    victim.sink.broken = "resume_reading"
    broker.server.alarms.set(MEMORY, False)
    return 0


def mark_of_flush(broker: DurableBroker, victim: Client) -> int:
    broker.turn.schedule_flush(BrokenWork(victim))
    return 0


def timer(broker: DurableBroker, victim: Client) -> int:
    broker.clock.call_at(broker.clock.now_ms + 1, BrokenWork(victim))
    return 2


ITS_CONNECTION = [
    flush,
    delivery_to_one,
    delivery_in_turns,
    cancel,
    deferred,
    waiting_for_a_message,
    promise,
    heartbeat,
    alarm_is_over,
    pytest.param(mark_of_flush, marks=needs_traits),
    pytest.param(timer, marks=needs_traits),
]


def handshake_timeout(broker: DurableBroker, victim: Client) -> int:
    late = broker.client()
    late.send(PROTOCOL_HEADER)
    late.sink.broken = "close"
    return broker.limits.handshake_timeout_ms


def job_runs(broker: DurableBroker, victim: Client) -> int:
    broker._runners[1].submit(BrokenJob(runs=False))
    return 0


def job_is_finished(broker: DurableBroker, victim: Client) -> int:
    broker._runners[1].submit(BrokenJob(runs=True))
    return 0


def new_file(broker: DurableBroker, victim: Client) -> int:
    def broken() -> None:
        broker.store.wal.on_new_file = None  # once: there may be more than one new file
        raise ZeroDivisionError

    broker.store.wal.on_new_file = broken
    generation = broker.store.wal.files[-1].generation
    while broker.store.wal.files[-1].generation == generation:
        broker.store.logs.batch.append(0, 0, bytes(1 << 16))
        broker._run_turns()
    return 0


def dead_letter_of_a_queue(broker: DurableBroker, victim: Client) -> int:
    made = declared("broken", arguments(x_dead_letter_exchange="", x_message_ttl=5))
    queue = ClassicQueue(made, environment(BrokenHost(), broker.turn, broker.clock))
    queue.enqueue(make_message(b"1"))
    return 7


def mark_of_dispatch(broker: DurableBroker, victim: Client) -> int:
    broker.turn.schedule_dispatch(BrokenWork(None))
    return 0


def mark_of_sync(broker: DurableBroker, victim: Client) -> int:
    broker.turn.schedule_sync(BrokenWork(None))
    return 0


NOBODYS = [
    handshake_timeout,
    job_runs,
    job_is_finished,
    new_file,
    dead_letter_of_a_queue,
    pytest.param(mark_of_dispatch, marks=needs_traits),
    pytest.param(mark_of_sync, marks=needs_traits),
]


class Setting:
    """A victim, and others before and after it in every list."""

    def __init__(self) -> None:
        self.broker = DurableBroker()
        self.clients: list[Client] = []
        for number in range(OTHERS + 1):
            client = self.broker.connect(heartbeat_s=1 if number == 1 else 0)
            client.ask("channel.open")
            client.ask("confirm.select")
            client.ask("queue.declare", queue=f"q{number}", durable=True)
            client.ask("queue.declare", queue="shared")
            if number != 1:
                client.consume("shared")
            self.clients.append(client)
        self.victim = self.clients.pop(1)

    def cause(self, fault: Callable[[DurableBroker, Client], int]) -> list[dict[str, object]]:
        """Makes the mistake happen, with work of everybody else in the same turn; what was logged."""
        self.broker.faults_expected = 1
        with structlog.testing.capture_logs() as logs:
            wait_ms = fault(self.broker, self.victim)
            for client in self.clients:
                client.auto = False
                client.tell("basic.get", queue="q0")
                client.auto = True
            self.broker.run_turn()
            self.broker.advance(wait_ms)
        return [dict(log) for log in logs if log["log_level"] == "error"]

    def assert_served(self) -> None:
        """Everybody else has heard, and goes on."""
        for client in self.clients:
            assert "basic.get-empty" in client.names()
            client.send(publish(1, "", "q0", b"kept", properties={"delivery_mode": 2}))
            assert client.names() == ["basic.ack"]
            got = client.get("q0", no_ack=True)
            assert got is not None
            assert got.body == b"kept"
            assert not client.sink.ended
        assert not self.broker.turn.scheduled
        assert self.broker.failure is None


@pytest.mark.parametrize("fault", ITS_CONNECTION)
def test_the_connection_it_belongs_to_is_closed_and_nobody_else_is_touched(
    fault: Callable[[DurableBroker, Client], int],
) -> None:
    setting = Setting()
    logs = setting.cause(fault)
    assert [(log["event"], log["owner"]) for log in logs] == [("Internal error", setting.victim.opened.session.name)]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)
    setting.assert_served()
    closes = [said for said in setting.victim.hear() if said.method.name == "connection.close"]
    assert [said.method["reply_code"] for said in closes] == [541]


@pytest.mark.parametrize("fault", NOBODYS)
def test_what_belongs_to_no_connection_is_logged_and_costs_nobody_anything(
    fault: Callable[[DurableBroker, Client], int],
) -> None:
    setting = Setting()
    logs = setting.cause(fault)
    assert [(log["event"], log["log_level"]) for log in logs] == [("Internal error", "error")]
    setting.assert_served()


def test_a_connection_that_cannot_even_be_closed_is_cut_off() -> None:
    """Its socket refuses the next write, too: the first mistake asks for connection.close, the second one ends the
    socket."""
    setting = Setting()
    setting.broker.faults_expected = 2
    flush(setting.broker, setting.victim)
    setting.broker.turn.run()
    setting.victim.sink.broken = "write"
    setting.broker.run_turn()
    assert setting.victim.sink.aborted


def test_everything_a_connection_held_is_given_back_though_giving_back_fails() -> None:
    """A queue of its own cannot be deleted properly; its other queues go, and what it had not acknowledged comes
    back."""
    broker = Broker()
    keeper, victim = broker.open(), broker.open(1, 2)
    keeper.ask("queue.declare", queue="work")
    keeper.publish("work", b"1")
    victim.consume("work", on=2)
    victim.ask("queue.declare", queue="own-1", exclusive=True)
    victim.ask("queue.declare", queue="own-2", exclusive=True)
    consumer = BrokenConsumer(keeper)
    consumer.victim = victim
    broker.queue("own-1").add_consumer(consumer)
    broker.faults_expected = 1
    victim.drop()
    assert set(broker.vhost.queues) == {"work"}
    assert broker.depth("work") == (1, 0)


@needs_traits
def test_a_delivery_that_fails_half_way_leaves_no_half_frame_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed over is requeued when the connection ends; what the client sees is whole frames up to
    connection.close."""
    broker = Broker()
    victim, other = broker.open(), broker.open()
    victim.ask("queue.declare", queue="q")
    victim.ask("basic.qos", prefetch_count=2)
    victim.consume("q")
    deliver = ChannelConsumer.deliver

    def broken(
        self: ChannelConsumer,
        queue: Queue,
        level: int,
        items: list[Message | Entry | None],
        first: int,
        stride: int,
        again: bool,
    ) -> None:
        monkeypatch.setattr(ChannelConsumer, "deliver", deliver)
        deliver(self, queue, level, items, first, stride, again)
        self.channel.session.outbox.write(b"\x01\x00")
        raise ZeroDivisionError

    monkeypatch.setattr(ChannelConsumer, "deliver", broken)
    broker.faults_expected = 1
    other.publish("q", b"1")
    assert victim.connection_error(541) == "INTERNAL_ERROR - INTERNAL_ERROR"
    got = other.get("q", no_ack=True)
    assert got is not None
    assert (got.body, got.method["redelivered"]) == (b"1", True)
