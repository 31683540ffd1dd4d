"""broker/store/commit_group.py: what is appended between two syncs belongs together; who is told when it is on the
disk."""

from __future__ import annotations

from broker.store.batch import BLOCK
from broker.store.commit_group import CommitGroupHost, CommitGroupWriter, Listener
from broker.turn import Turn
from tests.support.fake_clock import FakeClock


class Host(CommitGroupHost):
    def __init__(self) -> None:
        self.syncs = 0

    def sync(self) -> None:
        self.syncs += 1


def test_a_group_ends_where_it_is_taken_and_counts_until_it_is_on_the_disk() -> None:
    writer = CommitGroupWriter(10, None, 1000)
    for size in (400, 400, 400, 3000, 10, 10):
        writer.append(1, 1, b"", bytes(size))
    assert writer.unwritten() == 4298
    group = writer.take()
    assert (group.first_sequence(), group.through(), group.size(), group.ordinal) == (10, 15, 3 * BLOCK, 1)
    assert (writer.group, writer.group_size(), writer.unwritten()) == (2, 0, 4298)
    assert not writer.is_durable()
    writer.append(1, 1, b"next")
    assert writer.unwritten() == 4298 + 17
    writer.committed()
    assert (writer.durable_through, writer.durable_group, writer.unwritten()) == (15, 1, 17)
    assert not writer.is_durable()
    writer.take()
    writer.committed()
    assert (writer.durable_through, writer.durable_group, writer.is_durable()) == (16, 2, True)


def test_the_turn_syncs_once_for_each_batch_that_was_begun() -> None:
    """broker/turn.py: whoever marks itself does so once."""
    host = Host()
    writer = CommitGroupWriter(1, host)
    writer.append(1, 1, b"before there was a turn")
    turn = writer.turn = Turn(FakeClock())
    turn.run()
    assert host.syncs == 0
    writer.take()
    for _ in range(3):
        writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 1
    writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 1, "the host has not taken the batch yet and knows that it must"
    writer.take()
    writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 2


def test_a_group_that_lingers_is_handed_over_again_when_something_is_added_or_somebody_waits() -> None:
    host = Host()
    writer = CommitGroupWriter(1, host)
    turn = writer.turn = Turn(FakeClock())
    writer.append(1, 1, b"a")
    turn.run()
    writer.linger()
    turn.run()
    assert host.syncs == 1
    writer.append(1, 1, b"b")
    writer.append(1, 1, b"c")
    turn.run()
    assert host.syncs == 2
    writer.linger()
    writer.hurry()
    writer.hurry()
    turn.run()
    assert host.syncs == 3


def test_who_waits_for_the_group_that_is_on_its_way_need_not_wait_for_the_next_one() -> None:
    writer = CommitGroupWriter(1)
    writer.append(1, 1, b"a")
    leaving = writer.take()
    writer.append(1, 1, b"b")
    early, late = Listener(), Listener()
    writer.listen(early, leaving.ordinal)
    writer.listen(late)
    assert leaving.listeners == [early]
    assert writer.take().listeners == [late]


def test_listeners_belong_to_the_batch_that_was_open() -> None:
    writer = CommitGroupWriter(1)
    first, second = Listener(), Listener()
    writer.listen(first)
    writer.listen(second)
    assert writer.take().listeners == [first, second]
    assert writer.take().listeners == []
