"""What decides about messages that come back: delivery_limit.py, delayed_retry.py, unclaimed.py, over pieces.py."""

from __future__ import annotations

import random

import pytest

from broker.queues.quorum import values
from broker.queues.quorum.commands import Delay, EntryWriter
from broker.queues.quorum.delayed_retry import (
    ALL,
    DISABLED,
    FAILED,
    RETURNED,
    DelayedRetry,
    delayed_ranges,
    split_by_delay,
)
from broker.queues.quorum.delivery_limit import UNLIMITED, split_by_limit
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.pieces import Pieces
from broker.queues.quorum.unclaimed import Unclaimed
from broker.store.ranges import Ranges
from broker.store.run_map import RunMap
from tests.support.ledger_model import messages_of


def positions(flat: list[int]) -> list[int]:
    """Those of ranges: first, count and stride of each."""
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [position for first, count, stride in triples for position in range(first, first + count * stride, stride)]


def out(deliveries: int) -> int:
    """The value of a message that is out and has failed so often."""
    value: int = values.OUT
    for _ in range(deliveries):
        value = values.came_back(value, values.CRASH, values.OUT)
    return value


@pytest.mark.parametrize("seed", range(30))
def test_pieces_are_the_positions_with_their_values(seed: int) -> None:
    chance = random.Random(seed)
    runs, model = RunMap(), dict[int, int]()
    for _ in range(60):
        first, value = chance.randrange(5000), chance.randrange(3)
        last = first + chance.choice([0, 0, 3, 50])
        runs.assign(first, last, value)
        model |= dict.fromkeys(range(first, last + 1), value)
    for _ in range(40):
        first, count = chance.randrange(5000), chance.randint(1, 100)
        stride = chance.choice([1, 1, 2, 3, 70, 2000])
        pieces, found = Pieces(runs, first, count, stride), list[tuple[int, int]]()
        while pieces.step():
            found += [(pieces.first + stride * at, pieces.value) for at in range(pieces.count)]
        expected = range(first, first + count * stride, stride)
        assert found == [(position, model.get(position, 0)) for position in expected]


# ---- x-delivery-limit ------------------------------------------------------------------------------------------------


def test_the_failed_delivery_behind_the_limit_is_the_last() -> None:
    """K05: with a limit of 20 the 21st failed delivery is dead-lettered."""
    runs = RunMap()
    for position in range(25):
        runs.assign(position, position, out(position))
    split = split_by_limit(Pieces(runs, 0, 25, 1), values.REJECT, 20)
    assert (split.within, split.over) == ([0, 20, 1], [20, 5, 1])
    split = split_by_limit(Pieces(runs, 1, 12, 2), values.CRASH, 20)
    assert (split.within, split.over) == ([1, 10, 2], [21, 2, 2])
    split = split_by_limit(Pieces(runs, 0, 2, 1), values.REJECT, 0)
    assert split.over == [0, 2, 1], "with 0 no delivery may fail"


@pytest.mark.parametrize(
    ("cause", "limit"),
    [(values.NACK, 0), (values.TIMEOUT, 0), (values.UNDELIVERED, 0), (values.CANCELLED, 0), (values.REJECT, UNLIMITED)],
)
def test_what_does_not_count_or_has_no_limit_comes_back(cause: int, limit: int) -> None:
    runs = RunMap()
    runs.assign(0, 9, out(50))
    split = split_by_limit(Pieces(runs, 0, 10, 1), cause, limit)
    assert (split.within, split.over) == ([0, 10, 1], [])


def test_what_is_not_out_is_not_over_the_limit() -> None:
    runs = RunMap()
    runs.assign(0, 3, values.moved(out(50), values.WAITING))
    runs.assign(4, 5, out(50))
    split = split_by_limit(Pieces(runs, 0, 8, 1), values.REJECT, 20)
    assert (positions(split.within), positions(split.over)) == ([0, 1, 2, 3, 6, 7], [4, 5])


# ---- x-delayed-retry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minimum", "maximum", "deliveries", "delay"),
    [
        (1000, 5000, 0, 1000),
        (1000, 5000, 1, 1000),
        (1000, 5000, 3, 3000),
        (1000, 5000, 5, 5000),
        (1000, 5000, 6, 5000),
        (1000, 5500, 5, 5000),
        (1000, 5500, 6, 5500),
        (1000, 0, 7, 1000),
        (1 << 40, 1 << 61, values.COUNT_MAX, 1 << 61),
    ],
)
def test_a_delay_is_the_shortest_one_times_the_count_up_to_the_longest(
    minimum: int, maximum: int, deliveries: int, delay: int
) -> None:
    """K06: min(min * max(1, delivery count), max); max is min unless it is given."""
    assert DelayedRetry(ALL, minimum, maximum).delay_ms(deliveries) == delay


def test_types_say_which_returns_are_delayed() -> None:
    """K06: failed is basic.reject and a lost channel, returned is basic.nack and what was overdue, all is both."""
    delayed = {
        kind: [cause for cause in range(values.LAST_CAUSE + 1) if DelayedRetry(kind, 10).delays(cause)]
        for kind in (DISABLED, ALL, FAILED, RETURNED)
    }
    assert delayed == {
        DISABLED: [],
        ALL: [values.REJECT, values.CRASH, values.NACK, values.TIMEOUT],
        FAILED: [values.REJECT, values.CRASH],
        RETURNED: [values.NACK, values.TIMEOUT],
    }
    assert not DelayedRetry(ALL, 0).delays(values.NACK)


def test_messages_wait_as_long_as_they_have_failed() -> None:
    runs = RunMap()
    for position in range(6):
        runs.assign(position, position, out(position % 3))
    retry = DelayedRetry(ALL, 100, 250)
    found = split_by_delay(Pieces(runs, 0, 6, 1), values.REJECT, retry)
    assert [(each.delay_ms, positions(each.ranges)) for each in found] == [(100, [0, 3]), (200, [1, 4]), (250, [2, 5])]
    found = split_by_delay(Pieces(runs, 0, 3, 2), values.NACK, retry)
    assert [(each.delay_ms, positions(each.ranges)) for each in found] == [(100, [0, 4]), (200, [2])]
    assert split_by_delay(Pieces(runs, 0, 6, 1), values.CANCELLED, retry) == []


def test_what_is_due_is_found_among_what_is_dead() -> None:
    ledger = Ledger()
    writer = EntryWriter()
    writer.begin(2000)
    writer.accept(4, 10)
    writer.deliver(4, 0, 10, 1)
    writer.delay(4, 1, 3, 1, Delay(values.REJECT, 2000))
    writer.dead_letter(4, 4, 2, 1, values.REJECTED)
    writer.delay(4, 6, 1, 1, Delay(values.REJECT, 2000))
    writer.delay(4, 8, 1, 1, Delay(values.REJECT, 3000))
    ledger.apply(writer.take())
    level = ledger.levels[4]
    assert level is not None
    assert delayed_ranges(level) == [1, 3, 2000, 6, 1, 2000, 8, 1, 3000]
    writer.begin(2001)
    for first, count in ((1, 3), (6, 1)):
        writer.due(4, first, count, 1)
    ledger.apply(writer.take())
    assert delayed_ranges(level) == [8, 1, 3000]
    writer.begin(3000)
    writer.due(4, 8, 1, 1)
    ledger.apply(writer.take())
    assert delayed_ranges(level) == []


# ---- a new leader ----------------------------------------------------------------------------------------------------


def queue(chance: random.Random, count: int) -> Ledger:
    """Messages of two levels in all states, with up to four failed deliveries."""
    ledger = Ledger()
    writer = EntryWriter()
    for level in (4, 9):
        writer.begin(1000)
        writer.accept(level, count)
        for _ in range(60):
            first, length = chance.randrange(count), chance.randint(1, 9)
            writer.deliver(level, first, length, 1)
            first = chance.randrange(count)
            chance.choice([writer.settle, writer.deliver, writer.due])(level, first, length, 1)
            writer.requeue(level, chance.randrange(count), length, 1, values.REJECT)
            writer.deliver(level, chance.randrange(count), length, 1)
        ledger.apply(writer.take())
    return ledger


@pytest.mark.parametrize("seed", range(30))
def test_what_is_out_and_unclaimed_waits_again(seed: int) -> None:
    chance = random.Random(seed)
    ledger = queue(chance, 120)
    before = messages_of(ledger)
    claimed = {4: Ranges()} if seed % 3 else {}
    for first in chance.sample(range(120), 20) if claimed else ():
        if ledger.value_at(4, first) and before[4, first].state == values.OUT:
            claimed[4].add(first, first)
    ignored = ledger.ignored
    unclaimed = Unclaimed(ledger, claimed, 1)
    writer = EntryWriter()
    more, over = True, set[tuple[int, int]]()
    while more:
        writer.begin(2000)
        more = unclaimed.step(writer, chance.choice([1, 3, 1000]))
        flat, unclaimed.over = unclaimed.over, []
        for level, first, last in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            over |= {(level, position) for position in range(first, last + 1)}
            writer.drop(level, first, last - first + 1, 1, values.DELIVERY_LIMIT)
        ledger.apply(writer.take())
    assert ledger.ignored == ignored
    after = messages_of(ledger)
    for key, held in before.items():
        if held.state != values.OUT or (claimed and key[0] == 4 and claimed[4].end_of(key[1]) >= 0):
            assert after[key] == held
        elif held.deliveries >= 1:
            assert key in over
            assert key not in after
        else:
            assert after[key].state == values.WAITING
            assert (after[key].acquired, after[key].deliveries) == (held.acquired + 1, held.deliveries + 1)
    assert over <= before.keys()


def test_a_million_messages_that_nobody_claims_are_one_command() -> None:
    """Also when every other one of them is settled."""
    ledger = Ledger()
    writer = EntryWriter()
    writer.begin(1)
    writer.accept(4, 100_000)
    writer.deliver(4, 0, 100_000, 1)
    writer.settle(4, 0, 50_000, 2)
    ledger.apply(writer.take())
    writer.begin(2)
    assert not Unclaimed(ledger, {}, UNLIMITED).step(writer, 1_000_000)
    entry = writer.take()
    assert len(entry) < 12
    ledger.apply(entry)
    assert (ledger.totals.ready, ledger.totals.out, ledger.ignored) == (50_000, 0, 0)


def test_what_waits_between_is_not_returned() -> None:
    """It may be out, to whom the new leader knows, when the command is applied."""
    ledger = Ledger()
    writer = EntryWriter()
    writer.begin(1)
    writer.accept(4, 3)
    writer.deliver(4, 0, 2, 2)
    ledger.apply(writer.take())
    writer.begin(2)
    assert not Unclaimed(ledger, {}, UNLIMITED).step(writer, 100)
    returned = writer.take()
    writer.begin(2)
    writer.deliver(4, 1, 1, 1)
    ledger.apply(writer.take())
    ledger.apply(returned)
    assert [values.state_of(ledger.value_at(4, position)) for position in range(3)] == [
        values.WAITING,
        values.OUT,
        values.WAITING,
    ]
