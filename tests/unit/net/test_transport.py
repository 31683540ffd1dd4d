"""One client's socket (broker/net/transport.py) without a socket: reading in turns, pausing, one write a turn, the
end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
import structlog

from broker.alarms import MEMORY
from broker.faults import FaultOwner
from broker.net.admission import Admission
from broker.net.transport import LARGE_READ, LINGER_S, WRITE_HIGH_WATER, WRITE_LOW_WATER, AmqpProtocol
from broker.protocol.client_log import LINES_MAX
from broker.protocol.connection import Connection
from broker.turn import INPUT_BYTES_MAX
from tests.support.fake_transport import FakeTransport
from tests.support.memory import Broker, assemble, opening
from tests.support.wire import PROTOCOL_HEADER, heartbeat, method, publish, split_frames


class Socket:
    """A protocol and its transport; `say` is a read of the loop."""

    def __init__(
        self, broker: Broker, *, opened: bool = True, peer: tuple[str, int] | None = ("127.0.0.1", 50000)
    ) -> None:
        self.broker = broker
        self.transport = FakeTransport(peer)
        self.protocol = AmqpProtocol(broker.server, Admission(1024, lambda seconds, call: None))
        self.protocol.connection_made(self.transport)
        if opened:
            self.say(opening(), method(1, "channel.open"), method(1, "queue.declare", queue="q"))
            self.broker.run_turn()
            self.names()

    def say(self, *data: bytes) -> None:
        self.protocol.data_received(b"".join(data))

    def names(self) -> list[str]:
        data = bytes(self.transport.data)
        self.transport.data.clear()
        return [said.method.name for said in assemble([frame for frame in split_frames(data) if frame.kind != 8])]


def in_a_loop(test: Callable[[], None]) -> None:
    """Runs a test that makes the transport use the loop's timers."""

    async def run() -> None:
        test()

    asyncio.run(run())


def test_a_conversation() -> None:
    broker = Broker()
    socket = Socket(broker, opened=False)
    assert socket.transport.limits == (WRITE_HIGH_WATER, WRITE_LOW_WATER)
    socket.say(PROTOCOL_HEADER)
    assert socket.names() == ["connection.start"], "the handshake does not wait for the end of a turn"
    socket.say(opening()[8:], method(1, "channel.open"))
    broker.run_turn()
    assert socket.names() == ["connection.tune", "connection.open-ok", "channel.open-ok"]
    assert socket.protocol.connection is not None
    assert socket.protocol.connection.session.name == "127.0.0.1:50000 -> 127.0.0.1:5672"


def test_the_peers_address_decides_over_loopback_users() -> None:
    """RabbitMQ advisory 57216: the client's address, not the listener's."""

    def test() -> None:
        broker = Broker()
        socket = Socket(broker, opened=False, peer=("192.0.2.1", 50000))
        socket.say(opening())
        assert socket.names() == ["connection.start", "connection.close"]

    in_a_loop(test)


def test_a_unix_socket_has_no_address_and_is_local() -> None:
    broker = Broker()
    socket = Socket(broker, opened=False, peer=None)
    socket.say(opening())
    broker.run_turn()
    assert socket.names()[-1] == "connection.open-ok"


def test_answers_leave_at_the_end_of_the_turn() -> None:
    broker = Broker()
    socket = Socket(broker)
    socket.say(method(1, "basic.qos"))
    socket.say(method(1, "basic.qos"))
    assert socket.names() == []
    broker.turn.run()
    assert socket.names() == ["basic.qos-ok"] * 2


def test_a_large_read_pauses_the_socket_until_the_next_turn() -> None:
    """Fairness is the latency (docs/benchmarks.md)."""
    broker = Broker()
    socket = Socket(broker)
    socket.say(publish(1, "", "q", b"x" * 1000))
    assert socket.transport.reading
    socket.say(*(publish(1, "", "q", b"x" * 10_000) for _ in range(LARGE_READ // 10_000 + 1)))
    assert not socket.transport.reading
    broker.turn.run()
    assert socket.transport.reading
    assert broker.queue("q").ready_count() == 1 + LARGE_READ // 10_000 + 1


def test_what_is_more_than_a_turns_share_waits_undecoded() -> None:
    """a turn takes at most 1 MiB of input, round robin over connections."""
    broker = Broker()
    greedy, modest = Socket(broker), Socket(broker)
    piece = publish(1, "", "q", b"x" * 100_000)
    pieces = int(INPUT_BYTES_MAX) // len(piece) + 5
    for _ in range(pieces):
        greedy.say(piece)
    taken = int(broker.queue("q").ready_count())
    assert pieces - 5 <= taken < pieces
    modest.say(method(1, "basic.qos"))
    assert not modest.transport.reading
    broker.turn.run()
    broker.turn.run()
    assert modest.names() == ["basic.qos-ok"]
    assert broker.queue("q").ready_count() == pieces
    broker.run_turn()
    assert greedy.transport.reading
    assert modest.transport.reading


def test_waiting_input_keeps_its_order() -> None:
    broker = Broker()
    socket = Socket(broker)
    for number in range(60):
        socket.say(publish(1, "", "q", b"%03d" % number + b"x" * 50_000))
    broker.run_turn()
    socket.say(method(1, "basic.consume", queue="q", no_ack=True))
    broker.run_turn()
    said = assemble(split_frames(bytes(socket.transport.data)))
    assert [each.body[:3] for each in said if each.method.name == "basic.deliver"] == [
        b"%03d" % number for number in range(60)
    ]


def test_an_alarm_stops_reading() -> None:
    """RabbitMQ docs, Blocked Connections."""
    broker = Broker()
    socket = Socket(broker)
    broker.server.alarms.set(MEMORY, True)
    socket.say(publish(1, "", "q", b"x"))
    broker.run_turn()
    assert socket.names() == ["connection.blocked"]
    assert not socket.transport.reading
    socket.say(method(1, "basic.qos"))
    broker.run_turn()
    assert socket.names() == [], "what the loop still delivers waits"
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert socket.names() == ["connection.unblocked", "basic.qos-ok"]
    assert socket.transport.reading


def test_an_alarm_in_the_middle_of_waiting_input_stops_it_there() -> None:
    """The publish that meets the alarm may itself be one that waited."""
    broker = Broker()
    socket = Socket(broker)
    filler = publish(1, "", "missing-queue", b"x" * 100_000)
    broker.turn.admit(INPUT_BYTES_MAX)
    for _ in range(3):
        socket.say(filler)
    broker.server.alarms.set(MEMORY, True)
    broker.run_turn()
    assert socket.names() == ["connection.blocked"]
    assert not socket.transport.reading
    broker.server.alarms.set(MEMORY, False)
    broker.run_turn()
    assert socket.transport.reading
    assert broker.counters.messages_received == 3


def test_a_full_socket_pauses_dispatch() -> None:
    broker = Broker()
    socket = Socket(broker)
    socket.say(method(1, "basic.consume", queue="q", no_ack=True))
    broker.run_turn()
    assert socket.names() == ["basic.consume-ok"]
    socket.protocol.pause_writing()
    socket.say(publish(1, "", "q", b"x"))
    broker.run_turn()
    assert socket.names() == []
    socket.protocol.resume_writing()
    broker.run_turn()
    assert socket.names() == ["basic.deliver"]


def test_write_marks_during_the_handshake_do_no_harm() -> None:
    socket = Socket(Broker(), opened=False)
    socket.protocol.pause_writing()
    socket.protocol.resume_writing()


def test_a_lost_socket_gives_everything_back() -> None:
    broker = Broker()
    socket, other = Socket(broker), broker.open()
    socket.say(method(1, "queue.declare", queue="mine", exclusive=True))
    broker.run_turn()
    socket.protocol.connection_lost(None)
    broker.run_turn()
    assert set(broker.vhost.queues) == {"q"}
    assert len(broker.server.connections) == 1
    other.ask("basic.qos")


def test_input_that_waited_dies_with_its_socket() -> None:
    broker = Broker()
    socket = Socket(broker)
    broker.turn.admit(INPUT_BYTES_MAX)
    socket.say(publish(1, "", "q", b"x"))
    socket.protocol.connection_lost(ConnectionResetError())
    broker.run_turn()
    assert broker.queue("q").ready_count() == 0


def test_input_that_waits_is_a_sign_of_life() -> None:
    """Whoever has sent something is not silent, whenever it is decoded."""
    broker = Broker()
    socket = Socket(broker, opened=False)
    socket.say(opening(heartbeat_s=5))
    broker.advance(9_000)
    socket.protocol.block()
    socket.say(heartbeat())
    broker.advance(9_000)
    assert not socket.transport.aborted
    broker.advance(9_000)
    assert socket.transport.aborted


def test_sockets_that_close_together_are_not_logged_one_by_one() -> None:
    broker = Broker()
    with structlog.testing.capture_logs() as logs:
        sockets = [Socket(broker) for _ in range(100)]
        for socket in sockets:
            socket.protocol.connection_lost(None)
        assert Counter(line["event"] for line in logs) == {
            "Connection opened": LINES_MAX,
            "Client vanished without connection.close": LINES_MAX,
            "Connection closed": LINES_MAX,
        }
        logs.clear()
        broker.advance(1_000)
    assert [(line["event"], line["count"]) for line in logs] == [
        ("Lines were left out of the log", 100 - LINES_MAX)
    ] * 3


def test_what_the_loop_has_not_written_is_known() -> None:
    """How a client that does not read is found (broker/protocol/send_timeout.py)."""
    socket = Socket(Broker())
    assert socket.protocol.outbox is not None
    sink = socket.protocol.outbox.sink
    socket.transport.unwritten = 1234
    assert sink.unsent() == 1234


def test_losing_a_socket_in_the_handshake() -> None:
    broker = Broker()
    socket = Socket(broker, opened=False)
    socket.say(PROTOCOL_HEADER)
    socket.protocol.connection_lost(None)
    broker.advance(60_000)
    assert broker.server.connections == {}


def test_the_end_of_the_clients_stream_closes_the_socket() -> None:
    """AMQP has no half-closed connections."""
    assert Socket(Broker()).protocol.eof_received() is False


def test_after_close_ok_the_client_is_left_to_close_the_socket_first() -> None:
    """One that sees the stream end right behind a close frame may report a broken connection instead."""

    def test() -> None:
        broker = Broker()
        socket = Socket(broker)
        socket.say(method(0, "connection.close", reply_code=200))
        assert socket.names() == ["connection.close-ok"]
        assert not socket.transport.aborted
        assert not socket.transport.eof_written

    in_a_loop(test)


def test_a_client_that_does_not_close_is_cut_off() -> None:
    """After LINGER_S; the loop's own clock is asked for its timers."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        later: list[tuple[float, Callable[..., object]]] = []
        loop.call_later = lambda delay, callback, *rest: later.append((delay, callback))  # type: ignore[assignment, method-assign]
        socket = Socket(Broker())
        socket.say(method(0, "connection.close", reply_code=200))
        assert [delay for delay, _ in later] == [LINGER_S]
        later[0][1]()
        assert socket.transport.aborted

    asyncio.run(run())


def test_a_fault_of_the_brokers_own_ends_one_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """541 for the client that met it; another one goes on."""

    def test() -> None:
        broker = Broker()
        broker.faults_expected = 1
        socket, other = Socket(broker), broker.open()

        assert socket.protocol.connection is not None
        monkeypatch.setattr(socket.protocol, "connection", Failing(socket.protocol.connection))
        socket.say(method(1, "basic.qos"))
        broker.run_turn()
        assert "connection.close" in socket.names()
        other.ask("basic.qos")

    in_a_loop(test)


class Failing(FaultOwner):
    """A connection that raises when it receives; everything else is the real one's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def fault_label(self) -> str:
        return self.connection.fault_label()

    def end_by_fault(self) -> None:
        self.connection.end_by_fault()

    def receive(self, data: bytes) -> None:
        raise RuntimeError("planted by the test")

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)
