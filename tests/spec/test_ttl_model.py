"""Queues in which some messages expire against a model in plain Python: whatever happens, what has expired reaches
nobody.

The model is a list. Nothing leaves it but from the head of a priority: past its deadline as a dead letter (reason
``expired``), over the limit as one too (``maxlen``), or to a client. It does not choose between consumers: at rest,
what they got together must be what stood in front, in order on every channel. Each queue has features by chance
(durable, paged to disk, priorities, limits, a TTL of its own, a dead letter exchange), and each history publishes,
consumes, gets, acknowledges, gives back, waits and restarts the node by chance. Sources: RabbitMQ docs, Time-To-Live
and Expiration; Queue Length Limit; Dead Letter Exchanges.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Final

import pytest

from tests.support.durable import DurableBroker
from tests.support.memory import Client
from tests.support.paging import disk_backlog_of
from tests.support.wire import Said, plain, publish

FIRST: Final = int(os.environ.get("TTL_FIRST", "0"))
HISTORIES: Final = int(os.environ.get("TTL_HISTORIES", "60"))
STEPS: Final = 60
CHANNELS: Final = 3
UNLIMITED: Final = 1 << 30
LIFETIMES_MS: Final = (None, None, 0, 15, 45, 95, 255, 605, 60_005)
"""Time goes on in steps of 10 ms: nobody asks at a deadline, where a message that was on the disk may live a moment
longer."""
WAITS_MS: Final = (10, 20, 50, 100, 300)
MEMORY_MAX: Final = 16 << 10
BODY_SIZE: Final = 2000


@dataclass(eq=False)
class Item:
    """One message in the queue."""

    serial: int
    level: int
    deadline_ms: int | None
    redelivered: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        return -self.level, self.serial


@dataclass(eq=False)
class Taker:
    """One consumer."""

    channel: int
    no_ack: bool
    prefetch: int


class Model:
    """What must be in the queue."""

    def __init__(self, levels: int, length_max: int | None) -> None:
        self.levels = levels
        self.length_max = length_max
        self.now_ms = 0
        self.ready: list[Item] = []
        self.room = 0
        """What consumers take together."""
        self.out: list[Item] = []
        """Delivered in this step."""
        self.dead: list[tuple[int, int, str]] = []
        """Level, serial and reason of what has died in this step."""

    def is_past(self, item: Item) -> bool:
        return item.deadline_ms is not None and item.deadline_ms <= self.now_ms

    def die(self, item: Item, reason: str) -> None:
        self.ready.remove(item)
        self.dead.append((item.level, item.serial, reason))

    def expire(self) -> None:
        for level in range(self.levels):
            for item in [item for item in self.ready if item.level == level]:
                if not self.is_past(item):
                    break
                self.die(item, "expired")

    def dispatch(self) -> None:
        self.expire()
        while self.ready and self.room > 0:
            self.room -= 1
            self.out.append(self.ready.pop(0))
            self.expire()

    def add(self, items: list[Item]) -> None:
        self.ready = sorted(self.ready + items, key=lambda item: item.rank)

    def drop_excess(self) -> None:
        """What stands next in line goes first."""
        if self.length_max is None or len(self.ready) <= self.length_max:
            return
        self.dispatch()
        while len(self.ready) > self.length_max:
            item = self.ready[0]
            self.die(item, "expired" if self.is_past(item) else "maxlen")
        self.expire()


class History:
    """One queue, its clients, and the model."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)
        self.durable = chance.random() < 0.5
        self.paged = chance.random() < 0.5
        self.levels = chance.choice((1, 1, 3))
        self.ttl_ms = chance.choice((None, None, None, 155))
        self.dead_letters = chance.random() < 0.8
        self.length_max = chance.choice((None, None, 12))
        self.refuses = self.length_max is not None and chance.random() < 0.3
        if self.paged and self.refuses:
            # What has expired on the disk is counted until it is read: a message more or less is refused.
            self.length_max = None
            self.refuses = False
        self.only_acks = self.paged and self.length_max is not None and not self.refuses
        """What comes back and is on the disk only may be dropped before it can be delivered: which it is, is not the
        question here."""
        if self.only_acks:
            # A head that is on the disk only is not known to have expired when another priority has to shrink.
            self.levels = 1
        self.serial = 0
        self.restarted = False
        self.model = Model(self.levels, None if self.refuses else self.length_max)
        self.broker = DurableBroker()
        self.connect()

    def arguments(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self.levels > 1:
            found["x-max-priority"] = self.levels - 1
        if self.ttl_ms is not None:
            found["x-message-ttl"] = self.ttl_ms
        if self.dead_letters:
            found |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        if self.length_max is not None:
            found |= {"x-max-length": self.length_max, "x-overflow": "reject-publish" if self.refuses else "drop-head"}
        return found

    def connect(self) -> None:
        self.takers: dict[str, Taker] = {}
        self.holders: dict[Item, Taker | None] = {}
        """Who got it last: a consumer or a basic.get."""
        self.unsettled: dict[tuple[int, int], Item] = {}
        self.client: Client = self.broker.open(*range(1, CHANNELS + 1))
        self.client.ask("queue.declare", queue="q", durable=self.durable, arguments=self.arguments())
        if self.paged:
            for line in self.broker.queue("q").levels:
                disk_backlog_of(line).share.most = MEMORY_MAX
        self.graveyard: Client = self.broker.open()
        self.graveyard.ask("queue.declare", queue="dead", durable=self.durable)
        self.graveyard.consume("dead", no_ack=True)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        frames: list[bytes] = []
        for _ in range(self.chance.choice((1, 2, 7, 30))):
            lifetime = self.chance.choice(LIFETIMES_MS)
            level = self.chance.randrange(self.levels)
            properties: dict[str, object] = {"delivery_mode": 2, "priority": level}
            if lifetime is not None:
                properties["expiration"] = str(lifetime)
            frames.append(publish(1, "", "q", b"%d " % self.serial + b"." * BODY_SIZE, properties=properties))
            lifetimes = [each for each in (lifetime, self.ttl_ms) if each is not None]
            self.model_publish(
                Item(self.serial, level, self.model.now_ms + min(lifetimes) if lifetimes else None), lifetime == 0
            )
            self.serial += 1
        self.client.send(*frames)

    def model_publish(self, item: Item, at_once: bool) -> None:
        """`at_once`: its TTL is 0."""
        model = self.model
        if self.refuses and self.length_max is not None and len(model.ready) >= self.length_max:
            model.dispatch()
            if len(model.ready) >= self.length_max:
                return
        if at_once:
            model.dispatch()
        if at_once and model.room > 0:
            assert not model.ready
            model.room -= 1
            model.out.append(item)
            return
        model.add([item])
        if at_once:
            model.dispatch()
        model.drop_excess()

    def consume(self) -> None:
        channel = 1 + self.chance.randrange(CHANNELS)
        taker = Taker(channel, self.chance.random() < 0.2, self.chance.choice((0, 1, 2, 5, 20)))
        tag = f"c{self.chance.randrange(10**9)}"
        self.client.ask("basic.qos", on=channel, prefetch_count=taker.prefetch)
        self.takers[tag] = taker
        self.client.consume(
            "q", tag, on=channel, no_ack=taker.no_ack, arguments={"x-priority": self.chance.randrange(2)}
        )
        self.model.room = self.room()

    def cancel(self) -> None:
        if self.takers:
            tag = self.chance.choice(sorted(self.takers))
            self.client.ask("basic.cancel", on=self.takers.pop(tag).channel, consumer_tag=tag)
            self.model.room = self.room()

    def get(self) -> None:
        no_ack = self.chance.random() < 0.5
        self.model.dispatch()
        expected = self.model.ready.pop(0) if self.model.ready else None
        self.client.tell("basic.get", queue="q", no_ack=no_ack)
        heard = self.client.hear()
        (answer,) = [said for said in heard if said.method.name != "basic.deliver"]
        assert answer.method.name == ("basic.get-empty" if expected is None else "basic.get-ok")
        self.take([said for said in heard if said is not answer])
        if expected is None:
            return
        assert number(answer.body) == expected.serial
        self.model.expire()
        if not self.paged:  # what is on the disk only is counted before anybody knows that it has expired
            assert answer.method["message_count"] == len(self.model.ready)
        self.check_redelivered(answer, expected)
        if not no_ack:
            self.unsettled[1, answer.method.number("delivery_tag")] = expected
            self.holders[expected] = None

    def settle(self) -> None:
        """Acknowledge, or give back, one delivery or all of a channel."""
        if not self.unsettled:
            return
        channel, tag = self.chance.choice(sorted(self.unsettled))
        multiple = self.chance.random() < 0.5
        keys = [
            key
            for key in sorted(self.unsettled)
            if key == (channel, tag) or (multiple and key[0] == channel and key[1] <= tag)
        ]
        items = [self.unsettled.pop(key) for key in keys]
        self.model.room = self.room()
        if self.chance.random() < 0.4 or self.only_acks:
            self.client.tell("basic.ack", channel, delivery_tag=tag, multiple=multiple)
            return
        self.model_give_back(items)
        self.client.tell("basic.nack", channel, delivery_tag=tag, multiple=multiple, requeue=True)

    def recover(self) -> None:
        if self.only_acks:
            return
        channel = 1 + self.chance.randrange(CHANNELS)
        items = [self.unsettled.pop(key) for key in sorted(self.unsettled) if key[0] == channel]
        self.model.room = self.room()
        self.model_give_back(items)
        self.client.ask("basic.recover", on=channel, requeue=True)

    def model_give_back(self, items: list[Item]) -> None:
        for item in items:
            item.redelivered = True
        if items:
            self.model.add(items)
            self.model.drop_excess()

    def wait(self) -> None:
        """Time passes, or jumps: then no timer runs before the next step."""
        wait_ms = self.chance.choice(WAITS_MS)
        if self.chance.random() < 0.5:
            self.broker.clock.time_ms += wait_ms
            self.model.now_ms += wait_ms
            self.step()
        else:
            self.broker.advance(wait_ms)
            self.model.now_ms += wait_ms

    def restart(self) -> None:
        if not self.durable:
            return
        before = self.broker
        has_died = True
        while has_died:  # what happened last is not on the disk yet, and would happen again
            before.settled()
            self.model.now_ms += 20
            self.model.dispatch()
            has_died = bool(self.model.dead)
            self.check()
        self.broker = before.killed()
        clock = self.broker.clock
        clock.wall_offset_ms = before.clock.time_ms + before.clock.wall_offset_ms - clock.time_ms
        clock.refresh()
        self.broker.run_turn()
        self.model.add(list(self.unsettled.values()))
        self.model.room = 0
        self.model.drop_excess()
        self.restarted = True
        self.connect()

    # ---- what came of it ---------------------------------------------------------------------------------------------

    def room(self) -> int:
        """What all consumers take together now."""
        total = 0
        for taker in self.takers.values():
            if taker.no_ack or not taker.prefetch:
                return UNLIMITED
            total += taker.prefetch - sum(self.holders.get(item) is taker for item in self.unsettled.values())
        return total

    def take(self, deliveries: list[Said]) -> None:
        """What consumers got is what stood in front, in order on each channel."""
        expected = {item.serial: item for item in self.model.out}
        places = {item: place for place, item in enumerate(self.model.out)}
        last: dict[int, int] = {}
        for said in deliveries:
            assert number(said.body) in expected, f"{number(said.body)} was delivered, of {sorted(expected)}"
            item = expected.pop(number(said.body))
            assert places[item] > last.get(said.channel, -1), "out of order"
            last[said.channel] = places[item]
            self.check_redelivered(said, item)
            taker = self.takers[said.method.text("consumer_tag")]
            if not taker.no_ack:
                self.unsettled[said.channel, said.method.number("delivery_tag")] = item
                self.holders[item] = taker
        assert not expected, "not delivered"
        self.model.out = []
        self.model.room = self.room()

    def check_redelivered(self, said: Said, item: Item) -> None:
        if not self.restarted:
            assert said.method["redelivered"] is item.redelivered

    def check(self) -> None:
        """At rest: timers that are due have run, and the log has been written, which deliveries may have to wait
        for."""
        self.broker.clock.advance(0)
        self.broker.store.logs.batch.hurry()
        self.broker.run_turn()
        model = self.model
        model.dispatch()
        self.take([said for said in self.client.hear() if said.method.name == "basic.deliver"])
        dead = (
            sorted((died(said) for said in self.graveyard.deliveries()), key=lambda each: each[0])
            if self.dead_letters
            else []
        )
        expected = sorted(model.dead, key=lambda each: each[0]) if self.dead_letters else []
        assert dead == expected
        model.dead = []
        assert self.broker.depth("q") == (len(model.ready), len(self.unsettled))

    def step(self) -> None:
        steps = (self.publish, self.consume, self.cancel, self.get, self.settle, self.recover, self.wait, self.restart)
        (step,) = self.chance.choices(steps, (14, 4, 4, 8, 14, 2, 14, 1))
        step()

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
            self.check()


def number(body: bytes) -> int:
    return int(body.partition(b" ")[0])


def died(said: Said) -> tuple[int, int, str]:
    """Level, serial and reason of a dead letter."""
    headers = plain(said.properties["headers"])
    assert isinstance(headers, dict)
    level = said.properties["priority"]
    assert isinstance(level, int)
    return level, number(said.body), str(headers["x-first-death-reason"])


@pytest.mark.parametrize("seed", range(FIRST, FIRST + HISTORIES))
def test_whatever_happens_nothing_expired_is_delivered(seed: int) -> None:
    """RabbitMQ docs, Time-To-Live: more of it with TTL_HISTORIES=2000."""
    History(seed).run()
