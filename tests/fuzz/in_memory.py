"""Bent conversations against a broker in memory, some with a disk in memory: what test_frames.py and
`scripts/soak fuzz` run.

Whatever a client says: nothing but a close comes of it. No exception escapes; the connection goes on or ends with a
reply code of the protocol; the messages of another connection are untouched; what the connection held is given back; no
read takes long. A node with a disk starts again on what it has written, however it ended.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.alarms import MEMORY
from tests.fuzz import conversations, mutate
from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, opening
from tests.support.wire import PROTOCOL_HEADER, Frame, Said, method

READ_S: Final = 0.25
"""CPU time that one read may take, on a slow machine and interpreted; a read that loops takes for ever."""
PER_BROKER: Final = 40
KNOWN_CODES: Final = frozenset(
    {200, 311, 312, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540}
)
"""AMQP 0-9-1 §1.1, constants; not 541: an internal error is ours."""
KEPT: Final = "the bystander's own"


@dataclass
class Tally:
    """What was done, for the line at the end."""

    frames: int = 0
    conversations: int = 0
    closed_channels: int = 0
    closed_connections: int = 0
    restarts: int = 0
    slowest_read_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.frames} frames in {self.conversations} conversations, {self.closed_channels} channels and "
            f"{self.closed_connections} connections closed, {self.restarts} restarts, "
            f"slowest read {self.slowest_read_s * 1000:.1f} ms of CPU"
        )


class HurriedBroker(Broker):
    """Leaves whatever it can for its next turn: what is done in slices is met half done."""

    clock_type = HurriedClock


class HurriedDurableBroker(DurableBroker):
    """The same with a disk, until it starts again."""

    clock_type = HurriedClock


class Bystander:
    """A second connection with messages of its own."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.client = broker.open()
        self.client.ask("queue.declare", queue=KEPT, exclusive=True)
        self.client.ask("confirm.select")
        self.rounds = 0
        for body in (b"outstanding", b"0"):
            self.client.publish(KEPT, body)
            self.client.expect("basic.ack")
        assert self.client.get(KEPT) is not None

    def check(self) -> None:
        """Nothing has been said to it, nothing of it is missing, and it is served."""
        self.client.expect_nothing()
        assert self.broker.depth(KEPT) == (1, 1)
        said = self.client.get(KEPT, no_ack=True)
        assert said is not None
        assert said.body == b"%d" % self.rounds
        self.rounds += 1
        self.client.publish(KEPT, b"%d" % self.rounds)
        self.client.expect("basic.ack")


class Victim:
    """The connection that hears the bent frames; mostly answers closes as a client would."""

    def __init__(self, broker: Broker, tally: Tally, chance: random.Random, *, handshake: bool) -> None:
        self.tally = tally
        self.broker = broker
        self.chance = chance
        self.answers = chance.random() < 0.8
        self.patience = 1.0 if chance.random() < 0.5 else 0.3
        """How probably it sends more only when the broker is at rest."""
        self.client = broker.connect(frame_max=8192) if handshake else broker.client()

    def read(self, data: bytes) -> None:
        """One read of the broker, with its turn, in bounded time."""
        if self.client.sink.ended:
            return  # while another one had its turn
        self.client.auto = self.chance.random() < self.patience
        started = time.thread_time()
        self.client.send(data)
        if not self.client.auto and self.broker.turn.scheduled and self.chance.random() < 0.5:
            self.broker.turn.run()
        self.tally.slowest_read_s = max(self.tally.slowest_read_s, time.thread_time() - started)
        assert time.thread_time() - started < READ_S, f"{len(data)} octets took {time.thread_time() - started:.3f} s"
        self.answer()

    def answer(self) -> None:
        if self.client.connection is None and self.client.sink.data == PROTOCOL_HEADER:
            self.client.sink.take()  # what a wrong protocol header is answered with
            assert self.client.sink.ended
        # An answer may be answered: a close-ok that ends a bent frame, and an open behind it.
        while heard := self.client.hear():
            for said in heard:
                self.answer_close(said)

    def answer_close(self, said: Said) -> None:
        if said.method.name == "channel.close":
            assert said.method["reply_code"] in KNOWN_CODES, said
            self.tally.closed_channels += 1
            if self.answers:
                self.client.send(method(said.channel, "channel.close-ok"), method(said.channel, "channel.open"))
        elif said.method.name == "connection.close":
            assert said.method["reply_code"] in KNOWN_CODES, said
            self.tally.closed_connections += 1
            if not self.answers:
                return
            self.client.auto = True
            self.broker.run_turn()  # what it has sent is taken, too
            connection = self.client.connection
            # a frame that was begun swallows the close-ok behind it
            has_begun_a_frame = connection is not None and connection.input.reader.waiting > 0
            self.client.send(method(0, "connection.close-ok"))
            assert self.client.sink.ended or has_begun_a_frame


def check_empty_handed(broker: Broker) -> None:
    """A connection that has gone holds nothing: no delivery, no consumer, no channel, no timer that matters."""
    assert broker.server.channels_open == 1
    assert len(broker.server.connections) == 1
    assert broker.server.closing == {}
    for name, queue in broker.vhost.queues.items():
        if name != KEPT:
            assert (queue.unacked, queue.consumers.count()) == (0, 0), name
            assert queue.owner is None, name
    assert broker.vhost.publishing.reply_targets == {}


def run_round(seed: str, tally: Tally, budget: int) -> None:
    """One broker, some conversations; in some rounds one with a disk, which ends in the middle and starts again."""
    chance = random.Random(seed)
    broker = chance.choices((Broker, HurriedBroker, DurableBroker, HurriedDurableBroker), (5, 2, 2, 1))[0]()
    bystander = Bystander(broker)
    all_frames = [mutate.frames_of(make()) for make in conversations.ALL]
    donors = [each for frames in all_frames for each in frames]
    for number in range(PER_BROKER):
        if isinstance(broker, DurableBroker) and number == PER_BROKER // 2:
            broker = started_again(broker, chance)
            bystander = Bystander(broker)
            tally.restarts += 1
        converse(broker, all_frames, donors, chance, tally)
        check_empty_handed(broker)
        bystander.check()
        if tally.frames >= budget:
            break
    if isinstance(broker, DurableBroker):
        assert broker.failure is None, broker.failure
        started_again(broker, chance)


def started_again(broker: DurableBroker, chance: random.Random) -> DurableBroker:
    """The node that comes after this one on its disk."""
    assert broker.failure is None, broker.failure
    match chance.randrange(3):
        case 0:
            return broker.killed()
        case 1:
            return broker.stopped()
        case _:
            return broker.lost_power(chance.randrange(1 << 30))


def converse(
    broker: Broker, all_frames: list[list[Frame]], donors: list[Frame], chance: random.Random, tally: Tally
) -> None:
    """One connection that says a bent conversation, or two by turns; sometimes an alarm or an operator comes
    between."""
    talks = [talk(broker, all_frames, donors, chance, tally) for _ in range(chance.choice((1, 1, 2)))]
    is_eventful = chance.random() < 0.1
    while talks:
        following = chance.choice(talks)
        if next(following, None) is None:
            talks.remove(following)
        elif is_eventful and chance.random() < 0.1:
            interfere(broker, chance)
    broker.server.alarms.set(MEMORY, False)
    if isinstance(broker, DurableBroker):
        broker.disk_is_stalled = False
    broker.run_turn()


def interfere(broker: Broker, chance: random.Random) -> None:
    """What others than clients do to connections; and what a disk does."""
    if isinstance(broker, DurableBroker) and chance.random() < 0.4:
        broker.disk_is_stalled = not broker.disk_is_stalled
        return
    if chance.random() < 0.7:
        broker.server.alarms.set(MEMORY, chance.random() < 0.5)
        return
    victims = [each.connection for each in broker.clients[1:] if each.connection is not None]
    if victims:
        chance.choice(victims).shut_down("Closed via management plugin")


def talk(
    broker: Broker, all_frames: list[list[Frame]], donors: list[Frame], chance: random.Random, tally: Tally
) -> Iterator[bool]:
    """One connection from its beginning to its end, read by read."""
    handshake = chance.random() < 0.9
    frames = chosen(all_frames, chance)
    if not handshake:
        start = opening(frame_max=8192)
        frames = mutate.frames_of([start[8:]]) + frames
    bent = mutate.bend(frames, donors, chance)
    if not handshake:
        bent.insert(0, start[:8] if chance.random() < 0.8 else mutate.octets(start[:8], chance))
    victim = Victim(broker, tally, chance, handshake=handshake)
    taken = 0
    for data in mutate.cut(b"".join(bent), chance):
        victim.read(data)
        taken += len(data)
        if victim.client.sink.ended:
            break
        yield True
    if chance.random() < 0.3:
        broker.advance(chance.choice((1, 1000, 70_000)))
        victim.answer()
    victim.client.drop()
    broker.clients.remove(victim.client)
    tally.frames += mutate.taken(bent, taken)
    tally.conversations += 1


def chosen(all_frames: list[list[Frame]], chance: random.Random) -> list[Frame]:
    """One conversation, or two that alternate."""
    frames = chance.choice(all_frames)
    if chance.random() < 0.3:
        other = chance.choice(all_frames)
        place = chance.randrange(len(frames) + 1)
        return frames[:place] + other + frames[place:]
    return frames
