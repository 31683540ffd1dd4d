"""A broker in memory: the real protocol, routing and queues between a fake clock and fake sockets. Nothing waits,
nothing sleeps.

`Broker()` is a node with one virtual host `/` and the users guest (guest) and other (other). `broker.connect()` is a
client whose handshake is done. A client sends frames, the broker runs its turns until nothing is left to do, and what
it said can be read:

    broker = Broker()
    client = broker.open()                    # connected, channel 1 open
    client.ask("queue.declare", queue="q")    # sends, runs the turn, gives the -ok
    client.send(publish(1, "", "q", b"hello"))
    client.hear()                             # everything said since, as `Said`
    broker.advance(1000)                      # a second passes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from broker.auth.users import Users
from broker.clock import Waker
from broker.counters import Counters
from broker.protocol.connection import Connection
from broker.protocol.handshake import Handshake, Peer
from broker.protocol.limits import Limits
from broker.protocol.outbox import Outbox
from broker.protocol.server import Identity, Server
from broker.queues.classic import ClassicQueue
from broker.turn import Turn
from broker.vhost.vhost import VHost
from tests.support.fake_clock import FakeClock, HurriedClock
from tests.support.fake_transport import FakeSink
from tests.support.wire import (
    BODY,
    CAPABILITIES,
    CONTENT_METHODS,
    HEADER,
    HEARTBEAT,
    METHOD,
    PROTOCOL_HEADER,
    Frame,
    Method,
    Said,
    WireError,
    method,
    octets,
    publish,
    read_header,
    read_method,
    split_frames,
)

TURNS_MAX: Final = 10_000
"""More turns in a row than any test needs: a broker that keeps waking itself is a bug."""


class CountingWaker(Waker):
    """Stands where the event loop stands: notes that a turn was asked for, and how often."""

    def __init__(self) -> None:
        self.wakes = 0
        self.earlier: list[int] = []

    def wake(self) -> None:
        self.wakes += 1

    def on_earlier(self, deadline_ms: int) -> None:
        self.earlier.append(deadline_ms)


class Broker:
    """One node without sockets. `turn`, `clock`, `counters`, `server` and `vhost` are the real ones, open to tests."""

    clock_type: type[FakeClock] = FakeClock
    """Of the class, so that a fixture reaches the nodes that come after a restart, too."""

    def __init__(self) -> None:
        self.clock = self.clock_type()
        self.turn = Turn(self.clock)
        self.waker = CountingWaker()
        self.turn.waker = self.waker
        self.counters = Counters()
        self.limits = Limits()
        self.users = Users(frozenset({"guest"}))
        self.users.put("guest", "guest", ("administrator",))
        self.users.put("other", "other")
        identity = Identity("RabbitMQ", "3.13.7", "0.0.0", "Python", "memory", "leveret@memory")
        self.server = Server(identity, self.users, self.limits, self.turn, self.counters)
        self.set_up()
        self.vhost: VHost = self.server.vhosts["/"]
        self.clients: list[Client] = []
        self.faults_expected = 0
        """So many mistakes of the broker the test makes itself; any other fails it."""

    def set_up(self) -> None:
        """Give the node its virtual host."""
        self.server.add_vhost("/")

    def work(self) -> bool:
        """What threads do beside the event loop: some of it is done, False if there is none."""
        return False

    def hurry(self) -> None:
        """From now on, every look at the clock says that the time of the slice is over."""
        self.clock = self.turn.clock = HurriedClock()

    def run_turn(self) -> None:
        """Runs turns until nothing is asked for any more; AssertionError if the broker made a mistake
        (broker/faults.py)."""
        self._run_turns()
        faults = self.clock.faults
        assert faults.count <= self.faults_expected, f"internal error in {faults.last_where}: {faults.last_error!r}"

    def _run_turns(self) -> None:
        for _ in range(TURNS_MAX):
            if self.turn.scheduled:
                self.turn.run()
            elif self.work():
                continue
            elif not max([client.take_held() for client in self.clients], default=False):
                return
        raise AssertionError(f"still not at rest after {TURNS_MAX} turns")

    def advance(self, ms: int) -> None:
        """Lets time pass; timers run when they are due, and what they caused is carried out."""
        end = self.clock.time_ms + ms
        while self.clock.time_ms < end:
            following = int(self.clock.next_deadline())
            self.clock.advance(max(0, min(following, end) - self.clock.time_ms))
            self.run_turn()

    def client(self, host: str = "127.0.0.1") -> Client:
        """A socket that was accepted: no byte has been sent."""
        return Client(self, host)

    def connect(
        self,
        *,
        user: str = "guest",
        password: str | None = None,
        vhost: str = "/",
        capabilities: Mapping[str, object] | None = CAPABILITIES,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat_s: int = 0,
    ) -> Client:
        """A client up to connection.open-ok; limits left out are the broker's own."""
        client = self.client()
        client.shake(
            user=user,
            password=user if password is None else password,
            vhost=vhost,
            capabilities=capabilities,
            channel_max=channel_max,
            frame_max=frame_max,
            heartbeat_s=heartbeat_s,
        )
        return client

    def open(
        self, *channels: int, frame_max: int | None = None, capabilities: Mapping[str, object] | None = CAPABILITIES
    ) -> Client:
        """A connected client with these channels open; channel 1 when none is named."""
        client = self.connect(frame_max=frame_max, capabilities=capabilities)
        for channel in channels or (1,):
            client.ask("channel.open", on=channel)
        return client

    def queue(self, name: str) -> ClassicQueue:
        """The queue itself, for what no frame tells."""
        found = self.vhost.queues[name]
        assert isinstance(found, ClassicQueue)
        return found

    def depth(self, name: str) -> tuple[int, int]:
        """Ready and unacknowledged messages of a queue."""
        found = self.vhost.queues[name]
        return int(found.ready_count()), int(found.unacked)


class Client:
    """The other end of one connection. Reads and writes happen at once; `auto` is whether every send runs the broker's
    turn."""

    def __init__(self, broker: Broker, host: str = "127.0.0.1") -> None:
        self.broker = broker
        self.sink = FakeSink()
        self.outbox = Outbox(self.sink)
        broker.clock.refresh()
        self.handshake: Handshake | None = Handshake(
            broker.server, self.outbox, Peer(host, 50000, f"{host}:50000 -> 127.0.0.1:5672")
        )
        self.connection: Connection | None = None
        self.refusal = ""
        self.auto = True
        self.held: list[bytes] = []
        """Sent while the broker was not reading."""
        broker.clients.append(self)
        self._heard: list[Said] = []
        self._frames: list[Frame] = []
        self.heartbeats = 0

    # out

    def send(self, *data: bytes, chunks: Iterable[int] = ()) -> None:
        """Sends bytes as one read, or as reads of the given sizes and one with the rest; then the broker does its
        turn."""
        stream = b"".join(data)
        position = 0
        for size in chunks:
            self._receive(stream[position : position + size])
            position += size
        self._receive(stream[position:])
        if self.auto:
            self.broker.run_turn()

    def _receive(self, data: bytes) -> None:
        if not data or self.sink.ended:
            return
        if not self.sink.reading:
            self.held.append(data)
            return
        if isinstance(self.broker.clock, HurriedClock):
            self.broker.turn.admit(len(data))  # as the transport does: the slice of the reads begins
        if self.connection is not None:
            self.connection.receive(data)
            return
        assert self.handshake is not None
        self.handshake.receive(data)
        self.connection = self.handshake.connection
        self.refusal = self.handshake.refusal

    def take_held(self) -> bool:
        """Lets the broker read what it had left, if it reads again; whether there was any."""
        if not self.held or not self.sink.reading:
            return False
        held, self.held = self.held, []
        for data in held:
            self._receive(data)
        return True

    def drop(self) -> None:
        """The socket is gone without a word."""
        if self.connection is not None:
            self.connection.lost()
        elif self.handshake is not None:
            self.handshake.lost()
        self.sink.closed = True
        self.broker.run_turn()

    @property
    def opened(self) -> Connection:
        """The broker's own connection object, which must be there."""
        assert self.connection is not None
        return self.connection

    # in

    def frames(self) -> list[Frame]:
        """Every whole frame the broker wrote since the last call, heartbeats left out."""
        frames = [frame for frame in split_frames(self.sink.take()) if not self._is_heartbeat(frame)]
        kept, self._frames = self._frames, []
        return kept + frames

    def _is_heartbeat(self, frame: Frame) -> bool:
        if frame.kind != HEARTBEAT:
            return False
        self.heartbeats += 1
        return True

    def hear(self) -> list[Said]:
        """Everything the broker said since the last call."""
        heard, self._heard = self._heard, []
        return heard + assemble(self.frames())

    def names(self) -> list[str]:
        """The methods the broker said since the last call, by name."""
        return [said.method.name for said in self.hear()]

    def expect_said(self, name: str, on: int | None = None) -> Said:
        """The next thing the broker said, which must be `name`; the rest stays to be heard."""
        heard = self.hear()
        if not heard:
            raise WireError(f"{name} expected, the broker said nothing")
        said = heard.pop(0)
        self._heard = heard
        if said.method.name != name or (on is not None and said.channel != on):
            raise WireError(f"{name} expected, the broker said {said}")
        return said

    def expect(self, name: str, on: int | None = None) -> Method:
        """Like `expect_said`, without the content."""
        return self.expect_said(name, on).method

    def expect_nothing(self) -> None:
        """The broker has said nothing since."""
        heard = self.hear()
        if heard:
            raise WireError(f"silence expected, the broker said {heard}")

    # conversations

    def tell(self, name: str, /, on: int = 1, **arguments: object) -> None:
        """Sends one method."""
        self.send(method(on, name, **arguments))

    def ask(self, name: str, /, on: int = 1, **arguments: object) -> Method:
        """Sends a method and gives its `-ok`, which must be the next thing said; deliveries on the way stay to be
        heard."""
        self.tell(name, on, **arguments)
        return self._answer(f"{name}-ok", on)

    def _answer(self, name: str, on: int) -> Method:
        heard = self.hear()
        before: list[Said] = []
        while heard and heard[0].method.name == "basic.deliver":
            before.append(heard.pop(0))
        self._heard = heard
        method = self.expect(name, on)
        self._heard = before + self._heard
        return method

    def publish(
        self,
        routing_key: str,
        data: bytes = b"",
        *,
        exchange: str = "",
        on: int = 1,
        mandatory: bool = False,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Publishes one message."""
        self.send(publish(on, exchange, routing_key, data, mandatory=mandatory, properties=properties))

    def get(self, queue: str, *, on: int = 1, no_ack: bool = False) -> Said | None:
        """basic.get; None when the queue is empty."""
        self.tell("basic.get", on, queue=queue, no_ack=no_ack)
        heard = self.hear()
        assert len(heard) == 1, heard
        if heard[0].method.name == "basic.get-empty":
            return None
        assert heard[0].method.name == "basic.get-ok", heard
        return heard[0]

    def drain(self, queue: str, on: int = 1) -> list[bytes]:
        """The bodies of all ready messages, taken without acknowledgement."""
        bodies: list[bytes] = []
        while (said := self.get(queue, on=on, no_ack=True)) is not None:
            bodies.append(said.body)
        return bodies

    def consume(self, queue: str, tag: str = "", *, on: int = 1, **arguments: object) -> str:
        """basic.consume; deliveries stay to be heard. Gives the consumer tag."""
        self.tell("basic.consume", on, queue=queue, consumer_tag=tag, **arguments)
        return self._answer("basic.consume-ok", on).text("consumer_tag")

    def deliveries(self) -> list[Said]:
        """What was delivered since; nothing else may have been said."""
        heard = self.hear()
        strange = [said for said in heard if said.method.name != "basic.deliver"]
        if strange:
            raise WireError(f"deliveries expected, the broker said {strange}")
        return heard

    def bodies(self) -> list[bytes]:
        """The bodies delivered since; nothing else may have been said."""
        return [said.body for said in self.deliveries()]

    def channel_error(self, code: int, on: int = 1) -> str:
        """The broker closes the channel with this reply code; answers it and gives the reply text."""
        close = self.expect("channel.close", on)
        assert close["reply_code"] == code, close
        self.tell("channel.close-ok", on)
        return close.text("reply_text")

    def connection_error(self, code: int) -> str:
        """The broker closes the connection with this reply code; answers it and gives the reply text."""
        close = self.expect("connection.close", 0)
        assert close["reply_code"] == code, close
        self.tell("connection.close-ok", 0)
        assert self.sink.closed
        self.expect_nothing()
        return close.text("reply_text")

    def ask_error(self, code: int, name: str, /, on: int = 1, **arguments: object) -> str:
        """Sends a method that costs the channel with this reply code; gives the reply text. The channel is open again
        afterwards."""
        self.tell(name, on, **arguments)
        text = self.channel_error(code, on)
        self.ask("channel.open", on=on)
        return text

    def shake(
        self,
        *,
        user: str,
        password: str,
        vhost: str,
        capabilities: Mapping[str, object] | None,
        channel_max: int | None,
        frame_max: int | None,
        heartbeat_s: int,
    ) -> None:
        """The handshake, in as many reads as a client makes of it."""
        self.send(PROTOCOL_HEADER)
        self.expect("connection.start", 0)
        self.send(start_ok(user, password, capabilities))
        tune = self.expect("connection.tune", 0)
        self.send(
            method(
                0,
                "connection.tune-ok",
                channel_max=tune["channel_max"] if channel_max is None else channel_max,
                frame_max=tune["frame_max"] if frame_max is None else frame_max,
                heartbeat=heartbeat_s,
            ),
            method(0, "connection.open", virtual_host=vhost),
        )
        self.expect("connection.open-ok", 0)


def start_ok(
    user: str = "guest",
    password: str = "guest",
    capabilities: Mapping[str, object] | None = CAPABILITIES,
    properties: Mapping[str, object] | None = None,
) -> bytes:
    """connection.start-ok with a PLAIN login."""
    fields = dict(properties or {})
    if capabilities is not None:
        fields["capabilities"] = dict(capabilities)
    response = b"\x00".join((b"", octets(user), octets(password)))
    return method(
        0, "connection.start-ok", client_properties=fields, mechanism="PLAIN", response=response, locale="en_US"
    )


def opening(
    user: str = "guest",
    *,
    frame_max: int = 131072,
    channel_max: int = 2047,
    heartbeat_s: int = 0,
    properties: Mapping[str, object] | None = None,
) -> bytes:
    """Everything a client says up to connection.open, for tests that send it in one go."""
    return (
        PROTOCOL_HEADER
        + start_ok(user, user, properties=properties)
        + method(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat_s)
        + method(0, "connection.open", virtual_host="/")
    )


def assemble(frames: list[Frame]) -> list[Said]:
    """Frames as methods with their contents; `WireError` when a content is interrupted or cut short."""
    heard: list[Said] = []
    position = 0
    while position < len(frames):
        start = frames[position]
        position += 1
        if start.kind != METHOD:
            raise WireError(f"a method expected, not {start}")
        said = read_method(start.payload)
        if said.name not in CONTENT_METHODS:
            heard.append(Said(start.channel, said))
            continue
        head = frames[position]
        position += 1
        if (head.kind, head.channel) != (HEADER, start.channel):
            raise WireError(f"a content header expected after {said}, not {head}")
        size, properties = read_header(head.payload)
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < size:
            piece = frames[position]
            position += 1
            if (piece.kind, piece.channel) != (BODY, start.channel) or not piece.payload:
                raise WireError(f"a content body expected after {said}, not {piece}")
            pieces.append(piece.payload)
        heard.append(Said(start.channel, said, properties, b"".join(pieces), tuple(map(len, pieces))))
    return heard
