"""Members that come and go (dissertation, chapter 4)."""

from __future__ import annotations

import pytest

from broker.raft.configuration import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange, Configuration, decode_conf_change
from broker.raft.entry import CONF_CHANGE, NORMAL, Entry
from broker.raft.message import (
    APPEND,
    APPEND_RESPONSE,
    HEARTBEAT_RESPONSE,
    PRE_VOTE_RESPONSE,
    READ_INDEX_RESPONSE,
    SNAPSHOT,
    VOTE,
    VOTE_RESPONSE,
    Message,
    Snapshot,
)
from broker.raft.raft import FOLLOWER, LEADER
from tests.support.raft_group import Group


def _change(group: Group, leader: int, kind: int, member: int) -> None:
    assert group[leader].node.propose_conf_change(ConfChange(kind, member))
    group.settle()


def test_a_member_comes_as_a_learner_and_becomes_a_voter() -> None:
    group = Group(3)
    group.elect(1)
    for text in "abc":
        assert group.propose(1, text)
    group.add(4)
    _change(group, 1, ADD_LEARNER, 4)
    assert group[4].applied == ["a", "b", "c"]
    assert group[4].raft.tracker.configuration == Configuration([1, 2, 3], [4])
    assert not group[4].raft.is_promotable()
    _change(group, 1, ADD_VOTER, 4)
    assert group[4].raft.is_promotable()
    assert {str(member.configuration) for member in group.members.values()} == {str(Configuration([1, 2, 3, 4]))}


def test_a_learner_counts_neither_for_commits_nor_for_elections() -> None:
    group = Group(3, learners=2)
    group.elect(1)
    group.isolate(2)
    group.isolate(3)
    assert group.propose(1, "a")
    assert group[4].applied == []
    assert group[1].raft.log.committed == 1
    group.tick(25)
    assert group.leaders() == []
    group[4].node.campaign()
    group.settle()
    assert group[4].raft.role == FOLLOWER


def test_a_learner_votes_for_whoever_takes_it_for_a_voter() -> None:
    """It may have been made one and not know it yet, and be needed for the majority."""
    group = Group(1, learners=1)
    request = Message(VOTE, 2, 1, 3)
    request.index = 5
    request.log_term = 2
    group[2].node.step(request)
    (answer,) = group[2].node.ready().responses
    assert not answer.reject


def test_one_change_at_a_time() -> None:
    """Section 4.1: the second of two becomes an entry without meaning."""
    group = Group(3)
    group.elect(1)
    node = group[1].node
    assert node.propose_conf_change(ConfChange(ADD_LEARNER, 4))
    assert node.propose_conf_change(ConfChange(ADD_LEARNER, 5))
    group.settle()
    assert group[2].configuration == Configuration([1, 2, 3], [4])
    _change(group, 1, ADD_LEARNER, 5)
    assert group[2].configuration == Configuration([1, 2, 3], [4, 5])


def test_no_change_before_a_new_leader_knows_what_is_pending() -> None:
    group = Group(3)
    group.elect(1)
    group.cut = {(1, 3), (2, 1)}  # member 2 gets it, and nobody hears of that
    assert group[1].node.propose_conf_change(ConfChange(ADD_LEARNER, 4))
    group.settle()
    group.isolate(1)
    group[2].node.forget_leader()
    group[3].node.forget_leader()
    group[2].node.campaign()
    for _ in range(8):  # it is elected, and its first entry is not committed yet
        for number in (2, 3):
            group[number].handle()
            sent, group[number].outbox = group[number].outbox, []
            for message in sent:
                group.deliver(message)
        if group[2].raft.role == LEADER:
            break
    assert group[2].raft.role == LEADER
    assert group[2].node.propose_conf_change(ConfChange(ADD_LEARNER, 5))
    group.settle()
    assert group[3].configuration == Configuration([1, 2, 3], [4])
    _change(group, 2, ADD_LEARNER, 5)
    assert group[3].configuration == Configuration([1, 2, 3], [4, 5])


def test_a_member_that_is_gone_is_removed_by_the_others() -> None:
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    _change(group, 1, REMOVE, 3)
    assert group[2].configuration == Configuration([1, 2])
    group.isolate(2)
    assert group.propose(1, "a")
    assert group[1].raft.log.committed < group[1].raft.log.last_index(), "two of two are needed now"
    group.cut = {(1, 3), (3, 1), (2, 3), (3, 2)}
    group.tick(2)
    assert group[2].applied == ["a"]


def test_what_waits_is_committed_when_fewer_are_needed() -> None:
    group = Group(2)
    group.elect(1)
    node = group[1].node
    assert node.propose_conf_change(ConfChange(REMOVE, 2))
    group.settle()
    group.isolate(2)
    assert group.propose(1, "a")
    assert group[1].applied == ["a"]


def test_a_leader_leads_up_to_its_own_removal() -> None:
    """Section 4.2.2."""
    group = Group(3)
    group.elect(1)
    _change(group, 1, REMOVE, 1)
    assert group[1].raft.role == FOLLOWER
    assert group[2].configuration == Configuration([2, 3])
    group.tick(40)
    (leader,) = group.leaders()
    assert leader in (2, 3)
    assert group.propose(leader, "a")
    assert (group[1].applied, group[2].applied, group[3].applied) == ([], ["a"], ["a"])


def test_a_removed_member_disturbs_nobody() -> None:
    """Section 4.2.3: it may never hear of its removal."""
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    _change(group, 1, REMOVE, 3)
    group.heal()
    group.tick(60)
    assert group.leaders() == [1]
    assert group[1].raft.term == 1


def test_an_answer_from_whoever_does_not_belong_to_the_group_means_nothing() -> None:
    """One that was removed, or stands for election with members of its own, has terms that nobody here knows of."""
    group = Group(3)
    leader = group.elect(1)
    _change(group, 1, REMOVE, 3)
    term = leader.raft.term
    for kind in (APPEND_RESPONSE, VOTE_RESPONSE, HEARTBEAT_RESPONSE, PRE_VOTE_RESPONSE, READ_INDEX_RESPONSE):
        answer = Message(kind, 1, 3, term + 5)
        answer.reject = True
        assert leader.node.step(answer)
    assert (leader.raft.role, leader.raft.term) == (LEADER, term)
    stray = Message(READ_INDEX_RESPONSE, 2, 3, term)
    stray.context = 7
    group[2].node.step(stray)
    assert not group[2].node.has_ready()


def test_the_last_voter_stays() -> None:
    group = Group(1, learners=1)
    group.elect(1)
    _change(group, 1, REMOVE, 1)
    assert group[1].configuration == Configuration([1], [2])
    assert group.propose(1, "a")


def test_whom_leadership_was_handed_to_is_removed() -> None:
    group = Group(3)
    group.elect(1)
    node = group[1].node
    assert node.propose_conf_change(ConfChange(REMOVE, 3))
    group.isolate(3)
    node.transfer_leader(3)
    assert not node.propose([Entry(NORMAL, "a", 1)])
    group.settle()
    assert node.propose([Entry(NORMAL, "a", 1)])


def test_a_newcomer_needs_a_snapshot_from_before_it_came() -> None:
    group = Group(3)
    group.elect(1)
    for text in "abc":
        assert group.propose(1, text)
    group[1].snapshot()
    group.add(4)
    _change(group, 1, ADD_LEARNER, 4)
    group.tick(2)
    assert group[4].applied == ["a", "b", "c"]
    assert group[4].configuration == Configuration([1, 2, 3], [4])


@pytest.mark.parametrize("kind", [ADD_VOTER, ADD_LEARNER, REMOVE])
def test_a_change_is_read_as_it_was_written(kind: int) -> None:
    change = decode_conf_change(ConfChange(kind, 2**40, b"rabbit@two").encode())
    assert (change.kind, change.member, change.context) == (kind, 2**40, b"rabbit@two")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02" + bytes(8), b"\xff" * 12])
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no change of a configuration"):
        decode_conf_change(data)


def test_a_change_that_is_not_wanted_any_more_changes_nothing() -> None:
    configuration = Configuration([3, 1, 2], [5])
    assert configuration.changed(ConfChange(ADD_VOTER, 0)) is configuration
    assert configuration.changed(ConfChange(ADD_VOTER, 1)) is configuration
    assert configuration.changed(ConfChange(ADD_LEARNER, 1)) == Configuration([2, 3], [1, 5])
    assert configuration.changed(ConfChange(REMOVE, 9)) is configuration
    assert len({configuration, Configuration([1, 2, 3], [5]), Configuration([1, 2, 3])}) == 2


def test_a_change_applied_late_does_not_count_on_top_of_a_snapshot() -> None:
    """The state machine is still at an entry before the snapshot, which has not been handed out yet."""
    group = Group(3)
    late = group[3]
    data = ConfChange(ADD_LEARNER, 4).encode()
    append = Message(APPEND, 3, 1, 1)
    append.entries = [Entry(CONF_CHANGE, data, len(data), 1, 1)]
    append.commit = 1
    late.node.step(append)
    (entry,) = late.node.ready().committed
    message = Message(SNAPSHOT, 3, 1, 1)
    message.snapshot = Snapshot(5, 1, Configuration([1, 2, 3], [5]), [])
    late.node.step(message)
    assert isinstance(entry.data, bytes)
    applied = late.node.apply_conf_change(decode_conf_change(entry.data))
    assert applied == Configuration([1, 2, 3], [4]), "as it was at that entry"
    late.node.applied(1, entry.size)
    ready = late.node.ready()
    assert ready.snapshot is message.snapshot
    assert late.raft.tracker.configuration == Configuration([1, 2, 3], [5])
