"""The ledger of a quorum queue, case by case (broker/queues/quorum/ledger.py); test_ledger_random.py has the rest."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from broker.queues.quorum import values
from broker.queues.quorum.commands import Delay, EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.level import LedgerLevel, level_of
from broker.queues.quorum.sessions import RANGES_MAX, SESSIONS_MAX
from broker.queues.quorum.snapshot import digest, restore, snapshot
from tests.support.ledger_model import Held, again, messages_of


def applied(ledger: Ledger, write: Callable[[EntryWriter], object], time_ms: int = 1000) -> Ledger:
    """An entry of what ``write`` writes is applied."""
    writer = EntryWriter()
    writer.begin(time_ms)
    write(writer)
    ledger.apply(writer.take())
    return ledger


def delivered(count: int) -> Ledger:
    """So many messages, all of which are out."""
    ledger = applied(Ledger(), lambda entry: entry.accept(4, count))
    return applied(ledger, lambda entry: entry.deliver(4, 0, count, 1))


def totals(ledger: Ledger) -> tuple[int, int, int, int]:
    found = ledger.totals
    return found.ready, found.out, found.delayed, found.dead


def test_a_message_waits_is_delivered_and_settled() -> None:
    ledger = applied(Ledger(), lambda entry: entry.accept(4, 2))
    assert (ledger.accepted, ledger.next_position(4), totals(ledger)) == ([4, 0, 2], 2, (2, 0, 0, 0))
    applied(ledger, lambda entry: entry.deliver(4, 0, 1, 1))
    assert totals(ledger) == (1, 1, 0, 0)
    applied(ledger, lambda entry: entry.settle(4, 0, 1, 1))
    assert (ledger.gone, totals(ledger), ledger.ignored) == ([4, 0, 0], (1, 0, 0, 0), 0)
    assert (ledger.value_at(4, 0), ledger.value_at(4, 1)) == (0, values.WAITING)
    assert (ledger.next_position(9), ledger.value_at(9, 0)) == (0, 0), "a level is made by its first message"


@pytest.mark.parametrize(
    ("cause", "acquired", "deliveries"),
    [
        (values.REJECT, 1, 1),
        (values.CRASH, 1, 1),
        (values.UNCLAIMED, 1, 1),
        (values.NACK, 1, 0),
        (values.TIMEOUT, 1, 0),
        (values.CANCELLED, 1, 0),
        (values.UNDELIVERED, 0, 0),
    ],
)
def test_what_comes_back_is_counted_as_its_cause_says(cause: int, acquired: int, deliveries: int) -> None:
    """K03 and K04: basic.reject and a lost channel raise the delivery count, basic.nack and timeouts do not."""
    ledger = applied(delivered(1), lambda entry: entry.requeue(4, 0, 1, 1, cause))
    assert messages_of(ledger) == {(4, 0): Held(values.WAITING, acquired, deliveries)}
    ledger = applied(delivered(1), lambda entry: entry.delay(4, 0, 1, 1, Delay(cause, 5000)))
    assert messages_of(ledger) == {(4, 0): Held(values.DELAYED, acquired, deliveries, 0, 5000)}
    applied(ledger, lambda entry: entry.due(4, 0, 1, 1))
    assert messages_of(ledger) == {(4, 0): Held(values.WAITING, acquired, deliveries)}


def test_counts_stop_at_their_largest_value() -> None:
    value = values.WAITING
    for _ in range(3):
        value = values.came_back(value | (values.COUNT_MAX - 1) << 6 | (values.COUNT_MAX - 1) << 34, values.CRASH, 1)
    assert (values.acquired_count(value), values.delivery_count(value)) == (values.COUNT_MAX, values.COUNT_MAX)
    assert (values.state_of(value), values.reason_of(value)) == (values.WAITING, 0)


def test_the_second_of_two_equal_commands_changes_nothing_and_is_counted() -> None:
    commands: list[Callable[[EntryWriter], object]] = [
        lambda entry: entry.deliver(4, 0, 5, 2),
        lambda entry: entry.requeue(4, 0, 1, 1, values.REJECT),
        lambda entry: entry.settle(4, 2, 1, 1),
        lambda entry: entry.delay(4, 4, 1, 1, Delay(values.NACK, 2000)),
        lambda entry: entry.dead_letter(4, 6, 1, 1, values.REJECTED),
        lambda entry: entry.drop(4, 1, 1, 1, values.MAXLEN),
        lambda entry: entry.due(4, 4, 1, 1),
        lambda entry: entry.dead_confirmed(4, 6, 1, 1),
        lambda entry: entry.attach(3, 1),
        lambda entry: entry.activate(3),
        lambda entry: entry.settings({1: 1}),
        lambda entry: entry.detach(3),
        lambda entry: entry.expire_session(8),
    ]
    ledger = applied(Ledger(), lambda entry: entry.accept(4, 10))
    applied(ledger, lambda entry: entry.accept(0, 1, 8, 1))
    for command in commands:
        applied(ledger, command)
        assert ledger.ignored == 0
    before = snapshot(ledger)
    for command in reversed(commands[1:8]):
        applied(ledger, command)
    assert ledger.ignored == 7
    ledger.ignored = 0
    assert snapshot(ledger) == before


def test_commands_about_other_states_change_nothing() -> None:
    ledger = delivered(4)
    for level, first, count in ((4, 0, 4), (4, 4, 10), (9, 0, 1), (4, 1 << 60, 3)):
        applied(ledger, lambda entry, at=(level, first, count): entry.deliver(*at, 1))  # type: ignore[misc]
    assert (totals(ledger), ledger.ignored) == ((0, 4, 0, 0), 4 + 10 + 1 + 3)
    applied(ledger, lambda entry: entry.drop(4, 0, 4, 1, values.EXPIRED))
    applied(ledger, lambda entry: entry.dead_confirmed(4, 0, 4, 1))
    assert (totals(ledger), ledger.ignored, ledger.gone) == ((0, 4, 0, 0), 26, [])


def test_dead_letters_stay_until_they_are_confirmed() -> None:
    """REPLICATION: they count until every target has confirmed, and a purge takes them."""
    ledger = delivered(3)
    applied(ledger, lambda entry: entry.dead_letter(4, 0, 2, 1, values.DELIVERY_LIMIT), 7000)
    applied(ledger, lambda entry: entry.settle(4, 0, 3, 1))
    assert messages_of(ledger) == {(4, at): Held(values.DEAD, 0, 0, values.DELIVERY_LIMIT, 7000) for at in range(2)}, (
        "with the reason and the time, which every attempt says"
    )
    applied(ledger, lambda entry: entry.dead_confirmed(4, 1, 1, 1))
    assert (totals(ledger), ledger.gone) == ((0, 0, 0, 1), [4, 1, 1])
    applied(ledger, lambda entry: entry.drop(4, 0, 3, 1, values.PURGED))
    assert (totals(ledger), ledger.gone) == ((0, 0, 0, 0), [4, 0, 0])


def test_a_purge_of_everything_is_one_command() -> None:
    """It names what is out or gone as well, which is not counted as ignored."""
    ledger = applied(delivered(6), lambda entry: entry.requeue(4, 0, 4, 1, values.NACK))
    applied(ledger, lambda entry: entry.deliver(4, 0, 1, 1))
    applied(ledger, lambda entry: entry.settle(4, 0, 1, 1))
    applied(ledger, lambda entry: entry.drop(4, 0, 6, 1, values.PURGED))
    assert (totals(ledger), ledger.gone, ledger.ignored) == ((0, 2, 0, 0), [4, 1, 3], 0)


def test_a_message_stands_on_the_level_of_its_priority() -> None:
    """K02: a message without priority is on level 4, what is above 31 on level 31."""
    assert [level_of(priority) for priority in (-1, 0, 4, 31, 32, 255)] == [4, 0, 4, 31, 31, 31]


def test_the_time_never_goes_back() -> None:
    ledger = Ledger()
    for time, expected in ((5000, 5000), (4000, 5000), (5001, 5001)):
        assert applied(ledger, lambda entry: entry.accept(4, 1), time).time_ms == expected


# ---- publishers that send again --------------------------------------------------------------------------------------


def test_what_was_accepted_before_takes_positions_and_is_gone() -> None:
    ledger = applied(Ledger(), lambda entry: entry.accept(4, 3, 77, 10))
    applied(ledger, lambda entry: entry.accept(4, 5, 77, 9))
    assert ledger.accepted == [4, 3, 1, 4, 7, 1], "9 and 13"
    assert (ledger.repeated, ledger.gone) == ([4, 4, 3], [4, 4, 6])
    assert (totals(ledger), ledger.next_position(4), ledger.ignored) == ((5, 0, 0, 0), 8, 3)
    applied(again(ledger), lambda entry: entry.accept(4, 2, 78, 9))
    applied(ledger, lambda entry: entry.expire_session(77))
    applied(ledger, lambda entry: entry.accept(4, 1, 77, 9))
    assert ledger.repeated == []


def test_a_refused_number_is_accepted_later() -> None:
    """What was refused and never accepted must not be taken for a repetition: it would be confirmed and lost."""
    ledger = applied(Ledger(), lambda entry: entry.accept(4, 1, 5, 1))
    applied(ledger, lambda entry: entry.accept(4, 1, 5, 3))
    applied(ledger, lambda entry: entry.accept(4, 3, 5, 1))
    assert (ledger.accepted, ledger.repeated) == ([4, 3, 1], [4, 2, 1, 4, 4, 1])


def test_what_is_remembered_of_publishers_is_bounded() -> None:
    ledger = Ledger()
    for number in range(RANGES_MAX + 1):
        applied(ledger, lambda entry, at=2 * number: entry.accept(4, 1, 0, at))  # type: ignore[misc]
    for number, repeats in ((0, False), (4, True)):
        applied(ledger, lambda entry, at=number: entry.accept(4, 1, 0, at))  # type: ignore[misc]
        assert bool(ledger.repeated) == repeats, "forgotten, it is accepted a second time, which is not a loss"
    for session in range(1, SESSIONS_MAX):
        applied(ledger, lambda entry, at=session: entry.accept(4, 1, at, 1))  # type: ignore[misc]
    applied(ledger, lambda entry: entry.accept(4, 1, 0, 1001))
    applied(ledger, lambda entry: entry.accept(4, 1, SESSIONS_MAX, 1))
    assert (ledger.sessions.count(), ledger.sessions.repeats(1, 1, 1)) == (SESSIONS_MAX, 0)
    assert ledger.sessions.repeats(0, 1001, 1) == 1, "session 1 was silent for longer"
    copy = again(ledger)
    for each in (ledger, copy):
        applied(each, lambda entry: entry.accept(4, 1, SESSIONS_MAX + 1, 1))
    assert digest(copy) == digest(ledger), "the order survives"


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_a_million_waiting_messages_are_a_few_bytes() -> None:
    ledger = applied(Ledger(), lambda entry: entry.accept(4, 1_000_000), 1_700_000_000_000)
    assert len(snapshot(ledger)) < 32
    assert totals(again(ledger)) == (1_000_000, 0, 0, 0)


def test_a_million_messages_of_which_every_other_one_is_settled_are_two_bytes_each() -> None:
    count = 100_000
    ledger = delivered(count)
    applied(ledger, lambda entry: entry.settle(4, 0, count // 2, 2))
    assert len(snapshot(ledger)) < 2 * count + 100
    level = ledger.levels[4]
    assert level is not None
    assert level.runs.memory_bytes() < 18 * count
    assert totals(again(ledger)) == (0, count // 2, 0, 0)
    applied(ledger, lambda entry: entry.settle(4, 0, count, 1))
    assert ledger.gone == [4, 1, count - 1], "with what was gone before, in one range"


@pytest.mark.parametrize("seed", range(20))
def test_bent_snapshots_are_refused_or_are_another_ledger(seed: int) -> None:
    chance = random.Random(seed)
    ledger = delivered(40)
    applied(ledger, lambda entry: entry.settle(4, 2, 5, 2))
    applied(ledger, lambda entry: entry.delay(4, 20, 3, 1, Delay(values.REJECT, 9)))
    applied(ledger, lambda entry: entry.dead_letter(4, 30, 3, 2, values.REJECTED))
    applied(ledger, lambda entry: entry.attach(1, -1))
    applied(ledger, lambda entry: entry.activate(1))
    applied(ledger, lambda entry: entry.settings({1: -1}))
    applied(ledger, lambda entry: entry.accept(0, 2, 3, 4))
    valid = snapshot(ledger)
    refused = 0
    for _ in range(200):
        data = bytearray(valid)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 2, 127, 128, 255, chance.randrange(256)])
        data = data[: chance.randint(0, len(data))] if chance.random() < 0.2 else data
        try:
            found = restore(bytes(data))
        except ValueError:
            refused += 1
            continue
        assert snapshot(found) == bytes(data)
        assert found.totals.all() == sum(level.runs.size for level in found.levels if level is not None)
    assert refused > 50
    with pytest.raises(ValueError, match="version"):
        restore(b"\x02" + valid[1:])
    with pytest.raises(ValueError, match="more"):
        restore(valid + b"\x00")


def test_a_snapshot_whose_parts_do_not_fit_is_refused() -> None:
    def with_one_delayed() -> tuple[Ledger, LedgerLevel]:
        ledger = applied(delivered(5), lambda entry: entry.delay(4, 2, 1, 1, Delay(values.REJECT, 9)))
        level = ledger.levels[4]
        assert level is not None
        return ledger, level

    def refused(ledger: Ledger, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            restore(snapshot(ledger))

    ledger, level = with_one_delayed()
    again(ledger)
    level.times.remove(2, 2)
    refused(ledger, "times")
    level.times.assign(1, 1, 9)
    refused(ledger, "times")
    level.times.assign(1, 2, 9)
    refused(ledger, "times")
    for value in (values.GONE | 1 << 6, values.WAITING | values.EXPIRED << 3, values.DEAD, 5):
        ledger, level = with_one_delayed()
        level.runs.assign(0, 0, value)
        refused(ledger, "not the value")
    ledger, level = with_one_delayed()
    level.next = 4
    refused(ledger, "behind")
    ledger, level = with_one_delayed()
    ledger.active = 7
    refused(ledger, "active")
