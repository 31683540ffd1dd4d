"""What takes longer than a turn is done in slices, and nobody can tell: order, answers and promises are as if it were done at once.

broker/turn.py, broker/protocol/sliced.py. The clock of these tests says at every look that the time is over, so everything that can be left
for the next turn is left. `test_other_rules_hold_as_well` runs rules of other files that way.
"""

from __future__ import annotations

import pytest

from tests.spec import (
    test_ack,
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
from tests.support.memory import Broker, Client
from tests.support.wire import publish


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
    assert client.ask("queue.declare", queue="dead", passive=True)["message_count"] == 500, "later frames of the channel wait"
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
    assert [(int(each.body), each.method["redelivered"]) for each in said if each is not None] == [(n, True) for n in range(100)]


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
        test_ack, test_basic_get, test_channel, test_confirms, test_dead_letter, test_exclusive, test_length_limit, test_priority,
        test_queue_delete, test_ttl, test_tx,
    )
    for name, rule in vars(module).items()
    if name.startswith("test_") and name not in ABOUT_ONE_TURN and not getattr(rule, "pytestmark", None) and rule.__code__.co_argcount == 0
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.__module__.rpartition('.')[2]}-{rule.__name__}")
def test_other_rules_hold_as_well(rule: object) -> None:
    assert callable(rule)
    rule()
