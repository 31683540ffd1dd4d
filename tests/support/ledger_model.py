"""What the ledger of a quorum queue does, message by message: a dict for each level."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.queues.quorum import values
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import digest, restore, snapshot
from broker.store.run_map import RunCursor

WAITING, OUT, DELAYED, DEAD = values.WAITING, values.OUT, values.DELAYED, values.DEAD
SOURCES = {
    values.EXPIRED: (WAITING, DELAYED),
    values.MAXLEN: (WAITING,),
    values.REJECTED: (OUT,),
    values.DELIVERY_LIMIT: (OUT, WAITING),
    values.PURGED: (WAITING, DELAYED, DEAD),
    values.TAKEN: (WAITING, DELAYED),
}
FAILURES = (values.REJECT, values.CRASH, values.UNCLAIMED)


@dataclass
class Held:
    """One message."""

    state: int = WAITING
    acquired: int = 0
    deliveries: int = 0
    reason: int = 0
    time: int = 0


@dataclass
class Range:
    """What a command is about."""

    level: int
    first: int
    count: int
    stride: int = 1

    def positions(self) -> range:
        return range(self.first, self.first + self.count * self.stride, self.stride)


@dataclass
class Model:
    """The queue."""

    time: int = 0
    ignored: int = 0
    active: int = 0
    next: dict[int, int] = field(default_factory=dict)
    messages: dict[tuple[int, int], Held] = field(default_factory=dict)
    seen: dict[int, set[int]] = field(default_factory=dict)
    consumers: dict[int, int] = field(default_factory=dict)
    settings: dict[int, int] = field(default_factory=dict)
    accepted: list[tuple[int, int]] = field(default_factory=list)
    repeated: list[tuple[int, int]] = field(default_factory=list)
    gone: set[tuple[int, int]] = field(default_factory=set)

    def begin(self, time: int) -> None:
        self.time = max(self.time, time)
        self.accepted, self.repeated, self.gone = [], [], set()

    def accept(self, level: int, count: int, session: int, sequence: int) -> None:
        for number in range(sequence, sequence + count):
            position = self.next.get(level, 0)
            self.next[level] = position + 1
            if session >= 0 and number in self.seen.setdefault(session, set()):
                self.repeated.append((level, position))
                self.gone.add((level, position))
                self.ignored += 1
                continue
            if session >= 0:
                self.seen[session].add(number)
            self.accepted.append((level, position))
            self.messages[level, position] = Held()

    def _of(self, what: Range, states: tuple[int, ...], counted: bool = True) -> list[tuple[int, int]]:
        found = []
        for position in what.positions():
            held = self.messages.get((what.level, position))
            if held is not None and held.state in states:
                found.append((what.level, position))
            elif counted:
                self.ignored += 1
        return found

    def deliver(self, what: Range) -> None:
        for key in self._of(what, (WAITING,)):
            self.messages[key].state = OUT

    def settle(self, what: Range) -> None:
        self._forget(self._of(what, (OUT,)))

    def dead_confirmed(self, what: Range) -> None:
        self._forget(self._of(what, (DEAD,)))

    def drop(self, what: Range, reason: int) -> None:
        self._forget(self._of(what, SOURCES[reason], counted=reason != values.PURGED))

    def _forget(self, keys: list[tuple[int, int]]) -> None:
        for key in keys:
            del self.messages[key]
            self.gone.add(key)

    def dead_letter(self, what: Range, reason: int) -> None:
        for key in self._of(what, SOURCES[reason]):
            held = self.messages[key]
            held.state, held.reason, held.time = DEAD, reason, max(1, self.time)

    def requeue(self, what: Range, cause: int, until: int = 0) -> None:
        for key in self._of(what, (OUT,), counted=cause != values.UNCLAIMED or until > 0):
            held = self.messages[key]
            held.state, held.time = (DELAYED, until) if until else (WAITING, 0)
            held.acquired += cause != values.UNDELIVERED
            held.deliveries += cause in FAILURES

    def due(self, what: Range) -> None:
        for key in self._of(what, (DELAYED,)):
            self.messages[key].state, self.messages[key].time = WAITING, 0

    def attach(self, consumer: int, priority: int) -> None:
        self.ignored += self.consumers.get(consumer) == priority
        self.consumers[consumer] = priority

    def detach(self, consumer: int) -> None:
        self.ignored += consumer not in self.consumers
        self.consumers.pop(consumer, None)
        if self.active == consumer:
            self.active = 0

    def activate(self, consumer: int) -> None:
        if consumer == self.active or (consumer and consumer not in self.consumers):
            self.ignored += 1
        else:
            self.active = consumer

    def set(self, settings: dict[int, int]) -> None:
        self.ignored += self.settings == settings
        self.settings = settings

    def expire(self, session: int) -> None:
        self.ignored += self.seen.pop(session, None) is None


def messages_of(ledger: Ledger) -> dict[tuple[int, int], Held]:
    """What the ledger has, message by message."""
    found: dict[tuple[int, int], Held] = {}
    for level in ledger.levels:
        if level is None:
            continue
        cursor = RunCursor(level.runs)
        cursor.seek(0)
        while cursor.step():
            for position in range(cursor.start, cursor.end + 1) if cursor.value else ():
                found[level.number, position] = Held(
                    values.state_of(cursor.value),
                    values.acquired_count(cursor.value),
                    values.delivery_count(cursor.value),
                    values.reason_of(cursor.value),
                    level.times.value_at(position),
                )
    return found


def assert_equal(ledger: Ledger, model: Model) -> None:
    """The ledger says what the model says."""
    assert messages_of(ledger) == model.messages
    assert {level.number: level.next for level in ledger.levels if level is not None} == model.next
    assert (ledger.time_ms, ledger.ignored, ledger.active) == (model.time, model.ignored, model.active)
    assert list(ledger.consumers.items()) == list(model.consumers.items())
    assert ledger.settings == model.settings
    for level in (None, *(level for level in ledger.levels if level is not None)):
        counts = dict.fromkeys((WAITING, OUT, DELAYED, DEAD), 0)
        for (number, _), held in model.messages.items():
            counts[held.state] += level is None or level.number == number
        totals = ledger.totals if level is None else level.totals
        assert [totals.ready, totals.out, totals.delayed, totals.dead] == list(counts.values())
        assert totals.all() == sum(counts.values())


def assert_said(ledger: Ledger, model: Model) -> None:
    """The ledger says of the last entry what the model says."""
    for flat, expected in ((ledger.accepted, model.accepted), (ledger.repeated, model.repeated)):
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        assert [(level, first + more) for level, first, count in triples for more in range(count)] == expected
    said = {
        (level, position)
        for level, first, last in zip(ledger.gone[::3], ledger.gone[1::3], ledger.gone[2::3], strict=True)
        for position in range(first, last + 1)
    }
    assert model.gone - model.messages.keys() <= said
    assert not said & model.messages.keys()


def again(ledger: Ledger) -> Ledger:
    """The same, restored from its snapshot."""
    copy = restore(snapshot(ledger))
    assert (snapshot(copy), digest(copy)) == (snapshot(ledger), digest(ledger))
    return copy
