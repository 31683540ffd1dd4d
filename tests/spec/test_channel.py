"""Channels: opening, closing, errors that cost a channel and errors that cost the connection (AMQP 0-9-1 class
channel)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker
from tests.support.wire import METHOD, body, content, frame, header, heartbeat, method, publish

NOT_OPEN = "AMQP 0-9-1 channel.open: a channel must be opened before it is used"


def test_open_is_answered_on_its_channel() -> None:
    client = Broker().connect()
    client.ask("channel.open", on=7)
    client.ask("channel.open", on=2047)
    client.ask("basic.qos", on=7)


@pytest.mark.parametrize("number", [127, 128, 255, 256, 32767, 32768, 40000, 65535])
def test_every_channel_number_works(number: int) -> None:
    """AMQP 0-9-1 §4.2.3: channel numbers are unsigned 16-bit; in everything that is said on the channel."""
    client = Broker().open(number)
    client.ask("queue.declare", on=number, queue="q")
    client.ask("confirm.select", on=number)
    client.publish("q", b"x" * 20_000, on=number)
    client.publish("q", b"small", on=number)
    client.publish("nowhere", b"x", on=number, mandatory=True)
    assert client.names() == ["basic.ack", "basic.ack", "basic.return", "basic.ack"]
    said = client.get("q", on=number)
    assert said is not None
    assert (said.channel, said.body) == (number, b"x" * 20_000)
    client.consume("q", "c", on=number)
    assert [(each.channel, each.body) for each in client.deliveries()] == [(number, b"small")]
    client.tell("basic.nack", number, delivery_tag=0, multiple=True, requeue=True)
    assert [(each.channel, each.body) for each in client.deliveries()] == [(number, b"x" * 20_000), (number, b"small")]
    client.ask("queue.delete", on=number, queue="q")
    client.expect("basic.cancel", number)
    client.ask_error(404, "queue.declare", on=number, queue="missing", passive=True)


def test_opening_twice_is_a_channel_error_504() -> None:
    """AMQP 0-9-1 channel.open."""
    client = Broker().open()
    client.tell("channel.open")
    assert client.connection_error(504) == "CHANNEL_ERROR - second 'channel.open' seen"


@pytest.mark.parametrize(
    "said", [method(5, "queue.declare", queue="q"), publish(5, "", "q", b"x"), method(5, "channel.close")]
)
def test_a_channel_that_was_never_opened(said: bytes) -> None:
    """AMQP 0-9-1 channel.open: 504, connection."""
    client = Broker().open()
    client.send(said)
    assert client.connection_error(504) == "CHANNEL_ERROR - expected 'channel.open'", NOT_OPEN


@pytest.mark.parametrize("said", [header(5, 3), body(5, b"x")])
def test_content_on_a_channel_that_was_never_opened(said: bytes) -> None:
    """AMQP 0-9-1 §1.1, unexpected-frame: 505; that no method came before is found first."""
    client = Broker().open()
    client.send(said)
    client.connection_error(505)


def test_channel_numbers_end_at_channel_max() -> None:
    """RabbitMQ docs, Channels: 530, connection."""
    client = Broker().connect(channel_max=2)
    client.ask("channel.open", on=1)
    client.ask("channel.open", on=2)
    client.tell("channel.open", 3)
    assert (
        client.connection_error(530)
        == "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
    )


def test_a_closed_channels_place_is_free_again() -> None:
    client = Broker().connect(channel_max=1)
    for _ in range(3):
        client.ask("channel.open")
        client.ask("channel.close", reply_code=200)


def test_the_node_takes_so_many_channels() -> None:
    """RabbitMQ docs, Channels: channel_max_per_node."""
    broker = Broker()
    broker.limits.node_channels_max = 2
    first, second = broker.open(), broker.open()
    second.tell("channel.open", 2)
    close = second.expect("connection.close", 0)
    assert close["reply_code"] == 530
    first.ask("channel.open", on=2)


def test_close_gives_back_what_the_channel_held() -> None:
    """RabbitMQ docs, Consumer Acknowledgements: deliveries go back in order, redelivered; consumers end."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    for number in range(4):
        client.publish("q", b"%d" % number)
    client.consume("q", on=2)
    assert client.bodies() == [b"0", b"1", b"2", b"3"]
    client.tell("basic.ack", 2, delivery_tag=2)
    client.ask("channel.close", on=2)
    got = [client.get("q") for _ in range(3)]
    assert [(said.body, said.method["redelivered"]) for said in got if said] == [
        (b"0", True),
        (b"2", True),
        (b"3", True),
    ]
    assert broker.depth("q") == (0, 3)


def test_an_error_on_one_channel_leaves_the_others_alone() -> None:
    """AMQP 0-9-1 §2.2.5: a channel exception closes the channel only."""
    client = Broker().open(1, 2)
    client.tell("queue.declare", 1, queue="missing", passive=True)
    close = client.expect("channel.close", 1)
    assert close.arguments == {
        "reply_code": 404,
        "reply_text": "NOT_FOUND - no queue 'missing' in vhost '/'",
        "class_id": 50,
        "method_id": 10,
    }
    client.ask("basic.qos", on=2)


def test_frames_for_a_channel_that_the_broker_closed_are_dropped_until_close_ok() -> None:
    """AMQP 0-9-1 channel.close: then the number can be used at once."""
    broker = Broker()
    client = broker.open(1, 2)
    client.tell("queue.declare", queue="missing", passive=True)
    client.expect("channel.close", 1)
    client.send(method(1, "queue.declare", queue="late"), publish(1, "", "x", b"abc"), body(1, b"zzz"), header(1, 7))
    client.expect_nothing()
    client.send(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.expect("channel.open-ok", 1)
    assert "late" not in broker.vhost.queues
    client.ask("queue.declare", queue="late")


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_opening_a_channel_that_the_broker_closed_before_close_ok(crossed: bool, at_once: bool) -> None:
    """RabbitMQ 3.10.8: 504, also when the client has closed it meanwhile: only close-ok gives the number free."""
    client = Broker().open()
    said = [method(1, "queue.declare", queue="missing", passive=True)]
    if crossed:
        said.append(method(1, "channel.close"))
    said.append(method(1, "channel.open"))
    if at_once:
        client.send(*said)
    else:
        for each in said:
            client.send(each)
    client.expect("channel.close", 1)
    if crossed:
        client.expect("channel.close-ok", 1)
    assert client.connection_error(504) == "CHANNEL_ERROR - second 'channel.open' seen"


def test_methods_already_sent_behind_a_failing_one_are_dropped() -> None:
    broker = Broker()
    client = broker.open()
    client.send(
        method(1, "queue.declare", queue="missing", passive=True),
        method(1, "queue.declare", queue="q"),
        publish(1, "", "q", b"x"),
    )
    assert client.names() == ["channel.close"]
    assert "q" not in broker.vhost.queues


def test_a_content_cut_short_by_the_close_does_not_reach_the_next_channel_of_that_number() -> None:
    """Half a content before the broker's close; after close-ok the channel begins anew."""
    client = Broker().open()
    client.send(
        method(1, "queue.declare", queue="missing", passive=True),
        method(1, "basic.publish", routing_key="q"),
        header(1, 5),
    )
    client.channel_error(404)
    client.ask("channel.open")
    client.ask("queue.declare", queue="q")


def test_both_sides_close_at_once() -> None:
    client = Broker().open()
    client.send(method(1, "queue.declare", queue="missing", passive=True), method(1, "channel.close"))
    assert client.names() == ["channel.close", "channel.close-ok"]
    client.send(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.expect("channel.open-ok", 1)


def test_flow_on_is_confirmed() -> None:
    """RabbitMQ docs, Specification, channel.flow."""
    client = Broker().open()
    assert client.ask("channel.flow", active=True)["active"] is True


def test_flow_off_is_not_implemented() -> None:
    """RabbitMQ answers 540 to a client that wants to stop deliveries by channel.flow."""
    client = Broker().open()
    client.tell("channel.flow", active=False)
    assert client.connection_error(540) == "NOT_IMPLEMENTED - active=false"


def test_access_request_grants_ticket_1() -> None:
    """A relic of AMQP 0-8, which RabbitMQ still answers."""
    client = Broker().open()
    assert client.ask("access.request", realm="/data", active=True)["ticket"] == 1


@pytest.mark.parametrize(
    "name",
    ["channel.open-ok", "queue.declare-ok", "basic.deliver", "basic.get-ok", "basic.get-empty", "basic.return",
     "tx.commit-ok"],
)  # fmt: skip
def test_a_method_that_only_servers_send(name: str) -> None:
    """AMQP 0-9-1 §1.1, command-invalid: 503, connection."""
    client = Broker().open()
    client.tell(name)
    assert client.connection_error(503) == "COMMAND_INVALID - unimplemented method"


@pytest.mark.parametrize("index", [0x003C_00FF, 0x0050_000A, 0xFFFF_FFFF, 0])
def test_a_method_that_does_not_exist(index: int) -> None:
    """AMQP 0-9-1 §1.1, command-invalid: the connection ends."""
    client = Broker().open()
    client.send(frame(METHOD, 1, index.to_bytes(4, "big")))
    assert client.expect("connection.close", 0).number("reply_code") in (502, 503, 540)


# content


def test_a_method_in_the_middle_of_a_content() -> None:
    """AMQP 0-9-1 §1.1, unexpected-frame: 505, connection."""
    for cut in (
        method(1, "basic.publish"),
        method(1, "basic.publish") + header(1, 5),
        method(1, "basic.publish") + header(1, 5) + body(1, b"ab"),
    ):
        client = Broker().open()
        client.send(cut, method(1, "basic.qos"))
        client.connection_error(505)


@pytest.mark.parametrize(
    "said", [header(1, 5), body(1, b"x"), method(1, "basic.publish") + body(1, b"x"), content(1, b"x")]
)
def test_content_where_none_is_expected(said: bytes) -> None:
    """AMQP 0-9-1 §1.1, unexpected-frame: 505, connection."""
    client = Broker().open()
    client.send(said)
    client.connection_error(505)


@pytest.mark.parametrize("bodies", [[b"abc"], [b"a", b"bc"], [b"", b"abc"]])
def test_a_body_longer_than_announced(bodies: list[bytes]) -> None:
    """In the words of RabbitMQ's rabbit_command_assembler."""
    client = Broker().open()
    client.send(method(1, "basic.publish"), header(1, 2), *(body(1, each) for each in bodies))
    close = client.expect("connection.close", 0)
    assert (close["reply_code"], close["class_id"], close["method_id"]) == (501, 60, 40)
    assert close["reply_text"] == "FRAME_ERROR - content body frame exceeds remaining content size"


def test_two_headers() -> None:
    client = Broker().open()
    client.send(method(1, "basic.publish"), header(1, 5), header(1, 5))
    client.connection_error(505)


def test_a_header_of_another_class() -> None:
    """AMQP 0-9-1 §4.2.6: 505, connection."""
    for chunks in ([], [1] * 5):
        client = Broker().open()
        client.send(method(1, "basic.publish"), header(1, 0, class_id=50), chunks=chunks)
        client.connection_error(505)


def test_a_heartbeat_on_a_channel() -> None:
    """AMQP 0-9-1 §4.2.7: heartbeats belong to channel 0; AMQP 0-9-1 §1.1, unexpected-frame: 505."""
    for number in (1, 2):
        client = Broker().open()
        client.send(heartbeat(number))
        client.connection_error(505)


def test_contents_of_two_channels_may_alternate() -> None:
    """AMQP 0-9-1 §4.2.6: the frames of one content are in order on their channel; other channels' frames may stand
    between them."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    one = [method(1, "basic.publish", routing_key="q"), header(1, 4), body(1, b"on"), body(1, b"e!")]
    two = [method(2, "basic.publish", routing_key="q"), header(2, 4), body(2, b"tw"), body(2, b"o!")]
    client.send(*(piece for pair in zip(one, two, strict=True) for piece in pair))
    client.expect_nothing()
    assert client.drain("q") == [b"one!", b"two!"]


def test_channels_are_counted() -> None:
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("channel.close", on=2)
    client.ask_error(404, "queue.declare", queue="missing", passive=True)
    assert (broker.counters.channels_opened, broker.counters.channels_closed, broker.server.channels_open) == (3, 2, 1)
    client.drop()
    assert broker.server.channels_open == 0


def test_the_last_frames_of_a_closed_channel_number_are_a_fault() -> None:
    """After the client's own close the channel is gone: 504."""
    client = Broker().open()
    client.ask("channel.close")
    client.tell("basic.qos")
    client.connection_error(504)
