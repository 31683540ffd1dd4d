"""What survives the node, and what does not (docs/durability.md; AMQP 0-9-1 §3.1.1, queue.declare "durable", basic
"delivery-mode")."""

from __future__ import annotations

import pytest

from broker.store.logs import UNWRITTEN_MAX
from tests.support.durable import DurableBroker
from tests.support.memory import Client
from tests.support.wire import Said, method, publish

PERSISTENT = {"delivery_mode": 2}


def opened(broker: DurableBroker, *, queue: str = "q", confirm: bool = True, **arguments: object) -> Client:
    """A client with a durable queue, in confirm mode."""
    client = broker.open()
    client.send(method(1, "queue.declare", queue=queue, durable=True, **arguments))
    client.expect("queue.declare-ok")
    if confirm:
        client.ask("confirm.select")
    return client


def put(client: Client, *bodies: bytes, queue: str = "q", properties: dict[str, object] | None = None) -> None:
    """Publishes persistent messages in one read."""
    client.send(*(publish(1, "", queue, each, properties=PERSISTENT | (properties or {})) for each in bodies))


def waiting(broker: DurableBroker, queue: str = "q") -> list[tuple[bytes, bool]]:
    """All messages of a queue and whether they are marked as redelivered, taken with no_ack."""
    client = broker.open()
    found: list[tuple[bytes, bool]] = []
    while (said := client.get(queue, no_ack=True)) is not None:
        found.append((said.body, bool(said.method["redelivered"])))
    return found


def names(heard: list[Said]) -> list[str]:
    return [said.method.name for said in heard]


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "by the thread"])
def writes_directly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds whoever writes: the owner's thread within the turn, or the log's own."""
    monkeypatch.setattr(DurableBroker, "writes_directly", request.param)


@pytest.fixture(params=["killed", "lost power", "stopped"])
def end(request: pytest.FixtureRequest) -> str:
    """How a node ends."""
    return str(request.param)


def after(broker: DurableBroker, end: str, seed: int = 0) -> DurableBroker:
    """The next node on the same disk."""
    if end == "killed":
        return broker.killed()
    return broker.lost_power(seed) if end == "lost power" else broker.stopped()


def test_confirmed_persistent_messages_survive(end: str) -> None:
    """RabbitMQ docs, Publisher Confirms: a confirm of a persistent message means that it is on disk."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", b"3")
    assert [(said.method.name, said.method["delivery_tag"]) for said in client.hear()] == [("basic.ack", 3)]
    assert waiting(after(broker, end)) == [(b"1", False), (b"2", False), (b"3", False)]


def test_properties_survive(end: str) -> None:
    """Every property, the exchange and the routing key are delivered as they were published."""
    broker = DurableBroker()
    client = opened(broker)
    client.ask("exchange.declare", exchange="x", type="topic", durable=True)
    client.ask("queue.bind", queue="q", exchange="x", routing_key="a.*")
    client.ask("queue.declare", queue="copy")
    client.ask("queue.bind", queue="copy", exchange="x", routing_key="a.*")
    properties = {
        "content_type": "text/plain", "headers": {"a": 1, "b": [True, "x"]}, "delivery_mode": 2, "priority": 7,
        "correlation_id": "c", "reply_to": "r", "message_id": "m", "timestamp": 1_700_000_000, "type": "t",
        "user_id": "guest", "app_id": "app",
    }  # fmt: skip
    client.publish("a.b", b"body" * 5000, exchange="x", properties=properties)
    assert names(client.hear()) == ["basic.ack"]
    copy = client.get("copy")
    said = after(broker, end).open().get("q")
    assert said is not None
    assert copy is not None
    assert (said.method["exchange"], said.method["routing_key"], said.body) == ("x", "a.b", b"body" * 5000)
    assert said.properties == copy.properties
    assert len(said.properties) == len(properties)


def test_no_confirm_before_the_disk_has_it() -> None:
    """The promise leaves after the sync that covers it, not before."""
    broker = DurableBroker()
    client = opened(broker)
    broker.disk_is_stalled = True
    put(client, b"1", b"2")
    client.expect_nothing()
    client.publish("q", b"transient")
    client.expect_nothing()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert [(said.method.name, said.method["delivery_tag"], said.method["multiple"]) for said in client.hear()] == [
        ("basic.ack", 3, True)
    ]


def test_delivery_does_not_wait_for_the_disk() -> None:
    """A consumer that was there before gets a message at once; its confirm comes when the disk has it."""
    broker = DurableBroker()
    client, reader = opened(broker), broker.open()
    reader.consume("q")
    put(client, b"0")
    assert reader.bodies() == [b"0"]
    client.hear()
    broker.disk_is_stalled = True
    put(client, b"1")
    assert reader.bodies() == [b"1"]
    client.expect_nothing()


def test_transient_messages_and_objects_vanish(end: str) -> None:
    """AMQP 0-9-1 §3.1.1: only durable entities and persistent messages survive a restart."""
    broker = DurableBroker()
    client = opened(broker)
    client.ask("queue.declare", queue="transient")
    client.ask("queue.declare", queue="mine", durable=True, exclusive=True)
    client.ask("exchange.declare", exchange="passing", type="direct")
    client.ask("exchange.declare", exchange="lasting", type="direct", durable=True)
    client.ask("queue.bind", queue="q", exchange="passing", routing_key="k")
    client.ask("queue.bind", queue="transient", exchange="lasting", routing_key="k")
    client.publish("q", b"1")
    put(client, b"2")
    client.publish("q", b"3")
    put(client, b"4")
    put(client, b"lost", queue="transient")
    following = after(broker, end)
    assert [body for body, _ in waiting(following)] == [b"2", b"4"]
    assert sorted(following.vhost.queues) == ["q"]
    again = following.open()
    again.ask("exchange.declare", exchange="lasting", passive=True)
    again.ask_error(404, "exchange.declare", exchange="passing", passive=True)
    assert [binding.key for binding in following.vhost.exchanges["lasting"].bindings()] == []


def test_declarations_survive_as_they_were(end: str) -> None:
    """Arguments included: the same declaration is equivalent afterwards, another one is not."""
    broker = DurableBroker()
    client = opened(broker, arguments={"x-max-length": 10, "x-dead-letter-exchange": "x"}, auto_delete=True)
    client.ask(
        "exchange.declare", exchange="x", type="headers", durable=True, arguments={"alternate-exchange": "amq.fanout"}
    )
    client.ask("exchange.declare", exchange="y", type="topic", durable=True, internal=True)
    client.ask("queue.bind", queue="q", exchange="x", arguments={"x-match": "all", "n": 5})
    client.ask("exchange.bind", source="x", destination="y", routing_key="k")
    following = after(broker, end).open()
    following.ask(
        "queue.declare",
        queue="q",
        durable=True,
        auto_delete=True,
        arguments={"x-max-length": 10, "x-dead-letter-exchange": "x"},
    )
    following.ask(
        "exchange.declare", exchange="x", type="headers", durable=True, arguments={"alternate-exchange": "amq.fanout"}
    )
    following.ask("exchange.declare", exchange="y", type="topic", durable=True, internal=True)
    following.publish("", b"by header", exchange="x", properties={"headers": {"n": 5}})
    assert following.drain("q") == [b"by header"]
    following.ask_error(406, "queue.declare", queue="q", durable=True, auto_delete=True)


@pytest.mark.parametrize("change", ["queue", "exchange", "binding"])
def test_what_was_deleted_stays_deleted(end: str, change: str) -> None:
    """delete-ok and unbind-ok are promises as well."""
    broker = DurableBroker()
    client = opened(broker)
    client.ask("exchange.declare", exchange="x", type="direct", durable=True)
    client.ask("queue.bind", queue="q", exchange="x", routing_key="k")
    put(client, b"1")
    client.hear()
    if change == "queue":
        client.ask("queue.delete", queue="q")
        client.ask("queue.declare", queue="q", durable=True)
    elif change == "exchange":
        client.ask("exchange.delete", exchange="x")
        client.ask("exchange.declare", exchange="x", type="direct", durable=True)
    else:
        client.ask("queue.unbind", queue="q", exchange="x", routing_key="k")
    following = after(broker, end)
    assert following.vhost.exchanges["x"].bindings() == []
    assert [body for body, _ in waiting(following)] == ([] if change == "queue" else [b"1"])


@pytest.mark.parametrize(
    "name", ["queue.declare", "exchange.declare", "queue.bind", "queue.unbind", "queue.delete", "exchange.delete"]
)
def test_no_ok_before_the_disk_has_it(name: str) -> None:
    """What is declared or deleted is promised like a message."""
    broker = DurableBroker()
    client, other = opened(broker), broker.open()
    client.ask("exchange.declare", exchange="x", type="direct", durable=True)
    client.ask("queue.bind", queue="q", exchange="x", routing_key="bound")
    arguments: dict[str, dict[str, object]] = {
        "queue.declare": {"queue": "new", "durable": True},
        "exchange.declare": {"exchange": "new", "type": "direct", "durable": True},
        "queue.bind": {"queue": "q", "exchange": "x", "routing_key": "k"},
        "queue.unbind": {"queue": "q", "exchange": "x", "routing_key": "bound"},
        "queue.delete": {"queue": "q"},
        "exchange.delete": {"exchange": "x"},
    }
    broker.disk_is_stalled = True
    client.send(method(1, name, **arguments[name]))
    client.expect_nothing()
    if name.endswith("declare"):
        other.send(method(1, name, **arguments[name]))
        other.expect_nothing()  # it is there, but this one has not been promised either
    broker.open().ask("queue.declare", queue="passing")
    broker.disk_is_stalled = False
    broker.run_turn()
    client.expect(f"{name}-ok")


def test_later_frames_of_the_channel_wait_others_go_on() -> None:
    """Answers come in the order of the questions; another channel of the same connection does not wait."""
    broker = DurableBroker()
    client = broker.open(1, 2)
    broker.disk_is_stalled = True
    client.tell("queue.declare", queue="q", durable=True)
    client.send(publish(1, "", "q", b"held", properties=PERSISTENT))
    client.tell("basic.get", queue="q", no_ack=True)
    client.tell("basic.qos", 2, prefetch_count=1)
    assert names(client.hear()) == ["basic.qos-ok"]
    broker.disk_is_stalled = False
    broker.run_turn()
    assert names(client.hear()) == ["queue.declare-ok", "basic.get-ok"]


def test_acknowledged_messages_do_not_come_again(end: str) -> None:
    """Acks ride the next batch, within 10 ms (docs/durability.md)."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, *[b"%d" % number for number in range(10)])
    client.hear()
    reader = broker.open()
    reader.consume("q")
    reader.hear()
    reader.tell("basic.ack", delivery_tag=3, multiple=True)
    reader.tell("basic.ack", delivery_tag=7)
    reader.tell("basic.nack", delivery_tag=8, requeue=False)
    broker.settled()
    assert [body for body, _ in waiting(after(broker, end))] == [b"3", b"4", b"5", b"8", b"9"]


@pytest.mark.parametrize("way", ["no_ack consumer", "no_ack get", "purge", "rejected", "tx ack"])
def test_other_ways_to_be_gone(end: str, way: str) -> None:
    """Whatever takes a message out of its queue for good does so on the disk as well."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2")
    client.hear()
    reader = broker.open()
    if way == "no_ack consumer":
        reader.consume("q", no_ack=True)
        assert reader.bodies() == [b"1", b"2"]
    elif way == "no_ack get":
        assert reader.drain("q") == [b"1", b"2"]
    elif way == "purge":
        assert reader.ask("queue.purge", queue="q")["message_count"] == 2
    elif way == "rejected":
        assert reader.get("q") is not None
        assert reader.get("q") is not None
        reader.tell("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    else:
        reader.ask("tx.select")
        assert reader.get("q") is not None
        assert reader.get("q") is not None
        reader.tell("basic.ack", delivery_tag=0, multiple=True)
        reader.ask("tx.commit")
    if way not in ("purge", "tx ack"):  # these two are answered when the disk has them
        broker.settled()
    assert waiting(after(broker, end)) == []


def test_requeued_messages_are_not_settled(end: str) -> None:
    """A multiple ack behind a requeue must not settle what waits in the queue again."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", b"3")
    client.hear()
    reader = broker.open()
    for _ in range(3):
        assert reader.get("q") is not None
    reader.tell("basic.nack", delivery_tag=2, requeue=True)
    reader.tell("basic.ack", delivery_tag=3, multiple=True)
    broker.settled()
    assert waiting(after(broker, end)) == [(b"2", True)]


def test_redelivered_flags(end: str) -> None:
    """Delivered and not acknowledged: redelivered. After a crash others may be marked too, after a clean end exactly
    these."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, *[b"%d" % number for number in range(5)])
    client.hear()
    reader = broker.open()
    reader.ask("basic.qos", prefetch_count=2)
    reader.consume("q")
    assert reader.bodies() == [b"0", b"1"]
    following = waiting(after(broker, end))
    assert following[:2] == [(b"0", True), (b"1", True)]
    if end == "stopped":
        assert following[2:] == [(b"2", False), (b"3", False), (b"4", False)]


@pytest.mark.parametrize(
    "arguments", [{"x-max-length": 3}, {"x-message-ttl": 60_000}, {"x-max-length": 3, "x-message-ttl": 60_000}]
)
def test_a_node_that_starts_has_delivered_nothing(arguments: dict[str, object]) -> None:
    """Its queues look at what is too much or expires; when such a start is killed, that was no delivery."""
    broker = DurableBroker()
    client = opened(broker, arguments=arguments)
    put(client, b"1", b"2", b"3", b"4", b"5")
    broker = broker.stopped()
    for _ in range(2):
        broker.settled()
        broker = broker.killed()
    first = 3 if "x-max-length" in arguments else 1
    assert waiting(broker) == [(b"%d" % number, False) for number in range(first, 6)]


def test_nothing_is_delivered_before_the_disk_knows_that_it_may_have_been() -> None:
    """Too many redelivered flags are allowed after a crash, too few never: so the first delivery waits for the mark."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    broker.disk_is_stalled = True
    reader, getter = broker.open(), broker.open()
    reader.tell("basic.consume", queue="q", consumer_tag="c")
    assert names(reader.hear()) == ["basic.consume-ok"]
    broker.disk_is_stalled = False
    broker.run_turn()
    assert reader.bodies() == [b"1"]
    reader.ask("basic.cancel", consumer_tag="c")
    reader.tell("basic.nack", delivery_tag=1, requeue=True)
    said = getter.get("q")
    assert said is not None
    assert said.method["redelivered"]


def test_a_get_waits_for_the_mark_too() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    broker.disk_is_stalled = True
    client.tell("basic.get", queue="q")
    client.tell("basic.get", queue="q")
    client.expect_nothing()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert names(client.hear()) == ["basic.get-ok", "basic.get-empty"]


@pytest.mark.parametrize("seed", range(20))
def test_a_transaction_is_there_as_a_whole_or_not_at_all(seed: int) -> None:
    """tx.commit over several queues is atomic also when the power fails before commit-ok."""
    broker = DurableBroker()
    client = opened(broker, confirm=False)
    client.ask("queue.declare", queue="r", durable=True)
    put(client, b"old")
    broker.settled()
    client.ask("tx.select")
    assert client.get("q") is not None
    broker.disk_is_stalled = True
    for number in range(4):
        put(client, b"%d" % number * 3000, queue="qr"[number % 2])
    client.tell("basic.ack", delivery_tag=1)
    client.tell("tx.commit")
    client.expect_nothing()
    committed = seed % 4 == 0
    if committed:
        broker.disk_is_stalled = False
        broker.run_turn()
        client.expect("tx.commit-ok")
    else:
        broker.write_without_telling()
    following = broker.lost_power(seed)
    found = [[body for body, _ in waiting(following, queue)] for queue in "qr"]
    after_commit = [[b"0" * 3000, b"2" * 3000], [b"1" * 3000, b"3" * 3000]]
    assert found in ([after_commit] if committed else [after_commit, [[b"old"], []]])


def test_a_fanout_is_written_once(end: str) -> None:
    """A message for many queues stands in the log once, and comes back in all of them."""
    broker = DurableBroker()
    client = opened(broker)
    for number in range(20):
        client.ask("queue.declare", queue=f"q{number}", durable=True)
        client.ask("queue.bind", queue=f"q{number}", exchange="amq.fanout")
    before = broker.store.wal.batch.next_sequence
    broker.disk_is_stalled = True
    client.publish("", b"x" * 2000, exchange="amq.fanout", properties=PERSISTENT)
    assert broker.store.wal.batch.next_sequence == before + 20
    assert broker.unwritten_bytes() < 4000
    broker.disk_is_stalled = False
    broker.run_turn()
    assert names(client.hear()) == ["basic.ack"]
    following = after(broker, end)
    assert all(waiting(following, f"q{number}") == [(b"x" * 2000, False)] for number in range(20))


def test_dead_letters_move_atomically(end: str) -> None:
    """The dead letter and the settlement of the original are in one batch: neither lost nor doubled."""
    broker = DurableBroker()
    client = opened(broker, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.ask("queue.declare", queue="dead", durable=True)
    put(client, b"1", b"2")
    client.hear()
    assert client.get("q") is not None
    client.tell("basic.reject", delivery_tag=1, requeue=False)
    broker.settled()
    following = after(broker, end)
    assert [body for body, _ in waiting(following)] == [b"2"]
    assert [body for body, _ in waiting(following, "dead")] == [b"1"]


def test_ttl_goes_on_while_the_node_is_down() -> None:
    """RabbitMQ docs, Time-To-Live: a message expires so long after it was published, whatever happened to the node."""
    broker = DurableBroker()
    client = opened(broker)
    opened(broker, queue="ttl", arguments={"x-message-ttl": 5000})
    put(client, b"short", properties={"expiration": "3000"})
    put(client, b"long")
    put(client, b"by queue", queue="ttl")
    client.hear()
    broker.advance(1000)
    following = broker.killed()
    following.clock.wall_offset_ms += 4000  # the node was down for so long
    following.clock.refresh()
    following.run_turn()
    following.advance(50)
    assert following.depth("q")[0] == 1
    following.advance(5000)
    assert following.depth("ttl")[0] == 0
    assert waiting(following) == [(b"long", False)]


def test_priorities_survive(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker, arguments={"x-max-priority": 5})
    for number in range(12):
        put(client, b"%d" % number, properties={"priority": number % 4})
    client.hear()
    expected = sorted(range(12), key=lambda number: (-(number % 4), number))
    assert [int(body) for body, _ in waiting(after(broker, end))] == expected


def test_positions_go_on_after_a_restart() -> None:
    """What comes after a restart stands behind what was there, over several restarts."""
    broker = DurableBroker()
    client = opened(broker)
    expected: list[bytes] = []
    for life in range(6):
        put(client, *[b"%d-%d" % (life, number) for number in range(5)])
        client.hear()
        said = client.get("q")
        assert said is not None
        client.tell("basic.ack", delivery_tag=said.method["delivery_tag"])
        expected += [b"%d-%d" % (life, number) for number in range(5)]
        assert said.body == expected.pop(0)
        broker = after(broker.settled(), ["killed", "lost power", "stopped"][life % 3])
        client = opened(broker)
        assert client.ask("queue.declare", queue="q", passive=True, durable=True)["message_count"] == len(expected)
    assert [body for body, _ in waiting(broker)] == expected


def test_a_cancel_does_not_overtake_delete_ok() -> None:
    """RabbitMQ docs, Consumer Cancel Notification; the one who deletes hears delete-ok first, however long the disk
    takes."""
    broker = DurableBroker()
    client = opened(broker, confirm=False)
    client.consume("q", "c")
    broker.disk_is_stalled = True
    client.tell("queue.delete", queue="q")
    client.expect_nothing()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert names(client.hear()) == ["queue.delete-ok", "basic.cancel"]


def test_all_priorities_wait_for_one_sync() -> None:
    """A first consumer gets what waits on all levels at once, not level by level."""
    broker = DurableBroker()
    client = opened(broker, arguments={"x-max-priority": 5})
    for priority in (1, 5, 3):
        put(client, b"%d" % priority, properties={"priority": priority})
    client.hear()
    broker.settled()
    reader = broker.open()
    broker.disk_is_stalled = True
    reader.consume("q")
    before = broker.store.wal.batch.group
    broker.disk_is_stalled = False
    broker.run_turn()
    assert reader.bodies() == [b"5", b"3", b"1"]
    assert broker.store.wal.batch.group <= before + 1


def test_an_auto_delete_queue_that_went_does_not_come_back(end: str) -> None:
    """RabbitMQ docs, Queues: durable says what a restart does, auto-delete what the last consumer's leaving does."""
    broker = DurableBroker()
    client = opened(broker, auto_delete=True)
    opened(broker, queue="stays", auto_delete=True)
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    client.consume("q", "c")
    client.ask("basic.cancel", consumer_tag="c")
    broker.settled()
    following = after(broker, end)
    assert sorted(following.vhost.queues) == ["stays"]
    assert following.vhost.exchanges["amq.fanout"].bindings() == []


def test_a_durable_queue_with_a_name_of_the_server_survives(end: str) -> None:
    """AMQP 0-9-1 queue.declare: an empty name asks for one of the server's; it is as durable as any other."""
    broker = DurableBroker()
    client = broker.open()
    name = client.ask("queue.declare", queue="", durable=True).text("queue")
    client.ask("confirm.select")
    put(client, b"1", queue=name)
    client.hear()
    assert waiting(after(broker, end), name) == [(b"1", False)]


def test_queue_mode_lazy_means_nothing_more(end: str) -> None:
    """docs/durability.md, "How much memory a backlog costs": every queue pages; the argument is kept for
    equivalence."""
    broker = DurableBroker()
    client = opened(broker, arguments={"x-queue-mode": "lazy"})
    put(client, b"1")
    client.hear()
    following = after(broker, end)
    following.open().ask("queue.declare", queue="q", durable=True, arguments={"x-queue-mode": "lazy"})
    assert waiting(following) == [(b"1", False)]


# Publishers and the disk


def test_publishers_wait_for_the_disk_and_nobody_else_does() -> None:
    """RabbitMQ docs, Flow Control: a connection that publishes faster than its messages can be written is slowed down,
    not the others."""
    broker = DurableBroker()
    setup = broker.open()
    setup.ask("queue.declare", queue="kept", durable=True)
    setup.ask("queue.declare", queue="q")
    publisher = broker.open()
    broker.disk_is_stalled = True
    body = bytes(1 << 20)
    sent = 0
    while not publisher.opened.input.in_flow:
        assert sent < 40, "nothing slows it down"
        publisher.publish("kept", body, properties={"delivery_mode": 2})
        sent += 1
    assert UNWRITTEN_MAX < broker.store.logs.batch.unwritten() < UNWRITTEN_MAX + (2 << 20)
    assert not publisher.sink.reading
    other = broker.open()
    other.publish("q", b"transient")
    assert other.get("q", no_ack=True) is not None
    assert not other.opened.input.in_flow
    broker.disk_is_stalled = False
    broker.run_turn()
    assert not publisher.opened.input.in_flow
    assert publisher.sink.reading
    assert broker.depth("kept") == (sent, 0)


def test_a_connection_that_is_gone_is_not_read_when_the_disk_has_caught_up() -> None:
    broker = DurableBroker()
    setup = broker.open()
    setup.ask("queue.declare", queue="kept", durable=True)
    publisher = broker.open()
    broker.disk_is_stalled = True
    while not publisher.opened.input.in_flow:
        publisher.publish("kept", bytes(1 << 20), properties={"delivery_mode": 2})
    publisher.drop()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert broker.depth("kept")[0] > 10


def test_a_length_limit_holds_after_a_restart() -> None:
    """RabbitMQ applies x-max-length when a queue is recovered: what consumers had is ready again, and may be too
    much."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="dead", durable=True)
    arguments = {"x-max-length": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.ask("queue.declare", queue="q", durable=True, arguments=arguments)
    client.ask("basic.qos", prefetch_count=5)
    client.consume("q")
    client.send(*(publish(1, "", "q", b"%d" % number, properties={"delivery_mode": 2}) for number in range(15)))
    assert broker.depth("q") == (10, 5)
    broker = broker.settled().killed()
    broker.run_turn()
    assert (broker.depth("q"), broker.depth("dead")) == ((10, 0), (5, 0))
    assert [int(body) for body in broker.open().drain("q")] == list(range(5, 15))
    broker = broker.settled().killed()
    assert broker.depth("dead") == (5, 0)


def test_a_client_that_is_held_back_for_a_channel_is_read_again_when_its_connection_closes() -> None:
    """More than a MiB waits behind a declaration that waits for the disk: nothing of that is taken any more, and
    close-ok must be seen."""
    broker = DurableBroker()
    publisher = broker.open()
    broker.disk_is_stalled = True
    publisher.tell("queue.declare", queue="q", durable=True)
    while publisher.sink.reading:
        publisher.send(publish(1, "", "q", b"x" * 100_000))
    publisher.opened.shut_down("enough")
    broker.run_turn()
    broker.disk_is_stalled = False
    broker.settled()
    publisher.connection_error(320)
    assert broker.server.closing == {}
