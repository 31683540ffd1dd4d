"""Situations that etcd/raft's data-driven tests put a group into, played with our own members.

| there (testdata of v3.7.0) | here |
|---|---|
| async_storage_writes | no such messages; several batches on their way to the disk: test_replication, "may be slow" |
| async_storage_writes_append_aba_race | test_what_was_saved_for_an_earlier_term_does_not_count |
| campaign, single_node | test_one_stands_for_election_and_all_follow |
| campaign_learner_must_vote | test_a_learner_votes_that_does_not_know_it_is_a_voter |
| checkquorum | test_a_lease_without_asking_beforehand |
| confchange_disable_validation | no such option |
| confchange_v1_add_single, confchange_v2_add_single_auto | test_a_group_of_one_becomes_one_of_two |
| confchange_v1_remove_leader | a removed leader always steps down: the next one |
| confchange_v1_remove_leader_stepdown | test_a_removed_leader_counts_nothing_any_more |
| confchange_v2_add_double_auto, _double_implicit, _single_explicit | no joint configurations: of two changes at once
  the first counts, test_of_two_changes_at_once_the_first_counts |
| confchange_v2_replace_leader, _replace_leader_stepdown | one by one: test_a_leader_is_replaced_by_a_newcomer |
| forget_leader | test_who_forgets_its_leader |
| forget_leader_prevote_checkquorum | test_whoever_has_forgotten_its_leader_may_be_asked |
| forget_leader_read_only_lease_based | no reads by lease |
| heartbeat_resp_recovers_from_probing | test_a_heartbeat_ends_the_probing |
| lagging_commit | test_a_lost_commit_index_comes_behind_the_next_heartbeat |
| prevote | test_who_is_behind_is_told_so_beforehand |
| prevote_checkquorum | test_a_lease_ends_with_the_leaders_silence |
| probe_and_replicate | test_a_leader_makes_all_logs_equal (figure 7 of the Raft paper) |
| replicate_pause | test_a_window_that_was_lost_is_asked_for_by_heartbeats |
| slow_follower_after_compaction | test_a_window_that_was_lost_and_let_go_becomes_a_snapshot |
| snapshot_succeed_via_app_resp | test_a_snapshot_of_everything_ends_the_probing |
| snapshot_succeed_via_app_resp_behind | test_an_older_snapshot_will_do_as_well |
"""

from __future__ import annotations

import pytest

from broker.raft.configuration import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange, Configuration
from broker.raft.entry import NORMAL, Entry
from broker.raft.message import (
    APPEND,
    APPEND_RESPONSE,
    HEARTBEAT,
    HEARTBEAT_RESPONSE,
    PRE_VOTE_RESPONSE,
    SNAPSHOT,
    VOTE_RESPONSE,
    Message,
)
from broker.raft.progress import PROBE, REPLICATE, SNAPSHOTTING
from broker.raft.raft import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Options
from broker.raft.raw_node import RawNode
from broker.raft.storage import HardState, InitialState, MemoryStorage
from tests.support.raft_group import Constant
from tests.support.raft_situation import Situation, plain


@pytest.mark.parametrize("voters", [1, 3])
def test_one_stands_for_election_and_all_follow(voters: int) -> None:
    group = Situation(voters, plain())
    group[1].node.campaign()
    assert group[1].raft.role == CANDIDATE
    group.settle()
    assert group.leaders() == [1]
    assert {(member.raft.lead, member.raft.term, member.raft.log.committed) for member in group.members.values()} == {
        (1, 1, 1)
    }


def test_a_learner_votes_that_does_not_know_it_is_a_voter() -> None:
    """Or nobody could be elected, although a majority of the voters is there."""
    group = Situation(2, plain(), learners=1)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(ADD_VOTER, 3))
    group.among(1, 2)
    group.drop(3)
    assert group[2].raft.tracker.configuration == Configuration([1, 2, 3])
    assert group[3].raft.tracker.configuration == Configuration([1, 2], [3])
    group[2].node.campaign()
    group.among(2, 3)
    assert group[2].raft.role == LEADER
    assert group[3].raft.tracker.configuration == Configuration([1, 2, 3])


def test_a_lease_without_asking_beforehand() -> None:
    """While the leader is heard of nobody is voted for; the leader that hears of nobody for an election timeout steps
    down, and then somebody else may stand."""
    group = Situation(3, Options(pre_vote=False))
    group.elect(1)
    group[2].node.campaign()
    group.among(2, 3)
    assert (group[2].raft.role, group[3].raft.lead) == (CANDIDATE, 1)
    group.drop(1, 2, 3)
    for _ in range(10):
        group[1].node.tick()
    assert group[1].raft.role == LEADER  # they were heard of in this one
    for _ in range(10):
        group[1].node.tick()
    assert group[1].raft.role == FOLLOWER
    group[1].handle()
    group.drop(2, 3)
    group[2].node.campaign()
    group.settle()
    assert group.leaders() == [2]


def test_a_group_of_one_becomes_one_of_two() -> None:
    group = Situation(1, plain())
    group.elect(1)
    group.add(2)
    assert group.propose(1, "a")
    group[1].node.propose_conf_change(ConfChange(ADD_VOTER, 2))
    group.among(1)
    assert group[1].raft.tracker.configuration == Configuration([1, 2])  # it needed nobody for that
    group.settle()
    assert group[2].applied == ["a"]
    assert group[2].raft.tracker.configuration == Configuration([1, 2])
    group.isolate(2)
    assert group.propose(1, "b")
    assert group[1].applied == ["a"]  # and now it does


def test_a_removed_leader_counts_nothing_any_more() -> None:
    """What it has appended meanwhile needs both of the others; its own removal it still commits."""
    group = Situation(3, plain())
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(REMOVE, 1))
    assert group.ask(1, "a")
    group[1].handle()
    group.among(2)
    sent = group.waiting(2)
    group.drop(2)
    for message in sent:
        group[2].node.step(message)
    group[2].handle()
    assert group.ask(1, "b")
    for message in group.waiting(1):
        group[1].node.step(message)
    group.drop(1)
    while group[1].handle():
        pass
    assert group[1].applied == ["a"]
    assert (group[1].raft.role, group[1].raft.tracker.configuration) == (FOLLOWER, Configuration([2, 3]))
    assert any(message.entries for message in group.waiting(2))  # "b" left before it stepped down
    group.among(1, 2)
    assert group[2].raft.log.last_index() == group[1].raft.log.last_index()
    assert group[2].applied == ["a"]
    assert not group.ask(1, "c")
    group[1].node.campaign()
    assert group[1].raft.role == FOLLOWER
    group[2].node.campaign()
    group.settle()
    assert group.leaders() == [2]
    assert group[3].applied == ["a", "b"]


def test_of_two_changes_at_once_the_first_counts() -> None:
    group = Situation(1, plain())
    group.elect(1)
    group.add(2)
    group.add(3)
    assert group[1].node.propose_conf_change(ConfChange(ADD_LEARNER, 2))
    assert group[1].node.propose_conf_change(ConfChange(ADD_LEARNER, 3))
    group.settle()
    assert group[1].raft.tracker.configuration == Configuration([1], [2])
    assert group[2].raft.log.last_index() == 3  # the second change is there, and means nothing
    assert group[1].node.propose_conf_change(ConfChange(ADD_LEARNER, 3))
    group.settle()
    assert group[3].raft.tracker.configuration == Configuration([1], [2, 3])


def test_a_leader_is_replaced_by_a_newcomer() -> None:
    group = Situation(3, plain())
    group.elect(1)
    group.add(4)
    group[1].node.propose_conf_change(ConfChange(ADD_VOTER, 4))
    group.settle()
    group[1].node.transfer_leader(4)
    assert group[1].raft.transferee == 4
    group.settle()
    assert group.leaders() == [4]
    group[4].node.propose_conf_change(ConfChange(REMOVE, 1))
    group.settle()
    assert {str(group[number].configuration) for number in (2, 3, 4)} == {str(Configuration([2, 3, 4]))}
    group[1].node.campaign()
    group.settle()
    assert group.leaders() == [4]


def test_who_forgets_its_leader() -> None:
    """Followers and learners; the term, and when they would stand for election, are not changed by it."""
    group = Situation(3, plain(), learners=1)
    group.elect(1)
    for number in (1, 2, 2, 4):
        group[number].node.forget_leader()
    assert [group[number].raft.lead for number in (1, 2, 3, 4)] == [1, 0, 1, 0]
    assert {group[number].raft.term for number in (1, 2, 3, 4)} == {1}
    assert group.leaders() == [1]
    group.tick()
    assert [group[number].raft.lead for number in (1, 2, 3, 4)] == [1, 1, 1, 1]
    group[3].node.campaign()
    group[3].node.forget_leader()
    assert (group[3].raft.role, group[3].raft.term, group[3].raft.vote) == (CANDIDATE, 2, 3)
    group.settle()
    assert group.leaders() == [3]
    timeout = group[2].raft.election_timeout
    for _ in range(timeout - 1):
        group[2].node.tick()
    group[2].node.forget_leader()
    assert group[2].raft.role == FOLLOWER
    group[2].node.tick()
    assert group[2].raft.role == CANDIDATE


def test_whoever_has_forgotten_its_leader_may_be_asked() -> None:
    """Before its lease ends; and whoever is behind is refused all the same."""
    group = Situation(3)
    group.elect(1)
    group[3].node.campaign()
    group.settle()
    assert (group[3].raft.role, group.leaders()) == (PRE_CANDIDATE, [1])
    group.tick()  # its heartbeat is of no older term: it follows again
    assert group[3].raft.lead == 1
    group[2].node.forget_leader()
    group[3].node.campaign()
    group.settle()
    assert group.leaders() == [3]
    group.isolate(1)
    assert group.propose(3, "a")
    group.heal()
    group[2].node.forget_leader()
    group[1].node.campaign()
    group.among(1, 2)
    assert group[1].raft.role != LEADER
    group.tick()
    assert group.leaders() == [3]


def test_a_heartbeat_ends_the_probing() -> None:
    """A member that has everything, and could not be reached once, is not probed until the next entry comes."""
    group = Situation(3)
    progress = group.elect(1).raft.tracker.progress[2]
    assert progress.state == REPLICATE
    group[1].node.report_unreachable(2)
    assert progress.state == PROBE
    group.delivered.clear()
    group.tick()
    with_2 = [message.kind for message in group.delivered if 2 in (message.sender, message.to)]
    assert with_2 == [HEARTBEAT, HEARTBEAT_RESPONSE, APPEND, APPEND_RESPONSE]
    assert progress.state == REPLICATE


def test_a_lost_commit_index_comes_behind_the_next_heartbeat() -> None:
    group = Situation(3)
    group.elect(1)
    assert group.ask(1, "a", "b")
    group[1].handle()
    for message in group.waiting(3):
        group[3].node.step(message)
    group[3].handle()
    group[3].outbox.clear()  # its answers are lost
    group.drop(3)
    group.among(1, 2)
    assert (group[1].raft.log.committed, group[3].raft.log.committed) == (3, 1)
    group.drop(3)
    group[1].node.tick()
    group[1].handle()
    (heartbeat,) = group.waiting(3)
    assert (heartbeat.kind, heartbeat.commit) == (HEARTBEAT, 1)  # the leader does not know that it has more
    group.among(1, 3)
    assert group[3].applied == ["a", "b"]


def test_who_is_behind_is_told_so_beforehand() -> None:
    """Without leases: the logs decide alone, and nobody's term changes."""
    group = Situation(3, Options(check_quorum=False))
    group.elect(1)
    assert group.ask(1, "a")
    group[1].handle()
    group.drop(3)
    group.among(1, 2)
    group.drop(3)
    group[3].node.campaign()
    group.delivered.clear()
    group.settle()
    answers = [message.reject for message in group.delivered if message.kind == PRE_VOTE_RESPONSE]
    assert answers == [True, True]
    assert {member.raft.term for member in group.members.values()} == {1}
    assert group.leaders() == [1]
    group[2].node.campaign()
    group.settle()
    assert group.leaders() == [2]
    assert group[3].applied == ["a"]


def test_a_lease_ends_with_the_leaders_silence() -> None:
    """Or when those who would be asked ask themselves."""
    group = Situation(3)
    group.elect(1)
    group[2].node.campaign()
    group.settle()
    assert group.leaders() == [1]
    group.tick()
    for _ in range(10):
        group[2].node.tick()  # it hears of nobody
    group[3].node.campaign()
    group.among(2, 3)
    assert group[3].raft.role == LEADER
    group.settle()
    assert group.leaders() == [3]
    group[1].node.campaign()
    group.settle()
    assert (group[1].raft.role, group.leaders()) == (PRE_CANDIDATE, [3])
    group[2].node.campaign()
    group.settle()
    assert group.leaders() == [2]


def test_a_leader_makes_all_logs_equal() -> None:
    """Figure 7 of the Raft paper: too short, too long, and of terms that the leader knows nothing of. Each is found out
    with few refusals, and the leader's log does not change."""
    logs = {
        1: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        2: [1, 1, 1, 4, 4, 5, 5, 6, 6],
        3: [1, 1, 1, 4],
        4: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        5: [1, 1, 1, 4, 4, 5, 5, 6, 7, 7, 7, 7],
        6: [1, 1, 1, 4, 4, 4, 4],
        7: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    }
    group = Situation(7, plain())
    for number, terms in logs.items():
        entries = [Entry(NORMAL, f"{term}/{at}", 3, term, at) for at, term in enumerate(terms, 1)]
        group[number].storage.append(entries)
        group[number].hard_state = HardState(7)
        group[number].restart()
    group.elect(1)
    assert group.leaders() == [1]
    assert {tuple(group.terms(number)) for number in logs} == {(*logs[1], 8)}
    assert {tuple(member.applied) for member in group.members.values()} == {tuple(group[1].applied)}
    refusals = [message.sender for message in group.delivered if message.kind == APPEND_RESPONSE and message.reject]
    assert {number: refusals.count(number) for number in logs} == {1: 0, 2: 1, 3: 1, 4: 0, 5: 1, 6: 1, 7: 1}


def test_a_window_that_was_lost_is_asked_for_by_heartbeats() -> None:
    """As much is on its way as may be, all of it is lost, and nothing would ever be answered."""
    options = Options()
    options.max_inflight_messages = 3
    group = Situation(3, options)
    progress = group.elect(1).raft.tracker.progress[3]
    assert group.ask(1, "a", "b", "c")
    group[1].handle()
    assert (progress.inflights.count(), progress.is_paused) == (3, True)
    group.among(1, 2)
    group.drop(3)
    assert group.ask(1, "d", "e", "f")
    group.among(1, 2)
    assert group[2].applied == list("abcdef")
    assert (group.waiting(3), progress.inflights.count()) == ([], 3)
    group.delivered.clear()
    group[1].node.tick()
    group.among(1, 3)
    kinds = [message.kind for message in group.delivered[:4]]
    assert kinds == [HEARTBEAT, HEARTBEAT_RESPONSE, APPEND, APPEND_RESPONSE]
    asked, answer = group.delivered[2:4]
    assert (asked.entries, answer.reject) == ([], True)
    assert group[3].applied == list("abcdef")
    assert (progress.state, progress.inflights.count()) == (REPLICATE, 0)


def test_a_window_that_was_lost_and_let_go_becomes_a_snapshot() -> None:
    options = Options()
    options.max_inflight_messages = 2
    group = Situation(3, options)
    progress = group.elect(1).raft.tracker.progress[3]
    assert group.propose(1, "a")
    assert group.ask(1, "b", "c")
    group.among(1, 2)
    group.drop(3)
    group[1].snapshot()
    assert group.ask(1, "d", "e")
    group.among(1, 2)
    assert group.waiting(3) == []
    group.delivered.clear()
    group[1].node.tick()
    group.settle()
    assert [message.sender for message in group.delivered if message.kind == APPEND_RESPONSE and message.reject] == [3]
    assert [message.to for message in group.delivered if message.kind == SNAPSHOT] == [3]
    assert group[3].applied == list("abcde")
    assert (progress.state, progress.match) == (REPLICATE, group[1].raft.log.last_index())


def test_a_snapshot_of_everything_ends_the_probing() -> None:
    """No entry follows it, and yet the leader knows that the member has all."""
    group = Situation(3)
    group.isolate(3)
    group.elect(1)
    assert group.propose(1, "a")
    group[1].snapshot()
    group.heal()
    group[1].node.tick()
    progress = group[1].raft.tracker.progress[3]
    group.among(1)
    group.among(3)
    group.among(1, 3)
    assert group[3].applied == ["a"]
    assert (progress.state, progress.match) == (REPLICATE, group[1].raft.log.last_index())


def test_an_older_snapshot_will_do_as_well() -> None:
    """One that was sent by other means: what follows it is in the leader's log."""
    group = Situation(3)
    group.isolate(3)
    group.elect(1)
    assert group.propose(1, "a")
    older = group[1].snapshot()
    assert group.propose(1, "b")
    progress = group[1].raft.tracker.progress[3]
    progress.become_snapshot(group[1].raft.log.last_index())
    group.heal()
    group.drop(3)
    message = Message(SNAPSHOT, 3, 1, group[1].raft.term)
    message.snapshot = older
    group[3].node.step(message)
    group.among(3)
    (answer,) = group.waiting(1)
    assert answer.index == older.index < progress.pending_snapshot
    assert progress.state == SNAPSHOTTING
    group.settle()
    assert progress.state == REPLICATE
    assert group[3].applied == ["a", "b"]


def test_what_was_saved_for_an_earlier_term_does_not_count() -> None:
    """A leader hands out an entry, is deposed, the entry is replaced, and it leads again: that the first one is on the
    disk by now says nothing about what stands in its place."""
    storage = MemoryStorage(InitialState(HardState(1), Configuration([1, 2])))
    node = RawNode(1, storage, 0, plain(), Constant())
    raft = node.raft

    def elected() -> None:
        node.campaign()
        first = node.ready()
        storage.append(first.entries)
        node.saved(first)
        node.step(Message(VOTE_RESPONSE, 1, 2, raft.term))
        assert raft.role == LEADER

    elected()
    slow = node.ready()
    storage.append(slow.entries)
    append = Message(APPEND, 1, 2, raft.term + 1)
    append.entries = [Entry(NORMAL, "x", 1, raft.term + 1, 1)]
    node.step(append)
    elected()
    last = raft.log.last_index()
    node.saved(slow)
    assert raft.tracker.progress[1].match < last
    ready = node.ready()
    storage.append(ready.entries)
    node.saved(ready)
    assert raft.tracker.progress[1].match == last
