"""The bytes of an entry (broker/queues/quorum/commands.py, entry_reader.py, weaving.py)."""

from __future__ import annotations

import random

import pytest

from broker.queues.quorum import commands, values
from broker.queues.quorum.commands import NO_SESSION, Delay, EntryWriter
from broker.queues.quorum.entry_reader import EntryReader, check_entry
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import digest
from broker.queues.quorum.weaving import woven
from broker.store.run_map import POSITION_MAX
from tests.support.ledger_model import again

NAMES = {
    commands.ACCEPT: "ACCEPT",
    commands.DELIVER: "DELIVER",
    commands.SETTLE: "SETTLE",
    commands.RETURN: "RETURN",
    commands.DROP: "DROP",
    commands.DELAY: "DELAY",
    commands.DUE: "DUE",
    commands.DEAD_LETTER: "DEAD_LETTER",
    commands.DEAD_CONFIRMED: "DEAD_CONFIRMED",
    commands.ATTACH: "ATTACH",
    commands.DETACH: "DETACH",
    commands.ACTIVATE: "ACTIVATE",
    commands.SETTINGS: "SETTINGS",
    commands.EXPIRE_SESSION: "EXPIRE_SESSION",
}


def read(data: bytes) -> list[tuple[object, ...]]:
    """The commands of an entry: name, then what its kind has."""
    reader = EntryReader(data)
    found: list[tuple[object, ...]] = []
    while reader.next():
        name, kind = NAMES[reader.kind], reader.kind
        span = (reader.level, reader.first, reader.count, reader.stride)
        if kind == commands.ACCEPT:
            found.append((name, reader.level, reader.count, reader.id, reader.first))
        elif kind in (commands.RETURN, commands.DROP, commands.DEAD_LETTER):
            found.append((name, *span, reader.detail))
        elif kind == commands.DELAY:
            found.append((name, *span, reader.detail, reader.until_ms))
        elif kind <= commands.DEAD_CONFIRMED:
            found.append((name, *span))
        elif kind == commands.ATTACH:
            found.append((name, reader.id, reader.priority))
        elif kind == commands.SETTINGS:
            found.append((name, reader.settings))
        else:
            found.append((name, reader.id))
    return found


def begun(time_ms: int = 5) -> EntryWriter:
    writer = EntryWriter()
    writer.begin(time_ms)
    return writer


def test_every_command_comes_back() -> None:
    writer = begun(1_700_000_000_000)
    writer.accept(31, 7, 3, 9)
    writer.accept(4, 1)
    writer.deliver(4, 10, 5, 2)
    writer.settle(0, 10, 1, 1)
    writer.requeue(4, 3, 2, 1, values.NACK)
    writer.drop(4, 3, 2, 1, values.MAXLEN)
    writer.delay(4, 3, 2, 1, Delay(values.REJECT, 99))
    writer.delay(4, 5, 2, 1, Delay(values.REJECT, 100))
    writer.due(4, 3, 2, 1)
    writer.dead_letter(4, 3, 2, 1, values.EXPIRED)
    writer.dead_confirmed(4, 3, 2, 1)
    writer.attach(12, -4)
    writer.detach(12)
    writer.activate(0)
    writer.settings({9: -1, 3: 20})
    writer.expire_session(1 << 60)
    assert not writer.empty
    data = writer.take()
    assert len(data) >= writer.size() - 8
    assert EntryReader(data).time_ms == 1_700_000_000_000
    assert read(data) == [
        ("ACCEPT", 31, 7, 3, 9),
        ("ACCEPT", 4, 1, NO_SESSION, 0),
        ("DELIVER", 4, 10, 5, 2),
        ("SETTLE", 0, 10, 1, 1),
        ("RETURN", 4, 3, 2, 1, values.NACK),
        ("DROP", 4, 3, 2, 1, values.MAXLEN),
        ("DELAY", 4, 3, 2, 1, values.REJECT, 99),
        ("DELAY", 4, 5, 2, 1, values.REJECT, 100),
        ("DUE", 4, 3, 2, 1),
        ("DEAD_LETTER", 4, 3, 2, 1, values.EXPIRED),
        ("DEAD_CONFIRMED", 4, 3, 2, 1),
        ("ATTACH", 12, -4),
        ("DETACH", 12),
        ("ACTIVATE", 0),
        ("SETTINGS", {3: 20, 9: -1}),
        ("EXPIRE_SESSION", 1 << 60),
    ]


def test_an_entry_about_many_messages_has_few_bytes() -> None:
    """256 published, 256 delivered to three consumers in turn, and 256 acknowledged in any order."""
    writer = begun(1_700_000_000_000)
    for _ in range(256):
        writer.accept(4, 1)
    for consumer in range(3):
        for position in range(1000 + consumer, 1256, 3):
            writer.deliver(4, position, 1, 1)
    numbers = list(range(5000, 5256))
    random.Random(1).shuffle(numbers)
    for position in numbers:
        writer.settle(4, position, 1, 1)
    data = writer.take()
    assert read(data) == [
        ("ACCEPT", 4, 256, NO_SESSION, 0),
        ("DELIVER", 4, 1000, 256, 1),
        ("SETTLE", 4, 5000, 256, 1),
    ]
    assert len(data) == 20


def test_an_accept_grows_with_the_next_numbers_of_the_same_session_only() -> None:
    writer = begun()
    for level, session, sequence in ((4, 7, 1), (4, 7, 2), (4, 7, 4), (4, 8, 5), (4, 8, 6), (5, 8, 7), (4, 8, 8)):
        writer.accept(level, 1, session, sequence)
    assert read(writer.take()) == [
        ("ACCEPT", 4, 2, 7, 1),
        ("ACCEPT", 4, 1, 7, 4),
        ("ACCEPT", 4, 2, 8, 5),
        ("ACCEPT", 5, 1, 8, 7),
        ("ACCEPT", 4, 1, 8, 8),
    ]


def test_the_order_of_different_commands_stays() -> None:
    writer = begun()
    for cause in (values.NACK, values.REJECT, values.NACK):
        writer.deliver(4, 1, 1, 1)
        writer.requeue(4, 1, 1, 1, cause)
    assert [command[0] for command in read(writer.take())] == ["DELIVER", "RETURN"] * 3


def test_far_positions_do_not_become_a_range() -> None:
    """Whoever applies a range looks at everything in between."""
    writer = begun()
    for position in (5, 1_000_005, 2_000_005):
        writer.settle(4, position, 1, 1)
    assert [command[3] for command in read(writer.take())] == [1, 1, 1]


def test_a_long_range_with_a_stride_becomes_several() -> None:
    writer = begun()
    writer.settle(4, 3, 2 * commands.STRIDED_MAX + 1, 2)
    assert read(writer.take()) == [
        ("SETTLE", 4, 3, commands.STRIDED_MAX, 2),
        ("SETTLE", 4, 3 + 2 * commands.STRIDED_MAX, commands.STRIDED_MAX, 2),
        ("SETTLE", 4, 3 + 4 * commands.STRIDED_MAX, 1, 1),
    ]


@pytest.mark.parametrize("seed", range(50))
def test_woven_ranges_are_the_same_positions(seed: int) -> None:
    chance = random.Random(seed)
    ranges: list[int] = []
    for _ in range(chance.randrange(1, 30)):
        stride = chance.choice([1, 1, 2, 3, 5])
        first, count = chance.randrange(100), chance.randint(1, 12)
        for offset in range(stride if chance.random() < 0.5 else 1):
            ranges += [first + offset, count, stride]

    def positions(flat: list[int]) -> set[int]:
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return {p for first, count, stride in triples for p in range(first, first + count * stride, stride)}

    assert positions(woven(list(ranges))) == positions(ranges)
    assert len(woven(list(ranges))) <= len(ranges)


@pytest.mark.parametrize("consumers", [2, 3, 7])
@pytest.mark.parametrize("count", [20, 21, 22, 255])
def test_turns_of_equal_consumers_become_one_range(consumers: int, count: int) -> None:
    writer = begun()
    for each in reversed(range(consumers)):
        writer.deliver(4, 50 + each, (count - each + consumers - 1) // consumers, consumers)
    assert read(writer.take()) == [("DELIVER", 4, 50, count, 1)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x05",  # a version to come
        b"\x01",
        b"\x01\x05\x00",  # no command has kind 0
        b"\x01\x05\x0f",
        b"\x01\x05\x1f",
        b"\x01\x05\x2d\x00",  # flags where there is no range
        b"\x01\x05\x02",  # cut off
        b"\x01\x05\x21\x04",  # level 4 is not written
        b"\x01\x05\x21\x20",
        b"\x01\x05\x41\x00",
        b"\x01\x05\x41\x01",
        b"\x01\x05\x82\x02\x07",  # one message has no stride
        b"\x01\x05\xc2\x05\x01\x07",
        b"\x01\x05\xc2\x81\x80\x04\x02\x07",  # 65,537 positions, each of which could become a run
        b"\x01\x05\x04\x07\x07",  # an unknown cause
        b"\x01\x05\x05\x07\x00",
        b"\x01\x05\x05\x07\x07",
        b"\x01\x05\x08\x07\x05",  # what is purged is no dead letter
        b"\x01\x05\x06\x07\x00\x00",
        b"\x01\x05\x0a\x00\x00",  # consumers begin at 1
        b"\x01\x05\x0d\x02\x05\x00\x05\x00",
        b"\x01\x05\x42\xff\xff\xff\xff\xff\x1f\xff\xff\xff\xff\xff\xff\xff\xff\x3f",  # behind the last position
    ],
)
def test_what_is_no_entry_is_refused_and_changes_nothing(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_entry(data)
    ledger = Ledger()
    before = digest(ledger)
    writer = begun()
    writer.accept(4, 3)
    with pytest.raises(ValueError, match=r"."):
        ledger.apply(data if data[:1] != b"\x01" or len(data) < 3 else writer.take() + data[2:])
    assert digest(ledger) == before


@pytest.mark.parametrize("seed", range(20))
def test_junk_is_refused_or_applied(seed: int) -> None:
    """Random bytes that look like entries: no error but ValueError, whatever they say, and no endless loop."""
    chance = random.Random(seed)
    writer = begun()
    writer.accept(4, 1000)
    writer.deliver(4, 100, 300, 3)
    writer.settle(4, 100, 200, 3)
    writer.delay(4, 101, 50, 1, Delay(values.REJECT, 1000))
    writer.attach(7, 1)
    writer.accept(0, 1, 3, 5)
    valid = writer.take()
    applied = 0
    for _ in range(60):
        ledger = Ledger()
        ledger.apply(valid)
        before = digest(ledger)
        data = bytearray(valid)
        if chance.random() < 0.5:
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.choice([0, 1, 2, 127, 128, 255, chance.randrange(256)])
            data = data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data
        else:
            data = data[:2] + bytes(chance.choices(range(256), k=chance.randrange(12)))
        try:
            ledger.apply(bytes(data))
        except ValueError:
            assert digest(ledger) == before
        else:
            applied += 1
            assert ledger.totals.all() == sum(level.runs.size for level in ledger.levels if level is not None)
            again(ledger)
    assert applied > 0


def test_ranges_as_long_as_can_be_take_no_longer_than_what_is_there() -> None:
    ledger = Ledger()
    writer = begun()
    writer.accept(4, 1000)
    for stride in (1, 2, 64, 65, commands.COUNT_MAX):
        count = min(commands.STRIDED_MAX if stride > 1 else commands.COUNT_MAX, (POSITION_MAX - 3) // stride)
        writer.deliver(4, 3, count, stride)
    ledger.apply(writer.take())
    assert ledger.totals.out == 997
