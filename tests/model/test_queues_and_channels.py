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
    "transact": 1, "commit": 3, "roll back": 2, "restart": 1,
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
    priority: int
    level: int
    place: int
    deadline_ms: int
    acquired: int = 0
    """How often it came back,"""
    failed: int = 0
    """and how often because its delivery had failed."""

    @property
    def redelivered(self) -> bool:
        return self.acquired > 0

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
            item.acquired += 1
        self.ready = sorted(self.ready + items, key=lambda item: item.rank)


@dataclass(eq=False)
class Taker:
    """One consumer."""

    tag: str
    line: Line
    channel: ChannelModel
    no_ack: bool
    window: int
    priority: int
    unacked: int = 0

    @property
    def room(self) -> int:
        channel = self.channel
        shared = (
            channel.window - sum(each.taker is not None for each in channel.all_unsettled())
            if channel.window
            else UNLIMITED
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
class ChannelModel:
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
        self.broker = self.new_broker()
        self.clients = [self.broker.open(1, 2), self.broker.open(1, 2)]
        self.watcher = self.broker.open()
        self.channels = [
            ChannelModel(client, number, index)
            for index, (client, number) in enumerate(itertools.product(self.clients, (1, 2)))
        ]
        self.lines: dict[str, Line] = {}
        self.bindings: set[str] = set()
        self.serial = itertools.count(1)
        self.tags = itertools.count(1)
        self.had_room: set[str] = set()
        """Tags of consumers without acknowledgements that had room when the step began."""
        self.sane = True
        """Nothing has failed so far: only then is the end worth looking at."""

    # ---- what depends on the type of the queues

    def new_broker(self) -> Broker:
        return Broker()

    def declaration(self, name: str) -> dict[str, object]:
        """The arguments of queue.declare."""
        return {"auto_delete": name == "automatic", "arguments": QUEUES[name]}

    def level_of(self, name: str, priority: int) -> int:
        """Messages of a higher level come first."""
        return min(priority, PRIORITY_MAX) if name == "priority" else 0

    def is_automatic(self, line: Line) -> bool:
        """Whether it goes with its last consumer."""
        return line.name == "automatic"

    def give_up(self, line: Line, items: list[Item]) -> list[Item]:
        """Deliveries have failed: those that are dead letters because of that."""
        return []

    def check_counts(self, item: Item, said: Said) -> None:
        """What a delivery says of those before."""

    def restart(self, how: str) -> None:
        """The node ends, and starts again."""

    # ---- the model's own steps

    def enqueue(self, line: Line, body: int, priority: int, origin: str = "") -> None:
        if line.deleted:
            return
        level = self.level_of(line.name, priority)
        deadline = self.broker.clock.time_ms + TTL_MS if line.name == "expiring" else 0
        line.ready.append(Item(body, origin, priority, level, next(line.places), deadline))
        line.ready.sort(key=lambda item: item.rank)

    def bury(self, line: Line, items: list[Item]) -> None:
        """Dead letters go to `plain`, if it is there."""
        target = self.lines.get("plain")
        arguments = self.declaration(line.name)["arguments"]
        assert isinstance(arguments, dict)
        if "x-dead-letter-exchange" in arguments and not line.deleted and target is not None:
            for item in items:
                self.enqueue(target, item.body, item.priority, line.name)

    def delete_line(self, line: Line) -> list[Taker]:
        """The queue goes; its consumers, which are to be told."""
        line.deleted = True
        del self.lines[line.name]
        self.bindings.discard(line.name)
        takers, line.consumers = line.consumers, []
        for taker in takers:
            del taker.channel.takers[taker.tag]
        return takers

    def leave(self, taker: Taker) -> None:
        """A consumer goes; an automatic queue goes with its last one."""
        taker.line.consumers.remove(taker)
        del taker.channel.takers[taker.tag]
        if self.is_automatic(taker.line) and not taker.line.consumers and not taker.line.deleted:
            self.delete_line(taker.line)

    def settle(self, how: str, deliveries: list[Delivery]) -> None:
        """ack, requeue, fail or reject, now; what has failed comes back too."""
        groups: dict[Line, list[Item]] = {}
        for delivery in deliveries:
            if delivery.taker is not None:
                delivery.taker.unacked -= 1
            groups.setdefault(delivery.line, []).append(delivery.item)
        for line, items in groups.items():
            if how == "requeue":
                line.give_back(items)
            elif how == "fail":
                for item in items:
                    item.failed += 1
                dead = self.give_up(line, items)
                line.give_back([item for item in items if item not in dead])
                self.bury(line, dead)
            elif how == "reject":
                self.bury(line, items)

    def end_channel(self, channel: ChannelModel) -> ChannelModel:
        """The channel is gone: consumers leave, then everything unsettled goes back; a fresh one in its place."""
        for taker in list(channel.takers.values()):
            self.leave(taker)
        deliveries = channel.all_unsettled()
        channel.settling = []
        channel.unsettled = {}
        self.settle("fail", deliveries)
        fresh = ChannelModel(channel.client, channel.number, channel.index)
        self.channels[channel.index] = fresh
        return fresh

    # ---- what the broker said

    def listen(self) -> list[Said]:
        """Everything that is no delivery, in order; deliveries are checked against the model and entered into it."""
        self.sane = False
        deliveries: dict[str, list[tuple[ChannelModel, Said]]] = {}
        others: list[Said] = []
        for connection, client in enumerate(self.clients):
            for said in client.hear():
                if said.method.name != "basic.deliver":
                    others.append(said)
                    continue
                channel = self.channels[connection * 2 + said.channel - 1]
                taker = channel.takers.get(said.method.text("consumer_tag"))
                assert taker is not None, f"a delivery to nobody: {said}"
                assert said.method["delivery_tag"] == channel.next_tag, f"tag {channel.next_tag} expected: {said}"
                channel.next_tag += 1
                deliveries.setdefault(taker.line.name, []).append((channel, said))
        # one without acknowledgements may have been served before what fills the window of its channel
        self.had_room = {
            taker.tag
            for channel in self.channels
            for taker in channel.takers.values()
            if taker.no_ack and taker.room > 0
        }
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
        """What is at the front, of each level."""
        now = self.broker.clock.time_ms
        expired: list[Item] = []
        for level in {item.level for item in line.ready}:
            waiting = [item for item in line.ready if item.level == level]
            expired += itertools.takewhile(lambda item: 0 < item.deadline_ms <= now, waiting)
        line.ready = [item for item in line.ready if item not in expired]
        self.bury(line, sorted(expired, key=lambda item: (item.deadline_ms, item.rank)))

    def take_deliveries(self, line: Line, deliveries: list[tuple[ChannelModel, Said]]) -> None:
        front, line.ready = line.ready[: len(deliveries)], line.ready[len(deliveries) :]
        places = {item.name: place for place, item in enumerate(front)}
        last: dict[ChannelModel, int] = {}
        lowest: int | None = None
        for channel, said in deliveries:
            name = name_of(said)
            assert name in places, f"{line.name}: {name} is not at the front, which is {[item.name for item in front]}"
            place = places.pop(name)
            assert place > last.get(channel, -1), f"{line.name}: {name} came out of order"
            last[channel] = place
            item = front[place]
            assert said.method["redelivered"] is item.redelivered, f"{line.name}: redelivered is wrong: {said}"
            self.check_counts(item, said)
            taker = channel.takers[said.method.text("consumer_tag")]
            assert taker.room > 0 or taker.tag in self.had_room, f"{line.name}: {taker.tag} had no room"
            lowest = taker.priority if lowest is None else min(lowest, taker.priority)
            if not taker.no_ack:
                taker.unacked += 1
                tag = said.method.number("delivery_tag")
                channel.unsettled[tag] = Delivery(tag, line, item, taker)
        line.lowest = lowest

    def check_rest(self, line: Line) -> None:
        """Nothing waits for a consumer with room, and nobody was passed over for a lower priority."""
        for taker in line.consumers:
            assert not line.ready or taker.room <= 0, f"{line.name}: {len(line.ready)} wait though {taker.tag} has room"
            assert line.lowest is None or taker.priority <= line.lowest or taker.room <= 0, (
                f"{line.name}: {taker.tag} was passed over"
            )

    def answer(self, name: str | None, channel: ChannelModel | None = None) -> Method | None:
        """What was said besides deliveries and notices of cancelled consumers: the one answer `name`, or nothing."""
        rest = [said for said in self.listen() if said.method.name != "basic.cancel"]
        if name is None:
            assert rest == [], rest
            return None
        assert [said.method.name for said in rest] == [name], rest
        assert channel is None or rest[0].channel == channel.number
        return rest[0].method

    def refused(self, channel: ChannelModel, code: int) -> None:
        """The channel was closed with this code: it ends in the model, and is opened again."""
        self.end_channel(channel)
        close = self.answer("channel.close", channel)
        assert close is not None
        assert close["reply_code"] == code, close
        channel.client.send(method(channel.number, "channel.close-ok"), method(channel.number, "channel.open"))
        self.answer("channel.open-ok", channel)

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
            case "commit" | "roll back" if not self.channels[TRANSACTIONAL].transactional:
                self.begin_transactions()
            case "commit":
                self.commit()
            case "roll back":
                self.roll_back()
            case "restart":
                self.restart(("killed", "lost power", "stopped")[pick % 3])

    def declare(self, name: str, index: int) -> None:
        channel = self.channels[index]
        line = self.lines.setdefault(name, Line(name))
        channel.client.tell("queue.declare", channel.number, queue=name, **self.declaration(name))
        said = self.answer("queue.declare-ok", channel)
        assert said is not None
        assert (said["message_count"], said["consumer_count"]) == (len(line.ready), len(line.consumers))

    def delete(self, name: str, index: int) -> None:
        channel = self.channels[index]
        line = self.lines.get(name)
        count = len(line.ready) if line else 0
        if line:
            self.delete_line(line)
        channel.client.tell("queue.delete", channel.number, queue=name)
        said = self.answer("queue.delete-ok", channel)
        assert said is not None
        assert said["message_count"] == count

    def purge(self, name: str, index: int) -> None:
        channel = self.channels[index]
        channel.client.tell("queue.purge", channel.number, queue=name)
        line = self.lines.get(name)
        if line is None:
            self.refused(channel, 404)
            return
        count = len(line.ready)
        line.ready = []
        said = self.answer("queue.purge-ok", channel)
        assert said is not None
        assert said["message_count"] == count

    def bind(self, name: str, index: int, bound: bool) -> None:
        channel = self.channels[index]
        verb = "bind" if bound else "unbind"
        channel.client.tell(f"queue.{verb}", channel.number, queue=name, exchange="amq.fanout")
        if name not in self.lines:
            if bound:
                self.refused(channel, 404)
            else:
                self.answer("queue.unbind-ok", channel)
            return
        (self.bindings.add if bound else self.bindings.discard)(name)
        self.answer(f"queue.{verb}-ok", channel)

    def publish(self, name: str, index: int, priority: int, fanout: bool, count: int) -> None:
        channel = self.channels[index]
        if channel.transactional:
            fanout, name = False, SIMPLE[count % 3]
        for _ in range(count):
            body = next(self.serial)
            names = sorted(self.bindings) if fanout else [name]
            lines = [self.lines[each] for each in names if each in self.lines]
            if channel.transactional:
                channel.pending.append((lines, body, priority))
            else:
                for line in lines:
                    self.enqueue(line, body, priority)
            channel.client.publish(
                name,
                str(body).encode(),
                exchange="amq.fanout" if fanout else "",
                on=channel.number,
                properties={"priority": priority},
            )
            self.answer(None)

    def get(self, name: str, index: int, no_ack: bool) -> None:
        channel = self.channels[index]
        channel.client.tell("basic.get", channel.number, queue=name, no_ack=no_ack)
        line = self.lines.get(name)
        if line is None:
            self.refused(channel, 404)
            return
        if not line.ready:
            self.answer("basic.get-empty", channel)
            return
        item = line.ready.pop(0)
        heard = channel.client.hear()
        assert [said.method.name for said in heard] == ["basic.get-ok"]
        said = heard[0]
        assert (name_of(said), said.method["redelivered"]) == (item.name, item.redelivered)
        self.check_counts(item, said)
        assert (said.method["delivery_tag"], said.method["message_count"]) == (channel.next_tag, len(line.ready))
        if not no_ack:
            channel.unsettled[channel.next_tag] = Delivery(channel.next_tag, line, item, None)
        channel.next_tag += 1

    def consume(self, name: str, index: int, no_ack: bool, priority: int) -> None:
        channel = self.channels[index]
        if index == GLOBAL and name == "limited":
            return
        tag = f"c{next(self.tags)}"
        line = self.lines.get(name)
        if line is not None:
            taker = Taker(tag, line, channel, no_ack, channel.window_for_new, priority)
            line.consumers.append(taker)
            channel.takers[tag] = taker
        channel.client.tell(
            "basic.consume",
            channel.number,
            queue=name,
            consumer_tag=tag,
            no_ack=no_ack,
            arguments={"x-priority": priority},
        )
        if line is None:
            self.refused(channel, 404)
        else:
            self.answer("basic.consume-ok", channel)

    def cancel(self, index: int, pick: int) -> None:
        channel = self.channels[index]
        tags = sorted(channel.takers)
        tag = tags[pick % len(tags)] if tags else "nobody"
        if tags:
            self.leave(channel.takers[tag])
        channel.client.tell("basic.cancel", channel.number, consumer_tag=tag)
        self.answer("basic.cancel-ok", channel)

    def qos(self, index: int, count: int) -> None:
        channel = self.channels[index]
        if index == GLOBAL:
            channel.window = count
        else:
            channel.window_for_new = count
        channel.client.tell("basic.qos", channel.number, prefetch_count=count, **{"global": index == GLOBAL})
        self.answer("basic.qos-ok", channel)

    def settle_some(self, index: int, pick: int, multiple: bool, how: str, requeue: bool) -> None:
        channel = self.channels[index]
        known = sorted(channel.unsettled)
        if not known:
            return
        tag = 0 if multiple and pick % 7 == 0 else known[pick % len(known)]
        chosen = [each for each in known if each <= tag or tag == 0] if multiple else [tag]
        deliveries = [channel.unsettled.pop(each) for each in chosen]
        meaning = "ack" if how == "basic.ack" else "reject"
        if requeue and how != "basic.ack":
            meaning = "requeue" if how == "basic.nack" else "fail"
        if channel.transactional:
            channel.settling.append((meaning, deliveries))
        else:
            self.settle(meaning, deliveries)
        arguments: dict[str, object] = {"delivery_tag": tag}
        if how != "basic.reject":
            arguments["multiple"] = multiple
        if how != "basic.ack":
            arguments["requeue"] = requeue
        channel.client.tell(how, channel.number, **arguments)
        self.answer(None)

    def settle_unknown(self, index: int, pick: int, how: str, multiple: bool) -> None:
        channel = self.channels[index]
        tag = next(tag for tag in range(max(1, pick), 1 << 20) if tag not in channel.unsettled)
        channel.client.tell(how, channel.number, delivery_tag=tag, multiple=multiple)
        self.refused(channel, 406)

    def recover(self, index: int) -> None:
        channel = self.channels[index]
        deliveries = list(channel.unsettled.values())
        channel.unsettled = {}
        self.settle("requeue", sorted(deliveries, key=lambda delivery: delivery.tag))
        channel.client.tell("basic.recover", channel.number, requeue=True)
        self.answer("basic.recover-ok", channel)

    def close_channel(self, index: int) -> None:
        channel = self.channels[index]
        self.end_channel(channel)
        channel.client.tell("channel.close", channel.number)
        self.answer("channel.close-ok", channel)
        channel.client.tell("channel.open", channel.number)
        self.answer("channel.open-ok", channel)

    def lose_connection(self, connection: int, politely: bool) -> None:
        channels = self.channels[connection * 2 : connection * 2 + 2]
        client = self.clients[connection]
        for channel in channels:
            self.end_channel(channel)
        if politely:
            client.tell("connection.close", 0)
            assert [name for name in client.names() if name != "basic.deliver"] == ["connection.close-ok"]
        else:
            client.drop()
        client.hear()
        self.broker.clients.remove(client)
        fresh = self.broker.open(1, 2)
        self.clients[connection] = fresh
        for channel in self.channels[connection * 2 : connection * 2 + 2]:
            channel.client = fresh
        self.answer(None)

    def begin_transactions(self) -> None:
        channel = self.channels[TRANSACTIONAL]
        channel.transactional = True
        channel.client.tell("tx.select", channel.number)
        self.answer("tx.select-ok", channel)

    def commit(self) -> None:
        channel = self.channels[TRANSACTIONAL]
        pending, channel.pending = channel.pending, []
        settling, channel.settling = channel.settling, []
        for lines, body, priority in pending:
            for line in lines:
                self.enqueue(line, body, priority)
        for how, deliveries in settling:
            self.settle(how, deliveries)
        channel.client.tell("tx.commit", channel.number)
        self.answer("tx.commit-ok", channel)

    def roll_back(self) -> None:
        channel = self.channels[TRANSACTIONAL]
        channel.pending = []
        settling, channel.settling = channel.settling, []
        for _, deliveries in settling:
            channel.unsettled.update((delivery.tag, delivery) for delivery in deliveries)
        channel.client.tell("tx.rollback", channel.number)
        self.answer("tx.rollback-ok", channel)

    def wait(self, ms: int) -> None:
        """In steps, each up to where something expires: dead letters go on before others come."""
        clock = self.broker.clock
        end = clock.time_ms + ms
        while clock.time_ms < end:
            expiring = self.lines["expiring"].ready if "expiring" in self.lines else []
            due = [item.deadline_ms for item in expiring if clock.time_ms < item.deadline_ms < end]
            self.broker.advance(min(due, default=end) - clock.time_ms)
            self.answer(None)

    # ---- what always holds

    @invariant()
    def queues_agree(self) -> None:
        assert set(self.broker.vhost.queues) == set(self.lines)
        outstanding: dict[Line, int] = {}
        for channel in self.channels:
            for delivery in channel.all_unsettled():
                outstanding[delivery.line] = outstanding.get(delivery.line, 0) + 1
        for name, line in self.lines.items():
            queue = self.broker.vhost.queues[name]
            assert self.broker.depth(name) == (len(line.ready), outstanding.get(line, 0)), name
            assert queue.consumers.count() == len(line.consumers), name
        self.sane = True

    def teardown(self) -> None:
        """In the end everything goes back and comes out once, in order."""
        if not self.sane:
            return
        for index in range(len(self.channels)):
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

SETTINGS: Final = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=PHASES,
    # The suite tries the same sequences every time, a longer run new ones.
    derandomize="MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)
QueuesAndChannels.TestCase.settings = SETTINGS
TestQueuesAndChannels = QueuesAndChannels.TestCase
