"""A channel that waits for the disk keeps its frames (broker/protocol/held_frames.py): in order, bounded,
and not for ever.

Rules: answers come in the order of the questions (AMQP 0-9-1 §4.2.6: methods of a channel are processed in order);
other channels go on; at most a mebibyte is kept, then the socket is not read (docs/durability.md).
"""

from __future__ import annotations

import pytest

from tests.support.durable import DurableBroker
from tests.support.memory import Client
from tests.support.wire import method, publish

PERSISTENT = {"delivery_mode": 2}
HELD_MAX = 1 << 20


class Setting:
    """A broker whose disk stands still, and a client that has just declared a durable queue and was not answered."""

    def __init__(self, *channels: int, heartbeat_s: int = 0) -> None:
        self.broker = DurableBroker()
        self.client: Client = self.broker.connect(heartbeat_s=heartbeat_s)
        for channel in channels or (1,):
            self.client.ask("channel.open", on=channel)
        self.client.ask("queue.declare", queue="r", durable=True)
        self.broker.disk_is_stalled = True
        self.client.tell("queue.declare", queue="q", durable=True)
        self.client.expect_nothing()

    def go_on(self) -> None:
        self.broker.disk_is_stalled = False
        self.broker.run_turn()

    def other(self) -> Client:
        return self.broker.open()


def test_everything_behind_the_wait_comes_in_order() -> None:
    """Also what waits in its turn: the second declaration, the get behind it."""
    setting = Setting()
    client = setting.client
    client.tell("confirm.select")
    client.send(publish(1, "", "q", b"one", properties=PERSISTENT), publish(1, "", "q", b"two"))
    client.tell("queue.declare", queue="s", durable=True)
    client.tell("basic.get", queue="q", no_ack=True)
    client.tell("queue.declare", queue="passing")
    client.tell("basic.get", queue="q", no_ack=True)
    client.tell("queue.delete", queue="q")
    client.expect_nothing()
    setting.go_on()
    said = client.hear()
    order = [each.method.name for each in said if each.method.name != "basic.ack"]
    assert order == [
        "queue.declare-ok", "confirm.select-ok", "queue.declare-ok", "basic.get-ok", "queue.declare-ok", "basic.get-ok",
        "queue.delete-ok",
    ]  # fmt: skip
    assert [each.body for each in said if each.method.name == "basic.get-ok"] == [b"one", b"two"]
    assert [
        (each.method["delivery_tag"], each.method["multiple"]) for each in said if each.method.name == "basic.ack"
    ] == [(2, True)]


@pytest.mark.parametrize("size", [1, 7, 8, 100, 5000])
def test_frames_that_come_in_pieces(size: int) -> None:
    """A content whose frames arrive in several reads, some of them while the channel waits."""
    setting = Setting()
    stream = b"".join(publish(1, "", "q", b"%d" % number * 2000, properties=PERSISTENT) for number in range(4))
    half = len(stream) // 2
    setting.client.send(stream[:half], chunks=[size] * (half // size))
    setting.broker.disk_is_stalled = False
    setting.broker.run_turn()
    setting.client.expect("queue.declare-ok")
    setting.client.send(stream[half:], chunks=[size] * ((len(stream) - half) // size))
    assert setting.other().drain("q") == [b"%d" % number * 2000 for number in range(4)]


def test_other_channels_and_connections_go_on() -> None:
    setting = Setting(1, 2)
    client = setting.client
    client.ask("queue.declare", on=2, queue="passing")
    client.publish("passing", b"x", on=2)
    other = setting.other()
    said = other.get("passing", no_ack=True)
    assert said is not None
    assert said.body == b"x"
    client.expect_nothing()
    setting.go_on()
    client.expect("queue.declare-ok", on=1)


def test_too_much_to_keep_stops_reading() -> None:
    setting = Setting(1, 2)
    client = setting.client
    body = b"x" * 100_000
    sent = 0
    while client.sink.reading:
        client.send(publish(1, "", "q", b"%4d" % sent + body, properties=PERSISTENT))
        sent += 1
        assert sent < 20
    assert HELD_MAX - 100_100 < sent * 100_100 < HELD_MAX + 200_000
    client.send(publish(1, "", "q", b"last", properties=PERSISTENT))
    client.tell("queue.declare", on=2, queue="passing")
    client.expect_nothing()  # not read: another channel of this connection waits as well
    assert setting.other().ask("queue.declare", queue="passing", passive=False)["queue"] == "passing"
    setting.go_on()
    assert client.sink.reading
    assert sorted(each.method.name for each in client.hear()) == ["queue.declare-ok", "queue.declare-ok"]
    bodies = setting.other().drain("q")
    assert bodies == [*(b"%4d" % number + body for number in range(sent)), b"last"]


def test_a_connection_that_is_not_read_is_not_taken_for_dead() -> None:
    """AMQP 0-9-1 §4.2.7: its heartbeats cannot be seen; they count again when it is read."""
    setting = Setting(heartbeat_s=10)
    client = setting.client
    while client.sink.reading:
        client.send(publish(1, "", "q", b"x" * 100_000, properties=PERSISTENT))
    setting.broker.advance(120_000)
    assert not client.sink.aborted
    setting.go_on()
    client.expect("queue.declare-ok")
    setting.broker.advance(60_000)
    assert client.sink.aborted


def test_a_client_may_close_its_channel_behind_the_wait() -> None:
    setting = Setting()
    setting.client.send(publish(1, "", "q", b"x", properties=PERSISTENT))
    setting.client.tell("channel.close", reply_code=200, reply_text="", class_id=0, method_id=0)
    setting.client.expect_nothing()
    setting.go_on()
    assert [each.method.name for each in setting.client.hear()] == ["queue.declare-ok", "channel.close-ok"]
    assert setting.other().drain("q") == [b"x"]


def test_an_error_among_what_was_kept() -> None:
    """The rest is ignored, as always behind a channel.close; its space is free again."""
    setting = Setting()
    client = setting.client
    client.tell("queue.declare", queue="none", passive=True)
    while client.sink.reading:
        client.send(publish(1, "", "q", b"x" * 100_000, properties=PERSISTENT))
    setting.go_on()
    client.expect("queue.declare-ok")
    assert "no queue 'none'" in client.channel_error(404)
    assert client.sink.reading
    client.ask("channel.open")
    assert setting.other().drain("q") == []
    held = client.opened.held
    assert held is not None
    assert held.size == 0


def test_a_hard_error_among_what_was_kept() -> None:
    setting = Setting()
    setting.client.send(method(1, "basic.qos", prefetch_size=1))
    setting.go_on()
    setting.client.expect("queue.declare-ok")
    setting.client.connection_error(540)


def closing(setting: Setting) -> None:
    setting.client.tell("connection.close", 0, reply_code=200, reply_text="", class_id=0, method_id=0)


def test_a_connection_that_closes_has_its_messages_taken() -> None:
    """RabbitMQ: connection.close is answered when every channel has done what came before; what comes behind is not
    taken."""
    setting = Setting(1, 2)
    setting.client.send(publish(1, "", "q", b"x", properties=PERSISTENT))
    closing(setting)
    setting.client.send(publish(2, "", "r", b"behind the close"), publish(1, "", "q", b"behind the close"))
    setting.client.expect_nothing()
    setting.go_on()
    assert [each.method.name for each in setting.client.hear()] == ["queue.declare-ok", "connection.close-ok"]
    assert setting.other().drain("q") == [b"x"]
    assert setting.other().drain("r") == []


def test_a_connection_that_closes_with_nothing_kept_does_not_wait() -> None:
    """The queue is there all the same; it was only not promised."""
    setting = Setting()
    closing(setting)
    setting.client.expect("connection.close-ok", on=0)
    setting.go_on()
    setting.client.expect_nothing()
    assert setting.other().drain("q") == []


def test_a_disk_that_hangs_does_not_keep_a_connection_that_closes_for_ever() -> None:
    setting = Setting()
    setting.client.send(publish(1, "", "q", b"never taken", properties=PERSISTENT))
    closing(setting)
    setting.broker.advance(29_000)
    setting.client.expect_nothing()
    setting.broker.advance(2_000)
    setting.client.expect("connection.close-ok", on=0)
    setting.go_on()
    setting.client.expect_nothing()
    assert setting.other().drain("q") == []


@pytest.mark.parametrize("hard", [False, True])
def test_an_error_among_what_was_kept_of_a_connection_that_closes(hard: bool) -> None:
    setting = Setting()
    setting.client.auto = False
    setting.client.send(
        method(1, "basic.qos", prefetch_size=1) if hard else method(1, "queue.declare", queue="none", passive=True)
    )
    setting.client.send(publish(1, "", "q", b"behind the error", properties=PERSISTENT))
    closing(setting)
    setting.client.expect_nothing()
    setting.go_on()
    names = ["connection.close"] if hard else ["channel.close", "connection.close-ok"]
    assert [each.method.name for each in setting.client.hear()] == ["queue.declare-ok", *names]
    assert setting.other().drain("q") == []


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_a_connection_that_closes_sends_behind_is_passed_over(size: int) -> None:
    """Frames and halves of them; then the answer to the close that comes instead is found."""
    setting = Setting()
    client = setting.client
    client.auto = False
    client.send(method(1, "basic.qos", prefetch_size=1))
    closing(setting)
    behind = (
        publish(1, "", "q", b"behind the close" * 100) + method(7, "channel.open") + method(0, "connection.close-ok")
    )
    client.send(behind[:-3], chunks=[size] * (len(behind) // size))
    setting.go_on()
    assert [each.method.name for each in client.hear()] == ["queue.declare-ok", "connection.close"]
    assert not client.sink.ended
    client.send(behind[-3:])
    assert client.sink.ended


def test_what_is_no_frame_behind_a_close_does_not_hurt_what_came_before() -> None:
    setting = Setting()
    setting.client.send(publish(1, "", "q", b"x", properties=PERSISTENT))
    closing(setting)
    setting.client.send(b"no frame at all" * 100)
    setting.client.expect_nothing()
    setting.go_on()
    assert [each.method.name for each in setting.client.hear()] == ["queue.declare-ok", "connection.close-ok"]
    assert setting.other().drain("q") == [b"x"]


def test_a_connection_that_closes_while_it_is_not_read() -> None:
    setting = Setting()
    client = setting.client
    stream = b""
    sent = 0
    while len(stream) < 2 * HELD_MAX:
        stream += publish(1, "", "q", b"%4d" % sent + b"x" * 100_000, properties=PERSISTENT)
        sent += 1
    client.send(stream + method(0, "connection.close", reply_code=200))
    assert not client.sink.reading
    client.expect_nothing()
    setting.go_on()
    assert [each.method.name for each in client.hear()] == ["queue.declare-ok", "connection.close-ok"]
    assert len(setting.other().drain("q")) == sent


@pytest.mark.parametrize("too_much", [False, True])
def test_losing_the_connection_cancels_the_wait(too_much: bool) -> None:
    setting = Setting()
    client = setting.client
    client.send(publish(1, "", "q", b"x", properties=PERSISTENT))
    while too_much and client.sink.reading:
        client.send(publish(1, "", "q", b"x" * 100_000, properties=PERSISTENT))
    client.drop()
    setting.go_on()
    assert setting.other().drain("q") == []


def test_a_wait_that_ends_in_the_turn_in_which_the_connection_fails() -> None:
    setting = Setting(1, 2)
    setting.broker.disk_is_stalled = False
    setting.client.auto = False
    setting.client.send(method(2, "basic.qos", prefetch_size=1))
    while setting.broker.work():
        continue
    setting.broker.run_turn()
    assert [each.method.name for each in setting.client.hear()] == ["connection.close"]


# ---- a basic.get whose message is on its way from the disk


def waiting_get(*, no_ack: bool = False) -> tuple[DurableBroker, Client]:
    """A queue with three recovered messages, and a client that asked for one while the disk stands still."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    for body in (b"1", b"2", b"3"):
        client.publish("q", body, properties=PERSISTENT)
    broker = broker.settled().killed()
    client = broker.open()
    broker.disk_is_stalled = True
    client.tell("basic.get", queue="q", no_ack=no_ack)
    client.expect_nothing()
    return broker, client


def go_on(broker: DurableBroker) -> None:
    broker.disk_is_stalled = False
    broker.run_turn()


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_get_waits_for_its_message(no_ack: bool) -> None:
    broker, client = waiting_get(no_ack=no_ack)
    client.tell("basic.qos", prefetch_count=1)
    go_on(broker)
    said = client.expect_said("basic.get-ok")
    assert (said.body, said.method["message_count"]) == (b"1", 2)
    client.expect("basic.qos-ok")
    assert broker.depth("q") == (2, 0 if no_ack else 1)


def test_several_gets_wait_in_their_order() -> None:
    broker, first = waiting_get()
    second, third = broker.open(), broker.open()
    for client in (second, third):
        client.tell("basic.get", queue="q")
        client.tell("basic.get", queue="q")
    go_on(broker)
    got = [
        [each.body for each in client.hear() if each.method.name == "basic.get-ok"] for client in (first, second, third)
    ]
    assert len(got[0]) == 1, "whoever asked first"
    assert sorted(body for each in got for body in each) == [b"1", b"2", b"3"]


def test_a_consumer_that_comes_while_a_get_waits() -> None:
    """Whoever is served first, everything is delivered once."""
    broker, client = waiting_get()
    consumer = broker.open()
    consumer.consume("q")
    go_on(broker)
    said = client.hear()
    got = [each.body for each in said if each.method.name == "basic.get-ok"] + consumer.bodies()
    assert sorted(got) == [b"1", b"2", b"3"]
    assert len(said) == 1


def test_a_get_whose_queue_is_purged_finds_it_empty() -> None:
    broker, client = waiting_get()
    broker.open().tell("queue.purge", queue="q")
    go_on(broker)
    client.expect("basic.get-empty")


def test_a_get_whose_queue_is_deleted_is_answered() -> None:
    """Empty or not there any more (404), both are true; silence would leave the channel waiting for ever."""
    broker, client = waiting_get()
    broker.open().tell("queue.delete", queue="q")
    go_on(broker)
    (said,) = client.hear()
    assert said.method.name in ("basic.get-empty", "channel.close")


@pytest.mark.parametrize("how", ["drop", "channel.close"])
def test_a_get_whose_client_leaves_takes_nothing(how: str) -> None:
    broker, client = waiting_get(no_ack=True)
    if how == "drop":
        client.drop()
    else:
        client.tell("connection.close", 0, reply_code=200, reply_text="", class_id=0, method_id=0)
    go_on(broker)
    assert broker.open().drain("q") == [b"1", b"2", b"3"]
