"""What takes longer than a turn is done in slices, and nobody can tell: order, answers and promises are as if it were
done at once.

broker/turn.py, broker/protocol/sliced.py. The clock of these tests says at every look that the time is over, so
everything that can be left for the next turn is left. `test_other_rules_hold_as_well` runs rules of other files that
way.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from itertools import pairwise

import pytest

from broker.alarms import DISK, MEMORY
from broker.protocol.channel import Channel
from broker.protocol.channel_consumer import ChannelConsumer
from broker.queues.classic import ClassicQueue
from tests.spec import (
    test_ack,
    test_alarms,
    test_basic_get,
    test_channel,
    test_confirms,
    test_dead_letter,
    test_exclusive,
    test_length_limit,
    test_priority,
    test_queue_delete,
    test_ttl,
    test_tx,
)
from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.fakes import numbered as numbered_messages
from tests.support.memory import Broker, Client
from tests.support.wire import body, header, method, publish


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


def numbered(client: Client, queue: str, count: int, **properties: object) -> None:
    client.send(*(publish(1, "", queue, b"%d" % number, properties=properties) for number in range(count)))


def numbers(bodies: list[bytes]) -> list[int]:
    return [int(body) for body in bodies]


def with_graveyard(broker: Broker, **arguments: object) -> Client:
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    more = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"} | arguments
    client.ask("queue.declare", queue="q", arguments=more)
    return client


def test_a_rejected_run_is_dead_lettered_in_order_before_the_next_method() -> None:
    broker = Broker()
    client = with_graveyard(broker)
    numbered(client, "q", 500)
    client.consume("q")
    tag = client.deliveries()[-1].method["delivery_tag"]
    turns = broker.turn.turns
    client.tell("basic.nack", delivery_tag=tag, multiple=True, requeue=False)
    assert client.ask("queue.declare", queue="dead", passive=True)["message_count"] == 500, (
        "later frames of the channel wait"
    )
    assert broker.turn.turns - turns > 10, "it was done in slices"
    assert numbers(broker.open().drain("dead")) == list(range(500))


def test_another_client_is_served_meanwhile() -> None:
    broker = Broker()
    client = with_graveyard(broker)
    other = broker.open()
    other.ask("queue.declare", queue="own")
    numbered(client, "q", 500)
    client.consume("q")
    tag = client.deliveries()[-1].method["delivery_tag"]
    client.auto = other.auto = False
    client.tell("basic.nack", delivery_tag=tag, multiple=True, requeue=False)
    other.tell("queue.declare", queue="own", passive=True)
    for _ in range(5):
        broker.turn.run()
    client.auto = other.auto = True
    assert broker.depth("dead")[0] < 500
    other.expect("queue.declare-ok")
    broker.run_turn()
    assert broker.depth("dead") == (500, 0)


@pytest.mark.parametrize("how", ["channel", "connection", "socket"])
def test_everything_goes_back_in_order_when_a_channel_ends(how: str) -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    numbered(client, "q", 100)
    for _ in range(40):
        client.consume("q")
    assert len(client.deliveries()) == 100
    if how == "channel":
        client.ask("channel.close", reply_code=0, reply_text="", class_id=0, method_id=0)
    elif how == "connection":
        client.ask("connection.close", on=0, reply_code=0, reply_text="", class_id=0, method_id=0)
    else:
        client.drop()
        broker.run_turn()
    assert broker.depth("q") == (100, 0)
    said = [broker.open().get("q", no_ack=True) for _ in range(100)]
    assert [(int(each.body), each.method["redelivered"]) for each in said if each is not None] == [
        (n, True) for n in range(100)
    ]


def test_close_ok_of_a_connection_comes_when_its_exclusive_queues_are_gone() -> None:
    """RabbitMQ docs, Exclusive Queues: a client that reconnects declares the same name."""
    broker = Broker()
    client = broker.open()
    for index in range(50):
        client.ask("queue.declare", queue=f"own{index}", exclusive=True)
    client.ask("connection.close", on=0, reply_code=0, reply_text="", class_id=0, method_id=0)
    following = broker.open()
    for index in range(50):
        following.ask("queue.declare", queue=f"own{index}", exclusive=True)


def test_a_message_for_very_many_queues_is_promised_when_the_log_has_its_part() -> None:
    """It has been on the disk for long when the last of them get it, which keep nothing."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("exchange.declare", exchange="many", type="fanout")
    for number in range(300):
        name = f"q{number}"
        client.ask("queue.declare", queue=name, durable=number == 0)
        client.ask("queue.bind", queue=name, exchange="many")
    client.ask("confirm.select")
    broker.settled()
    client.publish("", b"x", exchange="many", properties={"delivery_mode": 2})
    assert client.expect("basic.ack")["delivery_tag"] == 1


def test_a_transaction_is_one_commit_group_however_many_turns_it_takes() -> None:
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    broker.settled()
    client.ask("tx.select")
    numbered(client, "q", 300, delivery_mode=2)
    group = broker.store.logs.batch.group
    turns = broker.turn.turns
    client.ask("tx.commit")
    assert broker.turn.turns - turns > 10
    assert broker.store.logs.batch.group <= group + 1
    assert broker.depth("q") == (300, 0)


@pytest.mark.parametrize("turns", [1, 3, 8])
def test_a_crash_in_the_middle_of_a_commit_leaves_nothing_of_it(turns: int) -> None:
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    broker.settled()
    client.ask("tx.select")
    numbered(client, "q", 300, delivery_mode=2)
    client.auto = False
    client.tell("tx.commit")
    for _ in range(turns):
        broker.turn.run()
        while broker.work():
            pass
    assert broker.killed().depth("q") == (0, 0)


def test_a_message_for_very_many_queues_reaches_them_all_and_is_confirmed_once() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="all", type="fanout")
    for index in range(600):
        client.ask("queue.declare", queue=f"q{index}")
        client.ask("queue.bind", queue=f"q{index}", exchange="all", routing_key="")
    client.ask("confirm.select")
    turns = broker.turn.turns
    client.send(publish(1, "all", "", b"1"), publish(1, "", "q0", b"2"))
    assert broker.turn.turns - turns > 10
    assert [said.method["delivery_tag"] for said in client.hear() if said.method.name == "basic.ack"][-1] == 2
    assert client.drain("q0") == [b"1", b"2"]
    assert all(broker.depth(f"q{index}")[0] == 1 for index in range(1, 600))


def test_nothing_expired_is_delivered_while_the_rest_of_it_goes() -> None:
    broker = Broker()
    client = with_graveyard(broker, **{"x-message-ttl": 100})
    numbered(client, "q", 300)
    broker.clock.time_ms += 200
    broker.clock.refresh()
    numbered(client, "q", 1)
    consumer = broker.open()
    consumer.consume("q")
    assert numbers(consumer.bodies()) == [0], "the one that came last"
    broker.advance(10)
    assert broker.depth("dead") == (300, 0)


def with_single_runs(broker: Broker, count: int) -> Client:
    """So many deliveries of queue q, each a run of its own: two consumers of one channel take turns."""
    client = with_graveyard(broker)
    client.consume("q", "one")
    client.consume("q", "two")
    numbered(client, "q", count)
    assert numbers(client.bodies()) == list(range(count))
    return client


@pytest.mark.parametrize("tag", [0, 1500])
def test_very_many_runs_are_acknowledged_in_slices(tag: int) -> None:
    broker = Broker()
    client = with_single_runs(broker, 2000)
    turns = broker.turn.turns
    client.tell("basic.ack", delivery_tag=tag, multiple=True)
    assert broker.turn.turns - turns > 10
    assert broker.depth("q") == (0, 500 if tag else 0)
    assert broker.counters.messages_acked == (tag or 2000)
    if tag:
        client.tell("basic.ack", delivery_tag=tag)
        assert "unknown delivery tag" in client.channel_error(406)


def test_what_is_delivered_meanwhile_is_not_acknowledged_with_it() -> None:
    broker = Broker()
    client = with_single_runs(broker, 1000)
    client.send(method(1, "basic.ack", delivery_tag=0, multiple=True))
    other = broker.open()
    client.auto = other.auto = False
    numbered(client, "q", 0)
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    client.auto = other.auto = True
    numbered(other, "q", 300)
    client.auto = False
    client.tell("basic.ack", delivery_tag=1300, multiple=True)
    for _ in range(2):
        broker.turn.run()
    numbered(other, "q", 5)
    assert broker.depth("q") == (0, 5)


@pytest.mark.parametrize("requeue", [False, True])
@pytest.mark.parametrize("tag", [0, 1500])
def test_very_many_runs_are_refused_in_slices(tag: int, requeue: bool) -> None:
    broker = Broker()
    client = with_single_runs(broker, 2000)
    client.ask("basic.cancel", consumer_tag="one")
    client.ask("basic.cancel", consumer_tag="two")
    turns = broker.turn.turns
    client.tell("basic.nack", delivery_tag=tag, multiple=True, requeue=requeue)
    assert broker.turn.turns - turns > 10
    refused = tag or 2000
    assert broker.depth("q") == (refused if requeue else 0, 2000 - refused)
    assert numbers(broker.open().drain("q" if requeue else "dead")) == list(range(refused))


@pytest.mark.parametrize("end", ["commit", "rollback", "close", "drop"])
@pytest.mark.parametrize("name", ["basic.ack", "basic.nack"])
def test_a_transaction_settles_very_many_runs_in_slices(name: str, end: str) -> None:
    broker = Broker()
    client = with_single_runs(broker, 2000)
    client.ask("basic.cancel", consumer_tag="one")
    client.ask("basic.cancel", consumer_tag="two")
    client.ask("tx.select")
    options: dict[str, object] = {"requeue": True} if name == "basic.nack" else {}
    client.send(method(1, name, delivery_tag=3, **options))
    turns = broker.turn.turns
    client.send(method(1, name, delivery_tag=1500, multiple=True, **options))
    assert broker.turn.turns - turns > 10
    client.send(method(1, name, delivery_tag=1700, **options))
    numbered(client, "q", 5)
    assert broker.depth("q") == (0, 2000)
    turns = broker.turn.turns
    if end == "commit":
        client.ask("tx.commit")
        rejected = 1501 if name == "basic.nack" else 0
        assert broker.depth("q") == (5 + rejected, 499)
    elif end == "rollback":
        client.ask("tx.rollback")
        assert broker.depth("q") == (0, 2000)
        client.tell("basic.ack", delivery_tag=3)
        client.tell("basic.ack", delivery_tag=2000, multiple=True)
        client.ask("tx.commit")
        assert broker.depth("q") == (0, 0)
    else:
        client.ask("channel.close", reply_code=200) if end == "close" else client.drop()
        broker.run_turn()
        assert broker.depth("q") == (2000, 0)
        assert numbers(broker.open().drain("q")) == list(range(2000))
    assert broker.turn.turns - turns > 10


@pytest.mark.parametrize("how", ["close", "drop"])
def test_what_was_refused_is_dead_lettered_even_if_the_channel_ends_meanwhile(how: str) -> None:
    broker = Broker()
    client = with_single_runs(broker, 1000)
    client.ask("basic.cancel", consumer_tag="one")
    client.ask("basic.cancel", consumer_tag="two")
    client.auto = False
    client.tell("basic.nack", delivery_tag=800, multiple=True, requeue=False)
    broker.turn.run()
    assert 0 < broker.depth("dead")[0] < 800
    client.auto = True
    client.ask("channel.close", reply_code=200) if how == "close" else client.drop()
    broker.run_turn()
    assert (broker.depth("dead"), broker.depth("q")) == ((800, 0), (200, 0))


def test_the_channels_of_a_lost_connection_end_in_slices() -> None:
    broker = Broker()
    client = broker.open(*range(1, 101))
    client.ask("queue.declare", queue="q")
    for channel in range(1, 101):
        client.consume("q", on=channel)
    numbered(client, "q", 1000)
    client.hear()
    client.opened.lost()
    client.sink.closed = True
    assert broker.server.channels_open == 0
    assert broker.queue("q").consumers.count() > 90, "they have not even been asked yet"
    assert broker.depth("q")[0] == 0, "nothing is delivered to those that are still to go, either"
    turns = broker.turn.turns
    broker.run_turn()
    assert broker.turn.turns - turns > 50
    assert broker.depth("q") == (1000, 0)
    assert numbers(broker.open().drain("q")) == list(range(1000))


def test_consumers_that_waited_for_room_have_their_turn_in_slices() -> None:
    broker = Broker()
    client = broker.open(*range(1, 301))
    client.ask("queue.declare", queue="q")
    for channel in range(1, 301):
        client.consume("q", on=channel, no_ack=True)
    connection = client.opened
    connection.writable(False)
    numbered(broker.open(), "q", 1000)
    waiting = [len(connection.session.waiting_for_outbox)]
    assert waiting[0] == 300
    connection.writable(True)
    waiting.append(len(connection.session.waiting_for_outbox))
    while broker.turn.scheduled:
        broker.turn.run()
        waiting.append(len(connection.session.waiting_for_outbox))
    assert max(before - after for before, after in pairwise(waiting)) <= 64
    assert sorted(numbers(client.bodies())) == list(range(1000))


def test_a_very_large_message_leaves_in_parts_and_whole() -> None:
    broker = Broker()
    client = broker.open(1, 2)
    other = broker.open(frame_max=4096)
    client.ask("queue.declare", queue="q")
    text = random.Random(1).randbytes(5 << 20)
    client.send(*(publish(1, "", "q", text) for _ in range(3)))
    for who, channel in ((client, 1), (client, 2), (other, 1)):
        turns = broker.turn.turns
        said = who.get("q", on=channel, no_ack=True)
        assert said is not None
        assert said.body == text
        assert max(who.sink.writes) < 2 << 20
        assert broker.turn.turns - turns >= 5


def test_a_body_in_many_small_frames_is_delivered_in_few() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    text = random.Random(1).randbytes(50_000)
    client.send(
        method(1, "basic.publish", routing_key="q"), header(1, len(text)), *(body(1, bytes([each])) for each in text)
    )
    said = client.get("q", no_ack=True)
    assert said is not None
    assert said.body == text
    assert len(said.body_frames) < 32


ABOUT_ONE_TURN = {
    "test_what_came_in_one_read_is_confirmed_in_one_frame",
    "test_the_return_comes_before_the_ack",
    "test_every_channel_has_numbers_of_its_own",
    "test_a_dropped_head_is_no_refusal",
    "test_it_is_gone_before_close_ok_is_sent",
    "test_a_consumer_keeps_a_refusing_queue_open",
}
"""Rules whose tests say what is in one frame, or what has happened before a turn: that is otherwise here."""
RULES = [
    rule
    for module in (
        test_ack, test_alarms, test_basic_get, test_channel, test_confirms, test_dead_letter, test_exclusive,
        test_length_limit, test_priority, test_queue_delete, test_ttl, test_tx,
    )
    for name, rule in vars(module).items()
    if name.startswith("test_") and name not in ABOUT_ONE_TURN and not getattr(rule, "pytestmark", None)
        and rule.__code__.co_argcount == 0
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.__module__.rpartition('.')[2]}-{rule.__name__}")
def test_other_rules_hold_as_well(rule: object) -> None:
    assert callable(rule)
    rule()


def test_a_window_of_a_channel_goes_round_among_many_consumers() -> None:
    """Each acknowledgement made 20,000 consumers enter the rotation, and leave it again: 90 ms."""
    broker = Broker()
    client = broker.open()
    client.ask("basic.qos", prefetch_count=1, **{"global": True})
    for queue in ("a", "b"):
        client.ask("queue.declare", queue=queue)
    for number in range(300):
        client.consume("ab"[number % 2], tag=f"c{number}")
    client.send(publish(1, "", "a", b"a") * 300, publish(1, "", "b", b"b") * 300)
    served: Counter[str] = Counter()
    bodies: Counter[bytes] = Counter()
    for _ in range(600):
        [said] = client.hear()
        served[str(said.method["consumer_tag"])] += 1
        bodies[said.body] += 1
        client.send(method(1, "basic.ack", delivery_tag=0, multiple=True))
    assert client.hear() == []
    assert bodies == {b"a": 300, b"b": 300}
    assert len(served) == 300, "everybody has had some"


def test_a_window_that_is_taken_away_lets_everybody_have_something() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("basic.qos", prefetch_count=1, **{"global": True})
    client.ask("queue.declare", queue="q")
    for number in range(300):
        client.consume("q", tag=f"c{number}")
    client.send(publish(1, "", "q", b"m") * 300)
    assert len(client.hear()) == 1
    client.send(method(1, "basic.qos", prefetch_count=0, **{"global": True}))
    assert sum(said.method.name == "basic.deliver" for said in client.hear()) == 299


def came_back(count: int, stride: int) -> tuple[DurableBroker, Client]:
    """A durable queue whose messages were all delivered; one in ``stride`` of them came back, each for itself."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    numbered(client, "q", count, delivery_mode=2)
    client.consume("q", "c")
    assert len(client.deliveries()) == count
    client.tell("basic.cancel", consumer_tag="c")
    client.hear()
    client.send(*(method(1, "basic.nack", delivery_tag=tag, requeue=True) for tag in range(1, count + 1, stride)))
    return broker, client


@pytest.mark.parametrize("stride", [1, 2, 100])
def test_a_purge_settles_in_slices_what_came_back_one_by_one(stride: int) -> None:
    """500,000 single messages of a durable queue kept everybody else waiting for 210 ms."""
    broker, client = came_back(5000, stride)
    broker.settled()
    count = 5000 // stride
    assert broker.depth("q") == (count, 5000 - count)
    turns = broker.turn.turns
    assert client.ask("queue.purge", queue="q")["message_count"] == count
    assert broker.turn.turns - turns > {1: 1, 2: 20, 100: 0}[stride]
    assert broker.depth("q") == (0, 5000 - count)
    following = broker.settled().killed()
    assert numbers(following.open().drain("q")) == [number for number in range(5000) if number % stride]


def test_purge_ok_says_that_all_of_it_is_on_the_disk() -> None:
    """However many turns it takes: a crash directly behind purge-ok brings nothing back."""
    broker, client = came_back(5000, 2)
    client.send(*(method(1, "basic.ack", delivery_tag=tag) for tag in range(2, 5001, 2)))
    broker.settled()
    client.auto = False
    client.send(method(1, "queue.purge", queue="q"))
    while not client.names():
        if not broker.work():
            assert broker.turn.scheduled
            broker.turn.run()
    assert broker.killed().open().drain("q") == []


def test_a_queue_that_is_deleted_while_it_is_purged() -> None:
    broker, client = came_back(3000, 2)
    client.send(method(1, "queue.purge", queue="q"), method(1, "queue.delete", queue="q"))
    assert [said.method["message_count"] for said in client.hear()] == [1500, 0]
    client.ask("queue.declare", queue="q", durable=True)
    assert broker.settled().killed().open().drain("q") == []


# Alarms (broker/alarms.py): who is blocked, and who is not any more, is told in slices


def half_a_message() -> bytes:
    return method(1, "basic.publish", routing_key="q") + header(1, 2) + body(1, b"h")


def publishers(broker: Broker, count: int = 100) -> list[Client]:
    """Connections in the middle of a content."""
    broker.open().ask("queue.declare", queue="q")
    clients = [broker.open() for _ in range(count)]
    for client in clients:
        client.send(half_a_message())
    return clients


def is_reading(clients: list[Client]) -> list[bool]:
    return [client.sink.reading for client in clients]


def test_an_alarm_blocks_and_unblocks_many_in_slices_and_in_order() -> None:
    broker = Broker()
    clients = publishers(broker)
    alarms = broker.server.alarms
    for raised, notice in ((True, "connection.blocked"), (False, "connection.unblocked")):
        alarms.set(MEMORY, raised)
        told = [0]
        while broker.turn.scheduled:
            broker.turn.run()
            told.append(is_reading(clients).count(not raised))
            assert is_reading(clients) == [not raised] * told[-1] + [raised] * (100 - told[-1]), "in order"
        assert max(after - before for before, after in pairwise(told)) <= 32
        assert [client.names() for client in clients] == [[notice]] * 100


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_an_alarm_that_ends_before_all_were_told(turns: int) -> None:
    """Rule: what a connection has heard last is how it is, and nothing is said twice."""
    broker = Broker()
    clients = publishers(broker)
    alarms = broker.server.alarms
    alarms.set(MEMORY, True)
    for _ in range(turns):
        broker.turn.run()
    blocked = is_reading(clients).count(False)
    assert blocked < 100
    alarms.set(MEMORY, False)
    broker.run_turn()
    both = ["connection.blocked", "connection.unblocked"]
    assert [client.names() for client in clients] == [both] * blocked + [[]] * (100 - blocked)
    assert is_reading(clients) == [True] * 100


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_an_alarm_that_comes_back_before_all_were_told(turns: int) -> None:
    broker = Broker()
    clients = publishers(broker)
    alarms = broker.server.alarms
    alarms.set(MEMORY, True)
    broker.run_turn()
    assert [client.names() for client in clients] == [["connection.blocked"]] * 100
    alarms.set(MEMORY, False)
    for _ in range(turns):
        broker.turn.run()
    told = is_reading(clients).count(True)
    alarms.set(DISK, True)
    broker.run_turn()
    again = ["connection.unblocked", "connection.blocked"]
    assert [client.names() for client in clients] == [again] * told + [[]] * (100 - told)
    assert is_reading(clients) == [False] * 100
    alarms.set(DISK, False)
    broker.run_turn()
    assert [client.names() for client in clients] == [["connection.unblocked"]] * 100
    for client in clients:
        client.send(body(1, b"i"))
    assert broker.depth("q") == (100, 0)


def test_who_comes_or_goes_meanwhile() -> None:
    broker = Broker()
    clients = publishers(broker)
    alarms = broker.server.alarms
    alarms.set(MEMORY, True)
    broker.turn.run()
    assert is_reading(clients) == [False] * 32 + [True] * 68
    early, late = clients[3], clients[90]
    early.opened.lost()
    late.opened.lost()
    for client, more in ((clients[80], b""), (clients[81], half_a_message())):
        client.auto = False
        client.send(body(1, b"i"), more)  # its message is whole now; and here the next one was begun
    broker.run_turn()
    newcomer = broker.open()
    newcomer.send(half_a_message())
    assert newcomer.names() == ["connection.blocked"]
    alarms.set(MEMORY, False)
    broker.turn.run()
    second = broker.open()
    second.send(half_a_message())
    broker.run_turn()
    assert newcomer.names() == ["connection.unblocked"]
    assert second.names() == []
    rest = [client for client in clients if client not in (early, late)]
    assert [client.names() for client in rest] == [["connection.blocked", "connection.unblocked"]] * 98
    assert all(is_reading([*rest, newcomer, second]))


def test_a_publisher_is_stopped_at_its_next_frame_when_it_was_not_told_yet() -> None:
    """RabbitMQ (rabbit_reader, publish_received): a content header or body frame during an alarm blocks its
    connection."""
    broker = Broker()
    clients = publishers(broker)
    last = clients[-1]
    last.auto = False
    last.send(body(1, b"i"), method(1, "basic.publish", routing_key="q"), header(1, 3))
    broker.server.alarms.set(MEMORY, True)
    last.send(body(1, b"a"))
    assert not last.sink.reading
    broker.run_turn()
    assert last.names() == ["connection.blocked"]


def chain(broker: Broker, count: int, **arguments: object) -> Client:
    """Queues q0, q1 ... whose dead letters each go to the next, and the last of which keeps them."""
    client = broker.open()
    for number in range(count):
        more = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}"} | arguments
        client.ask("queue.declare", queue=f"q{number}", arguments=more)
    client.ask("queue.declare", queue=f"q{count}")
    return client


@pytest.mark.parametrize(
    "arguments", [{"x-message-ttl": 0}, {"x-max-length": 0}, {"x-max-length": 0, "x-overflow": "reject-publish-dlx"}]
)
def test_a_dead_letter_that_dies_again_and_again_goes_on_in_the_next_turn(arguments: dict[str, object]) -> None:
    """One publish to the first of a thousand queues that keep nothing: all of them were gone through in one step."""
    broker = Broker()
    client = chain(broker, 200, **arguments)
    turns = broker.turn.turns
    numbered(client, "q0", 20)
    broker.advance(1000)  # a message that waits for its death is late
    assert broker.turn.turns - turns > 10
    assert broker.depth("q200") == (20, 0)
    assert numbers(client.drain("q200")) == list(range(20)), "in order"


@pytest.mark.parametrize("arguments", [{"x-message-ttl": 0}, {"x-max-length": 0}])
def test_such_a_dead_letter_does_not_keep_the_log_waiting(arguments: dict[str, object]) -> None:
    """It stays where it is, and nothing is under way that would have to be one commit group of the log."""
    broker = DurableBroker()
    client = broker.open()
    for number in range(40):
        more = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}"} | arguments
        client.ask("queue.declare", queue=f"q{number}", durable=True, arguments=more)
    client.ask("queue.declare", queue="q40", durable=True)
    broker.settled()
    client.auto = False
    numbered(client, "q0", 3, delivery_mode=2)
    for _ in range(100):
        assert broker.store.logs.batch.holders == 0
        broker.turn.run()
    client.auto = True
    broker.run_turn()
    broker.advance(1000)
    assert broker.depth("q40") == (3, 0)


def test_queues_with_much_to_drop_do_not_keep_others_waiting() -> None:
    """A hundred queues each of which took some time in front of the next message of anybody else: 40 ms and more."""
    broker = Broker()
    client = chain(broker, 50, **{"x-message-ttl": 10})
    for number in range(50):
        numbered(client, f"q{number}", 200)
    other = broker.open()
    other.ask("queue.declare", queue="own")
    other.consume("own", no_ack=True)
    other.hear()
    client.auto = other.auto = False
    broker.clock.advance(20)
    broker.turn.run()
    for _ in range(10):
        other.publish("own", b"m")
        for _ in range(2):
            broker.turn.run()
        assert other.bodies() == [b"m"]
    assert broker.counters.dead_lettered_expired < 1000, "there is much left to drop"
    broker.run_turn()
    broker.advance(1000)
    assert broker.depth("q50") == (10_000, 0)


class BriskClock(HurriedClock):
    """Twenty looks, and a slice is over."""

    def slice_us(self) -> int:
        return super().slice_us() // 200


def living(kind: type) -> int:
    """Objects of a class that are in memory."""
    return sum(type(each) is kind for each in gc.get_objects())


def decreases(broker: Broker, kind: type) -> list[int]:
    """How many objects of a class each turn lets go, until the broker is at rest."""
    counts = [living(kind)]
    while broker.turn.scheduled:
        broker.turn.run()
        counts.append(living(kind))
    return [before - after for before, after in pairwise(counts)]


@pytest.mark.parametrize("how", ["channel.close", "connection.close", "socket"])
def test_what_a_channel_held_is_let_go_in_slices(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 auto-delete queues were given back to the memory in one go: 8 ms. Now each goes when it is deleted,
    whoever has deliveries of it: sixteen between two looks at the clock."""
    monkeypatch.setattr(Broker, "clock_type", BriskClock)
    broker = Broker()
    client = broker.open()
    for number in range(400):
        client.ask("queue.declare", queue=f"q{number}", auto_delete=True)
        client.send(publish(1, "", f"q{number}", b"m") * 2)
        client.consume(f"q{number}")
    client.hear()
    gc.collect()
    client.auto = False
    before = living(ClassicQueue)
    if how == "socket":
        client.opened.lost()
        client.sink.closed = True
    else:
        client.tell(how, on=int(how == "channel.close"), reply_code=200, reply_text="", class_id=0, method_id=0)
    at_once = before - living(ClassicQueue)
    let_go = [at_once, *decreases(broker, ClassicQueue)]
    assert sum(let_go) > 300
    assert max(let_go) <= 16 * 20


def test_consumers_of_a_deleted_queue_are_let_go_in_slices() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    for number in range(600):
        client.consume("q", f"c{number}")
    gc.collect()
    client.auto = False
    client.tell("queue.delete", queue="q")
    let_go = decreases(broker, ChannelConsumer)
    assert sum(let_go) > 400
    assert max(let_go) <= 128


def test_channels_of_a_connection_are_let_go_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "clock_type", BriskClock)
    broker = Broker()
    client = broker.open(*range(1, 401))
    client.opened.lost()
    client.sink.closed = True
    gc.collect()
    let_go = decreases(broker, Channel)
    assert sum(let_go) > 300
    assert max(let_go) <= 64


def with_many_consumers(broker: Broker) -> Client:
    """Queue q has 300 consumers with room for one message each, and 301 messages of which none was dispatched."""
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("basic.qos", prefetch_count=1)
    for number in range(300):
        client.consume("q", f"c{number}")
    for message in numbered_messages(301):
        broker.queue("q").enqueue(message)
    return client


def test_a_get_from_a_queue_with_very_many_consumers_waits_until_they_were_asked() -> None:
    """All of them got their messages within the step of the one who asked."""
    broker = Broker()
    other = broker.open()
    client = with_many_consumers(broker)
    other.auto = False
    other.tell("basic.get", queue="q", no_ack=True)
    assert broker.queue("q").unacked < 100
    other.tell("queue.declare", queue="q", passive=True)
    broker.run_turn()
    assert broker.queue("q").unacked == 300
    got, declared = other.hear()
    assert (got.method.name, got.body, declared.method["message_count"]) == ("basic.get-ok", b"300", 0)
    assert numbers(client.bodies()) == list(range(300))


def test_to_ask_how_many_wait_does_not_keep_others_waiting() -> None:
    broker = Broker()
    client = with_many_consumers(broker)
    client.auto = False
    client.tell("queue.declare", queue="q", passive=True)
    assert broker.queue("q").unacked < 100
    broker.run_turn()
    assert broker.depth("q") == (1, 300)
