"""The journal of what is declared (broker/metadata/journal.py): the last word on each name counts."""

from __future__ import annotations

import random

import pytest

from broker.metadata.changes import Declared, DurableBinding, DurableExchange, DurableQueue
from broker.metadata.journal import Journal, declared, replay
from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.commit_group import CommitGroupWriter
from broker.store.promises import LogPromises
from broker.store.records import JOURNAL

X = DurableExchange("/", "x", "topic")
Y = DurableExchange("/", "y", "direct", internal=True)
Q = DurableQueue("/", "q", log_number=1)
BOUND = DurableBinding("/", "x", False, "q", "k")
E2E = DurableBinding("/", "x", True, "y", "k")


class Setting:
    """A journal and its batch, which is read instead of written."""

    def __init__(self) -> None:
        self.batch = CommitGroupWriter(1)
        self.journal = Journal(self.batch, LogPromises(self.batch))

    def changes(self) -> list[tuple[int, bytes]]:
        """Kind and body of all records so far, as recovery tells them."""
        data = b"".join(self.batch.take_batch().pieces)
        found = []
        at = 0
        while at < len(data):
            assert int.from_bytes(data[at : at + 8], "big") == JOURNAL
            size = int.from_bytes(data[at + 8 : at + 12], "big")
            start = at + int(RECORD_HEADER_SIZE)
            found.append((data[at + 12], data[start : start + size]))
            at = start + size
        return found

    def found(self) -> list[Declared]:
        return declared(replay(self.changes()))


def test_ends_come_before_what_binds_them() -> None:
    """Whatever the order of the records: an exchange that was declared anew stands behind its bindings in the log."""
    setting = Setting()
    for each in (BOUND, E2E, Q, Y, X):
        setting.journal.put(each)
    found = setting.found()
    assert sorted(map(str, found)) == sorted(map(str, (BOUND, E2E, Q, Y, X)))
    assert [type(each) for each in found] == [DurableExchange] * 2 + [DurableQueue] + [DurableBinding] * 2


def test_what_was_deleted_is_gone() -> None:
    setting = Setting()
    setting.journal.put(X)
    setting.journal.put(Q)
    setting.journal.put(BOUND)
    setting.journal.delete(BOUND)
    setting.journal.delete(DurableQueue("/", "q"))  # by its names alone
    setting.journal.delete(DurableQueue("/", "never"))
    assert setting.found() == [X]


def test_the_last_word_counts() -> None:
    setting = Setting()
    setting.journal.put(Q)
    setting.journal.delete(Q)
    again = DurableQueue("/", "q", True, 2, b"")
    setting.journal.put(again)
    assert setting.found() == [again]
    setting.journal.put(again._replace(log_number=3))
    assert setting.found() == [again._replace(log_number=3)]


def test_names_of_several_vhosts_do_not_meet() -> None:
    setting = Setting()
    setting.journal.put(Q)
    setting.journal.put(Q._replace(vhost="other", log_number=5))
    setting.journal.delete(Q)
    assert setting.found() == [Q._replace(vhost="other", log_number=5)]


def test_promises_depend_on_the_last_change() -> None:
    """declare-ok leaves when that record is on the disk; nothing depends on what others have appended behind it."""
    setting = Setting()
    assert setting.journal.last.is_kept()
    setting.journal.put(X)
    first = setting.journal.last
    setting.batch.take()
    setting.batch.append(9, 1, b"a message")
    assert setting.journal.last is first
    assert not first.is_kept()
    setting.batch.committed()
    assert first.is_kept()
    setting.batch.take()
    setting.journal.delete(X)
    setting.batch.committed()
    assert not setting.journal.last.is_kept()


def test_records_of_other_kinds_are_passed_over() -> None:
    setting = Setting()
    setting.journal.put(X)
    assert declared(replay([*setting.changes(), (99, b"of a later release")])) == [X]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        declared({b"?": b""})


@pytest.mark.parametrize("seed", range(10))
def test_random_changes_agree_with_a_dictionary(seed: int) -> None:
    chance = random.Random(seed)
    setting = Setting()
    model: dict[bytes, Declared] = {}
    changes: list[tuple[int, bytes]] = []
    for step in range(200):
        name = chance.choice(["a", "b", "\udcff", "n" * 255])
        number = chance.randrange(3)
        each: Declared
        if number == 0:
            each = DurableExchange("/", name, chance.choice(["topic", "direct"]))
        elif number == 1:
            each = DurableQueue("/", name, log_number=step)
        else:
            each = DurableBinding("/", name, chance.random() < 0.5, chance.choice(["a", "b"]), name)
        if chance.random() < 0.6:
            setting.journal.put(each)
            model[each.key()] = each
        else:
            setting.journal.delete(each)
            model.pop(each.key(), None)
        if chance.random() < 0.1:
            changes += setting.changes()
    changes += setting.changes()
    found = declared(replay(changes))
    assert len(found) == len(model)
    assert {each.key(): each for each in found} == model
