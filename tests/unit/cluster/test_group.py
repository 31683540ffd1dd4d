"""A group of one: what is written comes back from the disk, once, in order; what is promised is on the disk."""

from __future__ import annotations

import random

import pytest

from broker.cluster.group import Group
from broker.cluster.group_environment import CROWDED_REST_MS, REST_MS, GroupEnvironment
from broker.raft.configuration import Configuration
from broker.raft.raft import LEADER, Options
from tests.support.groups import OneGroup, Remembering
from tests.support.raft_group import Constant
from tests.support.store import Running


def test_what_is_written_is_applied_when_the_disk_has_it() -> None:
    one = OneGroup(Running())
    waiting = one.write(b"a")
    assert one.machine.lines == []
    one.running.turn.drain()
    assert (one.machine.lines, waiting.told) == ([], "")
    one.running.sync()
    one.running.sync()
    assert (one.machine.lines, waiting.told) == ([b"a"], "kept")


def test_what_comes_together_is_one_entry() -> None:
    one = OneGroup(Running())
    one.write(b"a")
    one.running.sync()
    one.running.sync()
    before = one.group.applied_index
    for line in (b"b", b"c", b"d"):
        one.write(line)
    one.running.sync()
    assert one.group.applied_index == before + 1
    assert one.machine.lines == [b"a", b"b", b"c", b"d"]


def test_a_group_that_is_not_used_stands_for_no_election() -> None:
    one = OneGroup(Running())
    one.running.sync()
    assert one.running.logs.batch.next_sequence == 2  # its declaration
    one.write(b"a")
    one.running.sync()
    one.running.sync()
    again = one.again()
    assert again.machine.lines == [b"a"]
    assert again.group._node is None


def test_a_restart_goes_on_in_a_new_term() -> None:
    one = OneGroup(Running())
    for line in (b"a", b"b"):
        one.write(line)
        one.running.sync()
        one.running.sync()
    again = one.again()
    assert again.machine.lines == [b"a", b"b"]
    again.write(b"c")
    again.running.sync()
    again.running.sync()
    assert again.machine.lines == [b"a", b"b", b"c"]
    node = again.group._node
    assert node is not None
    assert (node.raft.role, node.raft.term) == (LEADER, 2)
    assert again.again().machine.lines == [b"a", b"b", b"c"]


def test_a_crash_before_the_sync_forgets_what_was_not_promised() -> None:
    one = OneGroup(Running())
    one.write(b"a")
    one.running.sync()
    one.running.sync()
    waiting = one.write(b"b")
    one.running.turn.drain()
    assert waiting.told == ""
    assert one.again().machine.lines in ([b"a"], [b"a", b"b"])


def test_files_of_the_log_are_given_up_and_the_manifest_has_what_they_said() -> None:
    one = OneGroup(Running())
    expected = []
    for number in range(60):
        line = b"%d" % number * 200
        expected.append(line)
        one.write(line)
        one.running.sync()
        one.running.sync()
    one.running.rest()
    assert one.machine.snapshots > 0
    assert one.group.log.snapshot_index > 20
    assert len(one.running.files("wal")) <= 3
    again = one.again()
    assert again.machine.lines == expected
    again.write(b"more")
    again.running.sync()
    again.running.sync()
    assert again.again().machine.lines == [*expected, b"more"]


def test_an_entry_that_is_not_in_a_snapshot_is_moved() -> None:
    """Of a file that is given up in the middle of it: the machine has not applied the last entry yet."""
    one = OneGroup(Running())
    other = one.running.declare()
    for number in range(10):
        one.write(b"%d" % number)
        one.running.sync()
        one.running.sync()
    one.group.log.log.group_state().owner = None
    one.running.fill(other, 40)
    one.running.rest()
    assert one.group.log.log.extents.segments
    again = one.again()
    assert again.machine.lines == [b"%d" % number for number in range(10)]
    assert again.group.applied_index == one.group.applied_index


@pytest.mark.parametrize("seed", range(60))
def test_random_lives(seed: int) -> None:
    """Writes, syncs, files given up, kills and power failures: what was promised is there, nothing else, in order."""
    chance = random.Random(seed)
    one = OneGroup(Running())
    one.running.sync()
    written: list[bytes] = []
    promised = 0
    for step in range(chance.randrange(20, 120)):
        action = chance.random()
        if action < 0.6:
            line = b"%d" % step * chance.choice((1, 10, 400))
            one.write(line)
            written.append(line)
        elif action < 0.75:
            one.running.sync()
        elif action < 0.85:
            one.running.rest()
        elif action < 0.88:
            one.machine.small = chance.random() < 0.8
            one.rest()
        elif action < 0.95:
            waiting = one.write(b"last %d" % step)
            written.append(b"last %d" % step)
            one.running.sync()
            one.running.sync()
            assert waiting.told == "kept"
            promised = len(written)
        else:
            promised = max(promised, len(one.machine.lines))
            if chance.random() < 0.5:
                disk = one.running.disk.restarted()  # type: ignore[attr-defined]
            else:
                disk = next(one.running.disk.crash_states(chance.getrandbits(32), 1))  # type: ignore[attr-defined]
            one = OneGroup(Running(disk), one.number)
            one.group.recover()
            found = one.machine.lines
            assert found == written[: len(found)]
            assert len(found) >= promised
            written = found[:]
    promised = max(promised, len(one.machine.lines))
    found = one.again().machine.lines
    assert found == written[: len(found)]
    assert len(found) >= promised


def test_a_group_that_rests_leads_again_in_its_term() -> None:
    one = OneGroup(Running())
    one.write(b"a")
    one.running.sync()
    one.running.sync()
    assert one.group._node is not None
    one.running.clock.advance(REST_MS)
    assert one.group._node is not None, "it was used in that time"
    one.running.clock.advance(REST_MS)
    assert one.group._node is None
    for line in (b"b", b"c"):
        waiting = one.write(line)
        one.running.sync()
        one.running.sync()
        assert waiting.told == "kept"
    assert one.machine.lines == [b"a", b"b", b"c"]
    assert one.group.log.log.group_state().term == 1
    assert one.again().machine.lines == [b"a", b"b", b"c"]


@pytest.mark.parametrize("small", [False, True])
def test_a_group_that_rests_is_known_by_a_snapshot(small: bool) -> None:
    """If that is small: otherwise where each of its entries stands is known until the file of the log goes."""
    one = OneGroup(Running())
    one.running.rest()
    one.machine.small = small
    for line in (b"a", b"b", b"c"):
        one.write(line)
        one.running.sync()
        one.running.sync()
    log = one.group.log
    one.rest()
    assert one.group._node is None
    if small:
        assert (one.machine.snapshots, log.snapshot_index, log.state()) == (1, one.group.applied_index, b"a\nb\nc")
        assert (log.log.extents.wal, log.log.positions.live()) == ([], 0)
    else:
        assert (one.machine.snapshots, log.snapshot_index, len(log.log.extents.wal)) == (0, 0, 3)
    again = one.again()
    assert again.machine.lines == [b"a", b"b", b"c"]
    again.running.rest()
    again.machine.small = small
    again.write(b"d")
    again.running.sync()
    again.running.sync()
    again.rest()
    assert again.again().again().machine.lines == [b"a", b"b", b"c", b"d"]


def test_the_file_of_a_group_that_rests_goes_and_the_manifest_has_its_snapshot() -> None:
    one = OneGroup(Running())
    one.machine.small = True
    other = one.running.declare()
    one.running.rest()
    for line in (b"a", b"b"):
        one.write(line)
        one.running.sync()
        one.running.sync()
    one.rest()
    assert one.machine.snapshots == 1
    one.running.fill(other, 40)
    one.running.rest()
    assert one.machine.snapshots == 1
    assert one.group.log.log.saved
    again = one.again()
    assert again.group.log.snapshot_index == one.group.applied_index
    assert again.machine.lines == [b"a", b"b"]
    again.write(b"c")
    again.running.sync()
    again.running.sync()
    assert (again.machine.lines, again.group.log.log.group_state().term) == ([b"a", b"b", b"c"], 2)


def test_what_is_in_a_segment_waits_for_the_manifest() -> None:
    """A segment goes when nothing in it is live: with a snapshot that only memory has, its entries would be lost."""
    one = OneGroup(Running())
    other = one.running.declare()
    for line in (b"a", b"b"):
        one.write(line)
        one.running.sync()
        one.running.sync()
    owner, one.group.log.log.group_state().owner = one.group.log.log.group_state().owner, None
    one.running.fill(other, 40)
    one.running.rest()
    assert one.group.log.log.extents.segments
    one.group.log.log.group_state().owner = owner
    one.machine.small = True
    one.write(b"c")
    one.running.sync()
    one.running.sync()
    one.rest()
    assert one.machine.snapshots == 0
    one.running.rest()
    assert one.again().machine.lines == [b"a", b"b", b"c"]


def test_while_records_are_moved_no_snapshot_is_taken_in_passing() -> None:
    """The edit that goes to the manifest then may have been made before."""
    one = OneGroup(Running())
    one.machine.small = True
    one.write(b"a")
    one.running.sync()
    one.running.sync()
    one.running.logs.are_moving = True
    one.rest()
    assert (one.machine.snapshots, one.group._node) == (0, None)


def test_many_groups_rest_a_few_at_a_time() -> None:
    running = Running()
    environment = GroupEnvironment(running.logs, running.clock, Options(), Constant())
    groups = []
    for _ in range(1200):
        machine = Remembering()
        group = Group(environment, running.declare(), 1, Configuration([1]), machine)
        machine.gathered.append(b"x")
        group.written()
        groups.append(group)
    running.sync()
    running.sync()
    for _ in range(4):
        running.clock.advance(CROWDED_REST_MS)  # there are very many of them
    assert [group for group in groups if group._node is not None] == []
    assert environment._timer is None
