"""Bent conversations against a broker in memory.

Whatever a client says: nothing but a close comes of it. No exception escapes; the connection goes on or ends with a reply code of the
protocol; the messages of another connection are untouched; what the connection held is given back; no read takes long.

Everything follows from the seed, which is in the text of a failure.
More of it: FUZZ_FRAMES=100000000 FUZZ_SEED=7 python -m pytest tests/fuzz
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from dataclasses import dataclass
from typing import Final

import pytest

from tests.fuzz import collector, conversations, mutate
from tests.support.memory import Broker, Client, opening
from tests.support.wire import PROTOCOL_HEADER, Frame, Said, WireError, method, publish

FRAMES: Final = int(os.environ.get("FUZZ_FRAMES", "200000"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
READ_S: Final = 0.25
"""CPU time that one read may take, on a slow machine and interpreted; a read that loops takes for ever."""
PER_BROKER: Final = 40
KNOWN_CODES: Final = frozenset({200, 311, 312, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540})
"""AMQP 0-9-1 §1.1, constants; not 541: an internal error is ours."""
KEPT: Final = "the bystander's own"


@dataclass
class Tally:
    """What was done, for the line at the end."""

    frames: int = 0
    conversations: int = 0
    closed_channels: int = 0
    closed_connections: int = 0
    slowest_read_s: float = 0.0


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
    """The connection that hears the bent frames; answers closes as a client would."""

    def __init__(self, broker: Broker, tally: Tally, *, handshake: bool) -> None:
        self.tally = tally
        self.broker = broker
        self.client = broker.connect(frame_max=8192) if handshake else broker.client()

    def read(self, data: bytes) -> None:
        """One read of the broker, with its turn, in bounded time."""
        started = time.thread_time()
        self.client.send(data)
        self.tally.slowest_read_s = max(self.tally.slowest_read_s, time.thread_time() - started)
        assert time.thread_time() - started < READ_S, f"{len(data)} octets took {time.thread_time() - started:.3f} s"
        self.answer()

    def answer(self) -> None:
        if self.client.connection is None and self.client.sink.data == PROTOCOL_HEADER:
            self.client.sink.take()  # what a wrong protocol header is answered with
            assert self.client.sink.ended
        while heard := self.client.hear():  # an answer may be answered: a close-ok that ends a bent frame, and an open behind it
            for said in heard:
                self.answer_close(said)

    def answer_close(self, said: Said) -> None:
        if said.method.name == "channel.close":
            assert said.method["reply_code"] in KNOWN_CODES, said
            self.tally.closed_channels += 1
            self.client.send(method(said.channel, "channel.close-ok"), method(said.channel, "channel.open"))
        elif said.method.name == "connection.close":
            assert said.method["reply_code"] in KNOWN_CODES, said
            self.tally.closed_connections += 1
            connection = self.client.connection
            has_begun_a_frame = connection is not None and connection._reader.waiting > 0  # then close-ok is taken for a part of it
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
    assert broker.vhost.reply_targets == {}


def run_round(seed: str, tally: Tally, budget: int) -> None:
    """One broker, some conversations."""
    chance = random.Random(seed)
    broker = Broker()
    bystander = Bystander(broker)
    all_frames = [mutate.frames_of(make()) for make in conversations.ALL]
    donors = [each for frames in all_frames for each in frames]
    for _ in range(PER_BROKER):
        handshake = chance.random() < 0.9
        frames = chosen(all_frames, chance)
        if not handshake:
            start = opening(frame_max=8192)
            frames = mutate.frames_of([start[8:]]) + frames
        bent = mutate.bend(frames, donors, chance)
        if not handshake:
            bent.insert(0, start[:8] if chance.random() < 0.8 else mutate.octets(start[:8], chance))
        victim = Victim(broker, tally, handshake=handshake)
        taken = 0
        for data in mutate.cut(b"".join(bent), chance):
            victim.read(data)
            taken += len(data)
            if victim.client.sink.ended:
                break
        if chance.random() < 0.3:
            broker.advance(chance.choice((1, 1000, 70_000)))
            victim.answer()
        victim.client.drop()
        broker.clients.remove(victim.client)
        for part in bent:
            taken -= len(part)
            if taken < 0:
                break
            tally.frames += 1
        tally.conversations += 1
        check_empty_handed(broker)
        bystander.check()
        if tally.frames >= budget:
            return


def chosen(all_frames: list[list[Frame]], chance: random.Random) -> list[Frame]:
    """One conversation, or two that alternate."""
    frames = chance.choice(all_frames)
    if chance.random() < 0.3:
        other = chance.choice(all_frames)
        place = chance.randrange(len(frames) + 1)
        return frames[:place] + other + frames[place:]
    return frames


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """One line for whoever runs the suite."""
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")


@pytest.mark.timeout(0 if FRAMES > 1_000_000 else 300)
def test_bent_conversations(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    number = 0
    with collector.paused():
        while tally.frames < FRAMES:
            seed = f"{SEED}/{number}"
            try:
                run_round(seed, tally, FRAMES)
            except Exception as error:
                error.add_note(f"seed {seed!r} (tests.fuzz.test_frames.run_round), conversation {tally.conversations % PER_BROKER}")
                raise
            number += 1
            gc.collect()
    show(
        capsys,
        f"fuzz: {tally.frames} frames in {tally.conversations} conversations, {tally.closed_channels} channels and "
        f"{tally.closed_connections} connections closed, slowest read {tally.slowest_read_s * 1000:.1f} ms of CPU",
    )
    assert tally.closed_channels > 0
    assert tally.closed_connections > 0


def test_unbent_conversations_end_well() -> None:
    """The raw material is right: no conversation costs its connection when it is left alone."""
    for make in conversations.ALL:
        broker = Broker()
        client = broker.connect(frame_max=8192)
        for part in make():
            client.send(part)
        closes = [said for said in client.hear() if said.method.name == "connection.close"]
        assert closes == [], make.__name__


def test_a_client_is_served_at_once_during_the_fuzz() -> None:
    """A new client is accepted whatever the others say."""
    broker = Broker()
    chance = random.Random(SEED)
    for _ in range(50):
        bad = broker.client()
        bad.send(chance.randbytes(chance.randrange(1, 200)))
        worse = broker.open()
        try:
            worse.send(chance.randbytes(50))
        except WireError:
            pytest.fail("the broker said something that is no frame")
    good = broker.open()
    good.ask("queue.declare", queue="q")
    good.send(publish(1, "", "q", b"x"))
    assert good.drain("q") == [b"x"]
    assert isinstance(good, Client)
