"""Queues and channels against a model in plain Python: any sequence of operations, and what was said and kept must
agree.

The model knows what waits in every queue and what every channel has not settled. It does not choose between consumers:
it reads who got what and checks that it may be so. A queue hands out the front of its line and nothing else; nobody
gets more than its windows allow; at rest no message waits while a consumer has room; a lower priority is served only
when all higher ones are full; tags count up; redelivered says the truth. Sources: AMQP 0-9-1 classes queue, basic, tx;
RabbitMQ docs, Consumers, Consumer Prefetch, Dead Letter Exchanges.

More of it: MODEL_EXAMPLES=5000 MODEL_STEPS=100 python -m pytest tests/model; MODEL_SHRINK=1 makes a failing sequence
shorter.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import Final

import hypothesis
import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.memory import Broker, Client
from tests.support.wire import Method, Said, method, plain

EXAMPLES: Final = int(os.environ.get("MODEL_EXAMPLES", "60"))
STEPS: Final = int(os.environ.get("MODEL_STEPS", "40"))

TTL_MS: Final = 100
LENGTH_MAX: Final = 3
PRIORITY_MAX: Final = 3
UNLIMITED: Final = 1 << 30
DEAD: Final[dict[str, object]] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "plain"}
QUEUES: Final[dict[str, dict[str, object]]] = {
    "plain": {},
    "second": {},
    "priority": {"x-max-priority": PRIORITY_MAX},
    "limited": {"x-max-length": LENGTH_MAX, **DEAD},
    "expiring": {"x-message-ttl": TTL_MS, **DEAD},
    "automatic": {},
}
"""Those that dead-letter do so into `plain`, which comes last when a step is checked."""
ORDER: Final = ("limited", "expiring", "second", "priority", "automatic", "plain")
SIMPLE: Final = ("plain", "second", "priority")
"""Queues whose state does not depend on what happens first inside one transaction."""
ACTIONS: Final = {
    "publish": 14, "get": 5, "consume": 5, "ack": 8, "nack": 6, "reject": 3, "settle the unknown": 1, "recover": 1,
    "cancel": 2, "qos": 2, "wait": 3, "declare": 2, "delete": 1, "purge": 1, "bind": 3, "close": 1, "lose": 1,
    "transact": 1, "commit": 3, "roll back": 2,
}  # fmt: skip
"""What is done, and how often."""
WAITS_MS: Final = (1, 30, 60, 101, 250)
TRANSACTIONAL: Final = 2
GLOBAL: Final = 3


@dataclass(eq=False)
class Item:
    """One message in one queue. `origin` is the queue in which it died, empty when it never did: one body may reach a
    queue both ways."""

    body: int
    origin: str
    level: int
    place: int
    deadline_ms: int
    redelivered: bool = False

    @property
    def name(self) -> tuple[int, str]:
        return self.body, self.origin

    @property
    def rank(self) -> tuple[int, int]:
        return -self.level, self.place


@dataclass(eq=False)
class Line:
    """One queue."""

    name: str
    ready: list[Item] = field(default_factory=list)
    places: itertools.count[int] = field(default_factory=itertools.count)
    consumers: list[Taker] = field(default_factory=list)
    deleted: bool = False
    lowest: int | None = None
    """The lowest priority that was served in this step."""

    def give_back(self, items: list[Item]) -> None:
        if self.deleted:
            return
        for item in items:
            item.redelivered = True
        self.ready = sorted(self.ready + items, key=lambda item: item.rank)


@dataclass(eq=False)
class Taker:
    """One consumer."""

    tag: str
    line: Line
    lane: Lane
    no_ack: bool
    window: int
    priority: int
    unacked: int = 0

    @property
    def room(self) -> int:
        lane = self.lane
        shared = (
            lane.window - sum(each.taker is not None for each in lane.all_unsettled()) if lane.window else UNLIMITED
        )
        if self.no_ack:
            return UNLIMITED if shared > 0 else 0  # it does not fill the window of all, but waits while that is full
        own = self.window - self.unacked if self.window else UNLIMITED
        return min(own, shared)


@dataclass(eq=False)
class Delivery:
    """Something a channel got and has not settled."""

    tag: int
    line: Line
    item: Item
    taker: Taker | None


@dataclass(eq=False)
class Lane:
    """One channel."""

    client: Client
    number: int
    index: int
    next_tag: int = 1
    unsettled: dict[int, Delivery] = field(default_factory=dict)
    takers: dict[str, Taker] = field(default_factory=dict)
    window: int = 0
    window_for_new: int = 0
    transactional: bool = False
    pending: list[tuple[list[Line], int, int]] = field(default_factory=list)
    settling: list[tuple[str, list[Delivery]]] = field(default_factory=list)

    def all_unsettled(self) -> list[Delivery]:
        """Also what an open transaction has settled: it is outstanding until the commit."""
        held = [delivery for _, deliveries in self.settling for delivery in deliveries]
        return sorted([*self.unsettled.values(), *held], key=lambda delivery: delivery.tag)


def name_of(said: Said) -> tuple[int, str]:
    """Which message this is; see `Item`."""
    headers = plain(said.properties.get("headers", {}))
    assert isinstance(headers, dict)
    return int(said.body), str(headers.get("x-first-death-queue", ""))


class QueuesAndChannels(RuleBasedStateMachine):
    """Two connections of two channels each; the third channel may be transactional, the fourth has a window of its
    own."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.clients = [self.broker.open(1, 2), self.broker.open(1, 2)]
        self.watcher = self.broker.open()
        self.lanes = [
            Lane(client, number, index)
            for index, (client, number) in enumerate(itertools.product(self.clients, (1, 2)))
        ]
        self.lines: dict[str, Line] = {}
        self.bindings: set[str] = set()
        self.serial = itertools.count(1)
        self.tags = itertools.count(1)
        self.sane = True
        """Nothing has failed so far: only then is the end worth looking at."""

    # ---- the model's own steps

    def enqueue(self, line: Line, body: int, priority: int, origin: str = "") -> None:
        if line.deleted:
            return
        level = min(priority, PRIORITY_MAX) if line.name == "priority" else 0
        deadline = self.broker.clock.time_ms + TTL_MS if line.name == "expiring" else 0
        line.ready.append(Item(body, origin, level, next(line.places), deadline))
        line.ready.sort(key=lambda item: item.rank)

    def bury(self, line: Line, items: list[Item]) -> None:
        """Dead letters of `limited` and `expiring` go to `plain`, if it is there."""
        target = self.lines.get("plain")
        if "x-dead-letter-exchange" in QUEUES[line.name] and not line.deleted and target is not None:
            for item in items:
                self.enqueue(target, item.body, 0, line.name)

    def delete_line(self, line: Line) -> list[Taker]:
        """The queue goes; its consumers, which are to be told."""
        line.deleted = True
        del self.lines[line.name]
        self.bindings.discard(line.name)
        takers, line.consumers = line.consumers, []
        for taker in takers:
            del taker.lane.takers[taker.tag]
        return takers

    def leave(self, taker: Taker) -> None:
        """A consumer goes; an automatic queue goes with its last one."""
        taker.line.consumers.remove(taker)
        del taker.lane.takers[taker.tag]
        if taker.line.name == "automatic" and not taker.line.consumers and not taker.line.deleted:
            self.delete_line(taker.line)

    def settle(self, how: str, deliveries: list[Delivery]) -> None:
        """ack, requeue or reject, now."""
        groups: dict[Line, list[Item]] = {}
        for delivery in deliveries:
            if delivery.taker is not None:
                delivery.taker.unacked -= 1
            groups.setdefault(delivery.line, []).append(delivery.item)
        for line, items in groups.items():
            if how == "requeue":
                line.give_back(items)
            elif how == "reject":
                self.bury(line, items)

    def end_lane(self, lane: Lane) -> Lane:
        """The channel is gone: consumers leave, then everything unsettled goes back; a fresh one in its place."""
        for taker in list(lane.takers.values()):
            self.leave(taker)
        deliveries = lane.all_unsettled()
        lane.settling = []
        lane.unsettled = {}
        self.settle("requeue", deliveries)
        fresh = Lane(lane.client, lane.number, lane.index)
        self.lanes[lane.index] = fresh
        return fresh

    # ---- what the broker said

    def listen(self) -> list[Said]:
        """Everything that is no delivery, in order; deliveries are checked against the model and entered into it."""
        self.sane = False
        deliveries: dict[str, list[tuple[Lane, Said]]] = {}
        others: list[Said] = []
        for connection, client in enumerate(self.clients):
            for said in client.hear():
                if said.method.name != "basic.deliver":
                    others.append(said)
                    continue
                lane = self.lanes[connection * 2 + said.channel - 1]
                taker = lane.takers.get(said.method.text("consumer_tag"))
                assert taker is not None, f"a delivery to nobody: {said}"
                assert said.method["delivery_tag"] == lane.next_tag, f"tag {lane.next_tag} expected: {said}"
                lane.next_tag += 1
                deliveries.setdefault(taker.line.name, []).append((lane, said))
        for name in ORDER:
            line = self.lines.get(name)
            if line is None:
                assert name not in deliveries
                continue
            self.expire(line)
            self.take_deliveries(line, deliveries.get(name, []))
            if name == "limited":
                excess = max(0, len(line.ready) - LENGTH_MAX)
                dropped, line.ready = line.ready[:excess], line.ready[excess:]
                self.bury(line, dropped)
        for line in self.lines.values():
            self.check_rest(line)
        return others

    def expire(self, line: Line) -> None:
        now = self.broker.clock.time_ms
        while line.ready and line.ready[0].deadline_ms and line.ready[0].deadline_ms <= now:
            self.bury(line, [line.ready.pop(0)])

    def take_deliveries(self, line: Line, deliveries: list[tuple[Lane, Said]]) -> None:
        front, line.ready = line.ready[: len(deliveries)], line.ready[len(deliveries) :]
        places = {item.name: place for place, item in enumerate(front)}
        last: dict[Lane, int] = {}
        lowest: int | None = None
        for lane, said in deliveries:
            name = name_of(said)
            assert name in places, f"{line.name}: {name} is not at the front, which is {[item.name for item in front]}"
            place = places.pop(name)
            assert place > last.get(lane, -1), f"{line.name}: {name} came out of order"
            last[lane] = place
            item = front[place]
            assert said.method["redelivered"] is item.redelivered, f"{line.name}: redelivered is wrong: {said}"
            taker = lane.takers[said.method.text("consumer_tag")]
            assert taker.room > 0, f"{line.name}: {taker.tag} had no room"
            lowest = taker.priority if lowest is None else min(lowest, taker.priority)
            if not taker.no_ack:
                taker.unacked += 1
                tag = said.method.number("delivery_tag")
                lane.unsettled[tag] = Delivery(tag, line, item, taker)
        line.lowest = lowest

    def check_rest(self, line: Line) -> None:
        """Nothing waits for a consumer with room, and nobody was passed over for a lower priority."""
        for taker in line.consumers:
            assert not line.ready or taker.room <= 0, f"{line.name}: {len(line.ready)} wait though {taker.tag} has room"
            assert line.lowest is None or taker.priority <= line.lowest or taker.room <= 0, (
                f"{line.name}: {taker.tag} was passed over"
            )

    def answer(self, name: str | None, lane: Lane | None = None) -> Method | None:
        """What was said besides deliveries and notices of cancelled consumers: the one answer `name`, or nothing."""
        rest = [said for said in self.listen() if said.method.name != "basic.cancel"]
        if name is None:
            assert rest == [], rest
            return None
        assert [said.method.name for said in rest] == [name], rest
        assert lane is None or rest[0].channel == lane.number
        return rest[0].method

    def refused(self, lane: Lane, code: int) -> None:
        """The channel was closed with this code: it ends in the model, and is opened again."""
        self.end_lane(lane)
        close = self.answer("channel.close", lane)
        assert close is not None
        assert close["reply_code"] == code, close
        lane.client.send(method(lane.number, "channel.close-ok"), method(lane.number, "channel.open"))
        self.answer("channel.open-ok", lane)

    # ---- rules

    @initialize(
        windows=st.lists(st.integers(0, 3), min_size=4, max_size=4), names=st.lists(st.sampled_from(ORDER), max_size=6)
    )
    def begin(self, windows: list[int], names: list[str]) -> None:
        """All queues, and some consumers."""
        for name in ORDER:
            self.declare(name, 0)
        for index, count in enumerate(windows):
            self.qos(index, count)
        for place, name in enumerate(names):
            self.consume(name, place % 4, place % 3 == 2, 0)

    @rule(
        action=st.sampled_from([name for name, weight in ACTIONS.items() for _ in range(weight)]),
        name=st.sampled_from(ORDER),
        index=st.integers(0, 3),
        pick=st.integers(0, 30),
        yes=st.booleans(),
        sure=st.booleans(),
    )
    def act(self, action: str, name: str, index: int, pick: int, yes: bool, sure: bool) -> None:
        """One operation. A rule for each would leave it to chance how often a message is published at all."""
        match action:
            case "declare":
                self.declare(name, index)
            case "delete":
                self.delete(name, index)
            case "purge":
                self.purge(name, index)
            case "bind":
                # `plain` is left out: whether it gets its own copy or a dead letter of the same publish first is
                # nobody's promise
                self.bind("second" if name == "plain" else name, index, yes)
            case "publish":
                self.publish(name, index, pick % 6, yes, 1 + pick % 4)
            case "get":
                self.get(name, index, yes)
            case "consume":
                self.consume(name, index, yes and sure, pick % 3 - 1)
            case "cancel":
                self.cancel(index, pick)
            case "qos":
                self.qos(index, pick % 4)
            case "ack":
                self.settle_some(index, pick, yes, "basic.ack", False)
            case "nack":
                self.settle_some(index, pick, yes, "basic.nack", sure)
            case "reject":
                self.settle_some(index, pick, False, "basic.reject", sure)
            case "settle the unknown":
                self.settle_unknown(index, pick, "basic.ack" if yes else "basic.nack", sure)
            case "recover":
                self.recover(index)
            case "close":
                self.close_channel(index)
            case "lose":
                self.lose_connection(index % 2, yes)
            case "wait":
                self.wait(WAITS_MS[pick % len(WAITS_MS)])
            case "transact":
                self.begin_transactions()
            case "commit" | "roll back" if not self.lanes[TRANSACTIONAL].transactional:
                self.begin_transactions()
            case "commit":
                self.commit()
            case "roll back":
                self.roll_back()

    def declare(self, name: str, index: int) -> None:
        lane = self.lanes[index]
        line = self.lines.setdefault(name, Line(name))
        lane.client.tell(
            "queue.declare", lane.number, queue=name, auto_delete=name == "automatic", arguments=QUEUES[name]
        )
        said = self.answer("queue.declare-ok", lane)
        assert said is not None
        assert (said["message_count"], said["consumer_count"]) == (len(line.ready), len(line.consumers))

    def delete(self, name: str, index: int) -> None:
        lane = self.lanes[index]
        line = self.lines.get(name)
        count = len(line.ready) if line else 0
        if line:
            self.delete_line(line)
        lane.client.tell("queue.delete", lane.number, queue=name)
        said = self.answer("queue.delete-ok", lane)
        assert said is not None
        assert said["message_count"] == count

    def purge(self, name: str, index: int) -> None:
        lane = self.lanes[index]
        lane.client.tell("queue.purge", lane.number, queue=name)
        line = self.lines.get(name)
        if line is None:
            self.refused(lane, 404)
            return
        count = len(line.ready)
        line.ready = []
        said = self.answer("queue.purge-ok", lane)
        assert said is not None
        assert said["message_count"] == count

    def bind(self, name: str, index: int, bound: bool) -> None:
        lane = self.lanes[index]
        verb = "bind" if bound else "unbind"
        lane.client.tell(f"queue.{verb}", lane.number, queue=name, exchange="amq.fanout")
        if name not in self.lines:
            if bound:
                self.refused(lane, 404)
            else:
                self.answer("queue.unbind-ok", lane)
            return
        (self.bindings.add if bound else self.bindings.discard)(name)
        self.answer(f"queue.{verb}-ok", lane)

    def publish(self, name: str, index: int, priority: int, fanout: bool, count: int) -> None:
        lane = self.lanes[index]
        if lane.transactional:
            fanout, name = False, SIMPLE[count % 3]
        for _ in range(count):
            body = next(self.serial)
            names = sorted(self.bindings) if fanout else [name]
            lines = [self.lines[each] for each in names if each in self.lines]
            if lane.transactional:
                lane.pending.append((lines, body, priority))
            else:
                for line in lines:
                    self.enqueue(line, body, priority)
            lane.client.publish(
                name,
                str(body).encode(),
                exchange="amq.fanout" if fanout else "",
                on=lane.number,
                properties={"priority": priority},
            )
            self.answer(None)

    def get(self, name: str, index: int, no_ack: bool) -> None:
        lane = self.lanes[index]
        lane.client.tell("basic.get", lane.number, queue=name, no_ack=no_ack)
        line = self.lines.get(name)
        if line is None:
            self.refused(lane, 404)
            return
        if not line.ready:
            self.answer("basic.get-empty", lane)
            return
        item = line.ready.pop(0)
        heard = lane.client.hear()
        assert [said.method.name for said in heard] == ["basic.get-ok"]
        said = heard[0]
        assert (name_of(said), said.method["redelivered"]) == (item.name, item.redelivered)
        assert (said.method["delivery_tag"], said.method["message_count"]) == (lane.next_tag, len(line.ready))
        if not no_ack:
            lane.unsettled[lane.next_tag] = Delivery(lane.next_tag, line, item, None)
        lane.next_tag += 1

    def consume(self, name: str, index: int, no_ack: bool, priority: int) -> None:
        lane = self.lanes[index]
        if index == GLOBAL and name == "limited":
            return
        tag = f"c{next(self.tags)}"
        line = self.lines.get(name)
        if line is not None:
            taker = Taker(tag, line, lane, no_ack, lane.window_for_new, priority)
            line.consumers.append(taker)
            lane.takers[tag] = taker
        lane.client.tell(
            "basic.consume",
            lane.number,
            queue=name,
            consumer_tag=tag,
            no_ack=no_ack,
            arguments={"x-priority": priority},
        )
        if line is None:
            self.refused(lane, 404)
        else:
            self.answer("basic.consume-ok", lane)

    def cancel(self, index: int, pick: int) -> None:
        lane = self.lanes[index]
        tags = sorted(lane.takers)
        tag = tags[pick % len(tags)] if tags else "nobody"
        if tags:
            self.leave(lane.takers[tag])
        lane.client.tell("basic.cancel", lane.number, consumer_tag=tag)
        self.answer("basic.cancel-ok", lane)

    def qos(self, index: int, count: int) -> None:
        lane = self.lanes[index]
        if index == GLOBAL:
            lane.window = count
        else:
            lane.window_for_new = count
        lane.client.tell("basic.qos", lane.number, prefetch_count=count, **{"global": index == GLOBAL})
        self.answer("basic.qos-ok", lane)

    def settle_some(self, index: int, pick: int, multiple: bool, how: str, requeue: bool) -> None:
        lane = self.lanes[index]
        known = sorted(lane.unsettled)
        if not known:
            return
        tag = 0 if multiple and pick % 7 == 0 else known[pick % len(known)]
        chosen = [each for each in known if each <= tag or tag == 0] if multiple else [tag]
        deliveries = [lane.unsettled.pop(each) for each in chosen]
        meaning = "ack" if how == "basic.ack" else "requeue" if requeue else "reject"
        if lane.transactional:
            lane.settling.append((meaning, deliveries))
        else:
            self.settle(meaning, deliveries)
        arguments: dict[str, object] = {"delivery_tag": tag}
        if how != "basic.reject":
            arguments["multiple"] = multiple
        if how != "basic.ack":
            arguments["requeue"] = requeue
        lane.client.tell(how, lane.number, **arguments)
        self.answer(None)

    def settle_unknown(self, index: int, pick: int, how: str, multiple: bool) -> None:
        lane = self.lanes[index]
        tag = next(tag for tag in range(max(1, pick), 1 << 20) if tag not in lane.unsettled)
        lane.client.tell(how, lane.number, delivery_tag=tag, multiple=multiple)
        self.refused(lane, 406)

    def recover(self, index: int) -> None:
        lane = self.lanes[index]
        deliveries = list(lane.unsettled.values())
        lane.unsettled = {}
        self.settle("requeue", sorted(deliveries, key=lambda delivery: delivery.tag))
        lane.client.tell("basic.recover", lane.number, requeue=True)
        self.answer("basic.recover-ok", lane)

    def close_channel(self, index: int) -> None:
        lane = self.lanes[index]
        self.end_lane(lane)
        lane.client.tell("channel.close", lane.number)
        self.answer("channel.close-ok", lane)
        lane.client.tell("channel.open", lane.number)
        self.answer("channel.open-ok", lane)

    def lose_connection(self, connection: int, politely: bool) -> None:
        lanes = self.lanes[connection * 2 : connection * 2 + 2]
        client = self.clients[connection]
        for lane in lanes:
            self.end_lane(lane)
        if politely:
            client.tell("connection.close", 0)
            assert [name for name in client.names() if name != "basic.deliver"] == ["connection.close-ok"]
        else:
            client.drop()
        client.hear()
        self.broker.clients.remove(client)
        fresh = self.broker.open(1, 2)
        self.clients[connection] = fresh
        for lane in self.lanes[connection * 2 : connection * 2 + 2]:
            lane.client = fresh
        self.answer(None)

    def begin_transactions(self) -> None:
        lane = self.lanes[TRANSACTIONAL]
        lane.transactional = True
        lane.client.tell("tx.select", lane.number)
        self.answer("tx.select-ok", lane)

    def commit(self) -> None:
        lane = self.lanes[TRANSACTIONAL]
        pending, lane.pending = lane.pending, []
        settling, lane.settling = lane.settling, []
        for lines, body, priority in pending:
            for line in lines:
                self.enqueue(line, body, priority)
        for how, deliveries in settling:
            self.settle(how, deliveries)
        lane.client.tell("tx.commit", lane.number)
        self.answer("tx.commit-ok", lane)

    def roll_back(self) -> None:
        lane = self.lanes[TRANSACTIONAL]
        lane.pending = []
        settling, lane.settling = lane.settling, []
        for _, deliveries in settling:
            lane.unsettled.update((delivery.tag, delivery) for delivery in deliveries)
        lane.client.tell("tx.rollback", lane.number)
        self.answer("tx.rollback-ok", lane)

    def wait(self, ms: int) -> None:
        self.broker.advance(ms)
        self.answer(None)

    # ---- what always holds

    @invariant()
    def queues_agree(self) -> None:
        assert set(self.broker.vhost.queues) == set(self.lines)
        outstanding: dict[Line, int] = {}
        for lane in self.lanes:
            for delivery in lane.all_unsettled():
                outstanding[delivery.line] = outstanding.get(delivery.line, 0) + 1
        for name, line in self.lines.items():
            queue = self.broker.queue(name)
            assert self.broker.depth(name) == (len(line.ready), outstanding.get(line, 0)), name
            assert queue.consumers.count() == len(line.consumers), name
        self.sane = True

    def teardown(self) -> None:
        """In the end everything goes back and comes out once, in order."""
        if not self.sane:
            return
        for index in range(len(self.lanes)):
            self.close_channel(index)
        self.queues_agree()
        for name, line in self.lines.items():
            assert [int(body) for body in self.watcher.drain(name)] == [item.body for item in line.ready], name
            assert self.broker.depth(name) == (0, 0), name


SHRINK: Final = os.environ.get("MODEL_SHRINK", "") == "1"
"""Looks for a shorter sequence that fails too; can take minutes."""
PHASES: Final = [
    phase for phase in hypothesis.Phase if SHRINK or phase not in (hypothesis.Phase.shrink, hypothesis.Phase.explain)
]

QueuesAndChannels.TestCase.settings = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=PHASES,
    # The suite tries the same sequences every time, a longer run new ones.
    derandomize="MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)
TestQueuesAndChannels = QueuesAndChannels.TestCase
