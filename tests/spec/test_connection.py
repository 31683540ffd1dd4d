"""Opening and closing a connection (AMQP 0-9-1 §2.2.4, class connection; RabbitMQ docs, Access Control)."""

from __future__ import annotations

import pytest

from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, Client, opening, start_ok
from tests.support.wire import (
    METHOD,
    PROTOCOL_HEADER,
    body,
    frame,
    header,
    heartbeat,
    longstr,
    method,
    plain,
    publish,
    table,
)

NO_CAPABILITIES: dict[str, object] = {}


def started(broker: Broker | None = None, host: str = "127.0.0.1") -> Client:
    """A client that has read connection.start."""
    client = (broker or Broker()).client(host)
    client.send(PROTOCOL_HEADER)
    client.expect("connection.start", 0)
    return client


def tuned(broker: Broker | None = None) -> Client:
    client = started(broker)
    client.send(start_ok())
    client.expect("connection.tune", 0)
    return client


# start


def test_start_names_version_mechanisms_and_locale() -> None:
    """Connection.start: 0-9, `PLAIN` and `AMQPLAIN` separated by a space, en_US."""
    client = Broker().client()
    client.send(PROTOCOL_HEADER)
    start = client.expect("connection.start", 0)
    assert (start["version_major"], start["version_minor"]) == (0, 9)
    assert isinstance(start["mechanisms"], bytes)
    assert sorted(start["mechanisms"].split(b" ")) == [b"AMQPLAIN", b"PLAIN"]
    assert start["locales"] == b"en_US"


def test_server_properties_have_rabbitmqs_keys() -> None:
    """RabbitMQ docs, Specification, capabilities: clients choose behaviour by product, version and capabilities."""
    client = Broker().client()
    client.send(PROTOCOL_HEADER)
    properties = plain(client.expect("connection.start", 0)["server_properties"])
    assert isinstance(properties, dict)
    assert {
        "capabilities",
        "cluster_name",
        "copyright",
        "information",
        "platform",
        "product",
        "version",
    } <= properties.keys()
    assert (properties["product"], properties["version"]) == ("RabbitMQ", "3.13.7")
    assert properties["capabilities"] == dict.fromkeys(
        [
            "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
            "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
            "direct_reply_to",
        ],
        True,
    )  # fmt: skip


@pytest.mark.parametrize("header", [b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09"])
def test_both_protocol_headers_of_0_9_1_are_taken(header: bytes) -> None:
    """AMQP 0-9-1 §4.2.2: `AMQP 0 0 9 1` and the older `AMQP 1 1 0 9`."""
    client = Broker().client()
    client.send(header)
    client.expect("connection.start", 0)


@pytest.mark.parametrize(
    "header",
    [
        b"AMQP\x00\x00\x09\x00",
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x01\x01\x08\x00",
        b"GET / HT",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
)
def test_another_protocol_header_is_answered_with_ours(header: bytes) -> None:
    """AMQP 0-9-1 §4.2.2: the server writes the header it understands and closes the socket."""
    client = Broker().client()
    client.send(header)
    assert client.sink.take() == PROTOCOL_HEADER
    assert client.sink.closed
    assert client.refusal


def test_the_protocol_header_may_come_in_pieces() -> None:
    client = Broker().client()
    client.send(PROTOCOL_HEADER, chunks=[1] * 7)
    client.expect("connection.start", 0)


def test_a_whole_opening_in_one_read() -> None:
    """A client may say everything at once when it knows what it will be asked (TCP is a stream)."""
    client = Broker().client()
    client.send(opening(), method(1, "channel.open"), method(1, "queue.declare", queue="q"))
    assert client.names() == [
        "connection.start",
        "connection.tune",
        "connection.open-ok",
        "channel.open-ok",
        "queue.declare-ok",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 11, 64])
def test_a_whole_opening_in_small_reads(size: int) -> None:
    client = Broker().client()
    data = opening() + method(1, "channel.open")
    client.send(data, chunks=[size] * (len(data) // size))
    assert client.names() == ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"]


# authentication


def test_plain_login() -> None:
    """RFC 4616 as RabbitMQ reads it: NUL user NUL password."""
    client = started()
    client.send(start_ok("guest", "guest"))
    client.expect("connection.tune", 0)


def test_amqplain_login() -> None:
    """RabbitMQ docs, Access Control: LOGIN and PASSWORD as the content of a table."""
    client = started()
    response = table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    client.tell("connection.start-ok", 0, mechanism="AMQPLAIN", response=response, locale="en_US")
    client.expect("connection.tune", 0)


@pytest.mark.parametrize(
    ("user", "password"), [("guest", "wrong"), ("nobody", "guest"), ("", ""), ("guest", ""), ("guest", "guest\x00")]
)
def test_a_wrong_login_is_refused_with_403_when_the_client_understands_it(user: str, password: str) -> None:
    """RabbitMQ docs, Access Control: connection.close 403 for clients with the capability
    `authentication_failure_close`."""
    client = started()
    client.send(start_ok(user, password))
    if "\x00" in password:
        client.expect_nothing()  # not the form of the mechanism at all
    else:
        close = client.expect("connection.close", 0)
        assert close["reply_code"] == 403
        assert close["reply_text"] == (
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker "
            "logfile."
        )
    assert client.sink.closed
    assert client.connection is None


def test_a_wrong_login_is_refused_in_silence_otherwise() -> None:
    """AMQP 0-9-1 §2.2.4: an old client learns it by the closed socket."""
    client = started()
    client.send(start_ok("guest", "wrong", NO_CAPABILITIES))
    client.expect_nothing()
    assert client.sink.closed


def test_guest_may_come_over_loopback_only() -> None:
    """RabbitMQ docs, Access Control: loopback_users."""
    remote = started(host="192.0.2.1")
    remote.send(start_ok("guest", "guest"))
    assert remote.expect("connection.close", 0)["reply_code"] == 403
    other = started(host="192.0.2.1")
    other.send(start_ok("other", "other"))
    other.expect("connection.tune", 0)


def test_an_unknown_mechanism_gets_no_further() -> None:
    client = started()
    client.tell("connection.start-ok", 0, mechanism="CRAM-MD5", response=b"x", locale="en_US")
    assert client.sink.closed
    assert client.connection is None


def test_logins_are_counted() -> None:
    broker = Broker()
    broker.connect()
    client = started(broker)
    client.send(start_ok("guest", "wrong"))
    assert (broker.counters.auth_attempts_succeeded, broker.counters.auth_attempts_failed) == (1, 1)


# before authentication


@pytest.mark.parametrize(
    "said",
    [
        method(0, "connection.tune-ok"),
        method(0, "connection.open", virtual_host="/"),
        method(0, "connection.close", reply_code=200),
        method(1, "channel.open"),
        publish(1, "", "q", b"x"),
        header(1, 5),
        body(1, b"x"),
        frame(METHOD, 0, b"\x00\x0a"),
        frame(METHOD, 0, b"\xff\xff\xff\xff"),
        frame(99, 0, b""),
        frame(METHOD, 0, b"", end=0),
    ],
)
def test_anything_out_of_order_before_the_login_ends_the_socket(said: bytes) -> None:
    """Whoever is not authenticated gets no explanation and no memory."""
    broker = Broker()
    client = started(broker)
    client.send(said)
    client.expect_nothing()
    assert client.sink.closed
    assert broker.server.connections == {}


def test_before_the_login_a_frame_has_at_most_4096_octets() -> None:
    """AMQP 0-9-1 §1.2: frame-min-size is what peers may use before tuning; refused by its header, before any of it is
    kept."""
    client = started()
    client.send(b"\x01\x00\x00" + (4089).to_bytes(4, "big"))
    assert client.sink.closed


@pytest.mark.parametrize(
    "said", [b"", PROTOCOL_HEADER[:5], PROTOCOL_HEADER, PROTOCOL_HEADER + start_ok(), PROTOCOL_HEADER + start_ok()[:50]]
)
def test_a_handshake_has_ten_seconds(said: bytes) -> None:
    """RabbitMQ docs, Networking: handshake_timeout 10,000 ms, whatever has arrived by then."""
    broker = Broker()
    client = broker.client()
    client.send(said)
    broker.advance(9_999)
    assert not client.sink.closed
    broker.advance(2)
    assert client.sink.closed


def test_an_open_connection_outlives_the_handshake_timeout() -> None:
    broker = Broker()
    client = broker.open()
    broker.advance(60_000)
    client.ask("basic.qos")


def test_a_heartbeat_during_the_handshake_is_no_fault() -> None:
    client = started()
    client.send(heartbeat())
    client.send(start_ok())
    client.expect("connection.tune", 0)


# tune


def test_tune_offers_rabbitmqs_limits() -> None:
    """RabbitMQ docs, Channels and Networking: 2047 channels, frames of 131,072 octets, heartbeat 60 s."""
    client = started()
    client.send(start_ok())
    tune = client.expect("connection.tune", 0)
    assert (tune["channel_max"], tune["frame_max"], tune["heartbeat"]) == (2047, 131072, 60)


@pytest.mark.parametrize(
    ("channel_max", "frame_max"), [(2048, 131072), (0, 131072), (2047, 131073), (2047, 0), (2047, 4095), (2047, 1)]
)
def test_limits_beyond_what_was_offered_are_refused(channel_max: int, frame_max: int) -> None:
    """Connection.tune-ok: a client may lower the limits, not raise them; 0 means no limit and is higher than any."""
    client = tuned()
    client.tell("connection.tune-ok", 0, channel_max=channel_max, frame_max=frame_max)
    assert client.sink.closed
    assert "negotiated" in client.refusal


@pytest.mark.parametrize(
    ("channel_max", "frame_max", "heartbeat_s"), [(1, 4096, 1), (2047, 131072, 0), (100, 8192, 600)]
)
def test_lower_limits_are_accepted(channel_max: int, frame_max: int, heartbeat_s: int) -> None:
    """frame_max 4096 is accepted, as RabbitMQ 3.13 does."""
    client = tuned()
    client.tell("connection.tune-ok", 0, channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat_s)
    client.ask("connection.open", on=0, virtual_host="/")
    assert (client.opened.channel_max, client.opened.heartbeat_s) == (channel_max, heartbeat_s)


# open


def test_a_vhost_that_is_not_there() -> None:
    """AMQP 0-9-1 connection.open: 530."""
    client = tuned()
    client.send(
        method(0, "connection.tune-ok", channel_max=10, frame_max=4096),
        method(0, "connection.open", virtual_host="nowhere"),
    )
    close = client.expect("connection.close", 0)
    assert (close["reply_code"], close["reply_text"]) == (530, "NOT_ALLOWED - vhost nowhere not found")
    assert client.sink.closed


def test_the_node_takes_so_many_connections() -> None:
    """RabbitMQ docs, Connections, limits: 530 at open for one too many; the others go on, and a place that is given
    back can be taken."""
    broker = Broker()
    broker.limits.connections_max = 1
    first = broker.connect()
    second = tuned(broker)
    second.send(
        method(0, "connection.tune-ok", channel_max=10, frame_max=4096), method(0, "connection.open", virtual_host="/")
    )
    close = second.expect("connection.close", 0)
    assert (close["reply_code"], close["reply_text"]) == (
        530,
        "NOT_ALLOWED - connection refused: node connection limit (1) is reached",
    )
    first.ask("channel.open")
    first.drop()
    broker.connect()


# close


def test_close_is_answered_with_close_ok() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("connection.close", on=0, reply_code=200, reply_text="bye")
    assert client.sink.closed
    assert broker.server.connections == {}
    assert broker.counters.connections_closed == 1


TOO_LARGE = b"\x01\x00\x01" + (1 << 30).to_bytes(4, "big")


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("error", [b"", method(1, "channel.open"), TOO_LARGE])
def test_frames_that_are_wrong_while_the_connection_closes(error: bytes, cut: int) -> None:
    """A header that announces too much, cut over two reads, then single bytes: no internal error, and nothing more is
    heard."""
    client = Broker().open()
    connection = client.opened
    client.send(error)
    for piece in (
        TOO_LARGE[:cut],
        TOO_LARGE[cut:],
        *(bytes([octet]) for octet in method(0, "connection.close-ok") * 3),
    ):
        connection.receive(piece)  # whatever the socket is told
        client.broker.run_turn()
    assert client.names() == ["connection.close"]
    assert client.sink.closed
    client.drop()
    assert client.broker.server.alarms.receiving == 0


def test_frames_that_are_wrong_while_things_are_still_given_back() -> None:
    """The end of the channels takes turns; what comes meanwhile is not looked at."""

    class HurriedBroker(Broker):
        clock_type = HurriedClock

    broker = HurriedBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    for number in range(500):
        client.consume("q", str(number))
    connection = client.opened
    client.auto = False
    connection.receive(method(1, "channel.open"))
    for piece in (TOO_LARGE[:3], TOO_LARGE[3:], *(bytes([octet]) for octet in range(100))):
        connection.receive(piece)
    broker.run_turn()
    assert client.names() == ["connection.close"]
    assert client.sink.closed


@pytest.mark.parametrize("cut", [1, 7, 100, 5_030])
def test_what_was_read_behind_an_error_is_passed_over_frame_by_frame(cut: int) -> None:
    """The read ends inside a frame: its rest, which comes next, is no frame of its own, and close-ok is found behind
    it."""
    client = Broker().open()
    stream = method(1, "channel.open") + publish(1, "", "q", b"x" * 5_000) + publish(1, "", "q", b"y" * 5_000)
    at = len(method(1, "channel.open")) + cut
    client.send(stream[:at])
    client.send(stream[at:])
    assert not client.sink.closed
    client.connection_error(504)


def test_half_a_frame_while_the_connection_closes_is_not_counted_for_ever() -> None:
    for end in ("close-ok", "drop"):
        client = Broker().open()
        client.tell("channel.open")
        client.send(method(0, "connection.close-ok")[:5])
        if end == "drop":
            client.drop()
        else:
            client.send(method(0, "connection.close-ok")[5:], heartbeat()[:3])
        assert client.broker.server.alarms.receiving == 0


def test_what_follows_a_close_is_not_looked_at() -> None:
    broker = Broker()
    client = broker.open()
    client.send(method(0, "connection.close", reply_code=200), method(1, "queue.declare", queue="q"))
    assert client.names() == ["connection.close-ok"]
    assert "q" not in broker.vhost.queues


def test_after_an_error_the_broker_waits_for_close_ok_and_ignores_the_rest() -> None:
    """AMQP 0-9-1 connection.close: a peer discards everything but close and close-ok after it has sent close."""
    broker = Broker()
    client = broker.open()
    client.tell("channel.open", 1)
    assert client.expect("connection.close", 0)["reply_code"] == 504
    client.send(
        method(1, "queue.declare", queue="q"),
        publish(1, "", "q", b"x"),
        heartbeat(),
        method(3, "channel.open"),
        frame(77, 0, b"?"),
    )
    client.expect_nothing()
    assert not client.sink.closed
    assert "q" not in broker.vhost.queues
    client.tell("connection.close-ok", 0)
    assert client.sink.closed


def test_close_and_close_cross() -> None:
    """Both sides close at once: each answers the other's close."""
    client = Broker().open()
    client.tell("channel.open", 1)
    client.expect("connection.close", 0)
    client.tell("connection.close", 0, reply_code=200)
    client.expect("connection.close-ok", 0)
    assert client.sink.closed


def test_a_client_that_never_answers_a_close_is_cut_off() -> None:
    broker = Broker()
    client = broker.open()
    client.tell("channel.open", 1)
    client.expect("connection.close", 0)
    broker.advance(60_000)
    assert client.sink.ended


def test_the_client_gives_everything_back_when_the_socket_goes() -> None:
    """Channels, consumers, exclusive queues, unacknowledged deliveries."""
    broker = Broker()
    client, watcher = broker.open(), broker.open()
    client.ask("queue.declare", queue="mine", exclusive=True)
    client.ask("queue.declare", queue="q")
    client.consume("q")
    client.publish("q", b"x")
    client.drop()
    assert watcher.ask("queue.declare", queue="q", passive=True).arguments == {
        "queue": "q",
        "message_count": 1,
        "consumer_count": 0,
    }
    assert "mine" not in broker.vhost.queues
    assert broker.server.channels_open == 1


def test_a_shut_down_is_connection_forced() -> None:
    """AMQP 0-9-1 §1.1, connection-forced: 320 CONNECTION_FORCED."""
    broker = Broker()
    client = broker.open()
    client.opened.shut_down("bye")
    broker.run_turn()
    assert client.connection_error(320) == "CONNECTION_FORCED - bye"


# channel 0


def test_a_second_open_is_a_fault() -> None:
    """Connection methods belong to the handshake."""
    client = Broker().open()
    client.tell("connection.open", 0, virtual_host="/")
    client.connection_error(504)


def test_update_secret_is_answered() -> None:
    """RabbitMQ's connection.update-secret (10,70)."""
    client = Broker().open()
    client.ask("connection.update-secret", on=0, new_secret=b"x", reason="r")


@pytest.mark.parametrize(
    "said",
    [
        header(0, 1),
        body(0, b"x"),
        method(0, "queue.declare", queue="q"),
        method(0, "channel.open"),
        publish(0, "", "q"),
    ],
)
def test_nothing_but_connection_methods_on_channel_0(said: bytes) -> None:
    """AMQP 0-9-1 §4.2.3: channel 0 is the connection's own."""
    client = Broker().open()
    client.send(said)
    close = client.expect("connection.close", 0)
    assert close["reply_code"] in (503, 504, 505)


def test_a_reply_text_longer_than_a_short_string_is_cut() -> None:
    """Reply-text is a short string of at most 255 octets (AMQP 0-9-1 §4.2.5.3)."""
    client = Broker().open()
    client.tell("queue.declare", queue="q" * 255, passive=True)
    close = client.expect("channel.close", 1)
    assert len(close.text("reply_text").encode()) <= 255
    assert close.text("reply_text").startswith("NOT_FOUND - no queue 'qqq")


def test_client_properties_are_kept() -> None:
    """RabbitMQ docs, Connections: connection_name and its like are shown by the management."""
    client = started()
    client.send(start_ok(properties={"connection_name": "mine", "product": "test"}))
    client.expect("connection.tune", 0)
    client.send(
        method(0, "connection.tune-ok", channel_max=10, frame_max=4096), method(0, "connection.open", virtual_host="/")
    )
    client.expect("connection.open-ok", 0)
    assert client.opened.client_properties.get("connection_name") == "mine"


def test_a_malformed_plain_response_is_refused() -> None:
    """An authorization identity, a missing NUL or a third one."""
    for response in (b"guest", b"a\x00guest\x00guest", b"\x00guest\x00guest\x00", b"", b"\x00guest"):
        client = started()
        client.tell("connection.start-ok", 0, mechanism="PLAIN", response=response, locale="en_US")
        assert client.sink.closed, response
        client.expect_nothing()


def test_a_malformed_amqplain_response_is_refused() -> None:
    for response in (
        b"",
        longstr(b"guest"),
        table({"LOGIN": "guest"})[4:],
        table({"LOGIN": 5, "PASSWORD": "guest"})[4:],
        b"\x05LOGINS\xff\xff\xff\xff",
    ):
        client = started()
        client.tell("connection.start-ok", 0, mechanism="AMQPLAIN", response=response, locale="en_US")
        assert client.sink.closed, response
        client.expect_nothing()


def test_a_password_need_not_be_utf_8() -> None:
    """A SASL response is octets (long string, AMQP 0-9-1 §4.2.5.3): no form of it may bring down the handshake."""
    for response in (b"\x00guest\x00\xff\xfe", b"\xff" * 20, b"\x00\xff\x00guest"):
        broker = Broker()
        client = started(broker)
        client.tell("connection.start-ok", 0, mechanism="PLAIN", response=response, locale="en_US")
        assert client.sink.closed, response
        assert client.connection is None
