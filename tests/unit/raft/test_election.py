"""Elections: who is elected, who votes for whom, who disturbs nobody (dissertation, sections 3.4, 3.6, 6.2, 9.6)."""

from __future__ import annotations

import pytest

from broker.native import i64
from broker.raft.configuration import ADD_VOTER, ConfChange, Configuration
from broker.raft.entry import NORMAL, Entry
from broker.raft.message import (
    APPEND,
    APPEND_RESPONSE,
    HEARTBEAT,
    NOBODY,
    PRE_VOTE,
    TIMEOUT_NOW,
    VOTE,
    VOTE_RESPONSE,
    Message,
)
from broker.raft.raft import CANDIDATE, FOLLOWER, LEADER, Options, Raft, Randomness
from broker.raft.raw_node import RawNode
from broker.raft.storage import HardState, InitialState, MemoryStorage
from tests.support.raft_group import Constant, Group


def _vote(sender: int, term: int, index: int, log_term: int, kind: int = VOTE) -> Message:
    message = Message(kind, 1, sender, term)
    message.index = index
    message.log_term = log_term
    return message


def test_the_first_to_wake_is_elected_and_followed() -> None:
    group = Group(3)
    group.tick(30)
    (leader,) = group.leaders()
    assert {member.raft.lead for member in group.members.values()} == {leader}
    assert {member.raft.term for member in group.members.values()} == {1}


def test_a_single_member_leads_without_asking_anybody() -> None:
    group = Group(1)
    group.tick(20)
    assert group.leaders() == [1]
    assert group.propose(1, "a")
    assert group[1].applied == ["a"]


@pytest.mark.parametrize("voters", [2, 3, 4, 5, 7])
def test_a_majority_is_needed(voters: int) -> None:
    group = Group(voters)
    reachable = voters // 2 + 1
    for number in range(reachable, voters + 1):
        group.isolate(number)
    group[1].node.campaign()
    group.settle()
    assert group.leaders() == []
    group.heal()
    for number in range(reachable + 1, voters + 1):
        group.isolate(number)
    group[1].node.campaign()
    group.settle()
    assert group.leaders() == [1]


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_candidate_of_an_old_term_is_told_of_the_newer_one(pre_vote: bool) -> None:
    """Section 3.3; with pre-votes it is told when it asks beforehand."""
    group = Group(3, Options(pre_vote=pre_vote))
    voter = group[1].node
    voter.step(_vote(3, 9, 0, 0))
    voter.ready()
    voter.step(_vote(2, 5, 0, 0))
    answers = voter.ready().responses
    assert [(answer.kind, answer.to, answer.reject, answer.term) for answer in answers] == (
        [] if pre_vote else [(VOTE_RESPONSE, 2, True, 9)]
    )


def test_one_vote_in_a_term() -> None:
    group = Group(3)
    voter = group[1].node
    for candidate in (2, 3):
        voter.step(_vote(candidate, 5, 0, 0))
    answers = voter.ready().responses
    assert [(answer.to, answer.reject, answer.term) for answer in answers] == [(2, False, 5), (3, True, 5)]


def test_requests_for_votes_wait_for_the_disk() -> None:
    """Section 3.8: a candidate that forgets its term would stand for election in it once more. The votes that it was
    given count for it as they did before, and two logs would be led in one term."""
    group = Group(3, Options(pre_vote=False))
    candidate = group[1].node
    candidate.campaign()
    ready = candidate.ready()
    assert ready.must_sync
    assert ready.messages == []
    assert [request.kind for request in ready.responses] == [VOTE, VOTE]


def test_a_vote_waits_for_the_disk() -> None:
    """Section 3.8: a voter that forgets its vote would vote twice."""
    group = Group(3)
    voter = group[1].node
    voter.step(_vote(2, 5, 0, 0))
    ready = voter.ready()
    assert ready.messages == []
    assert [answer.kind for answer in ready.responses] == [VOTE_RESPONSE]
    assert ready.must_sync
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (5, 2)


def test_a_vote_is_remembered_after_a_restart() -> None:
    group = Group(3)
    voter = group[1]
    voter.node.step(_vote(2, 5, 0, 0))
    voter.handle()
    voter.restart()
    voter.node.step(_vote(3, 5, 0, 0))
    (answer,) = voter.node.ready().responses
    assert answer.reject


def test_our_own_vote_counts_once_it_is_on_the_disk() -> None:
    group = Group(1, Options(pre_vote=False))
    node = group[1].node
    node.campaign()
    assert group[1].raft.role == CANDIDATE
    ready = node.ready()
    assert group[1].raft.role == CANDIDATE
    node.saved(ready)
    assert group[1].raft.role == LEADER


def test_nobody_leads_in_a_term_that_is_not_on_its_disk() -> None:
    """The others would elect it again in the same term after a crash, and entries of that term would stand twice for
    one index: the others have some that it does not know of any more."""
    group = Group(3, Options(pre_vote=False))
    node = group[1].node
    node.campaign()
    ready = node.ready()
    for voter in (2, 3):
        node.step(Message(VOTE_RESPONSE, 1, voter, 1))
    assert group[1].raft.role == CANDIDATE
    assert not node.propose([Entry(NORMAL, "a", 1)])
    node.saved(ready)
    assert group[1].raft.role == LEADER
    assert any(message.kind == APPEND for message in node.ready().messages)


@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(3, 2, True), (4, 2, True), (2, 2, False), (9, 1, False), (1, 3, True)],
)
def test_who_has_less_than_we_gets_no_vote(index: int, log_term: int, granted: bool) -> None:
    """Section 3.6.1: by the term of the last entry first, then by the length."""
    group = Group(3)
    group.elect(2)
    group[2].node.transfer_leader(3)
    group.settle()
    assert group.propose(3, "x")
    assert (group[1].raft.log.last_index(), group[1].raft.log.last_term()) == (3, 2)
    group[1].node.forget_leader()
    group[1].node.step(_vote(2, 7, index, log_term))
    answers = group[1].node.ready().responses
    assert [not answer.reject for answer in answers] == [granted]


def test_whoever_hears_of_a_leader_votes_for_nobody_else() -> None:
    """Section 4.2.3: members that were removed, or are cut off, disturb nobody."""
    group = Group(3)
    group.elect(1)
    group.tick(3)
    for kind in (VOTE, PRE_VOTE):
        group[2].node.step(_vote(3, 9, 99, 9, kind))
    assert not group[2].node.has_ready()
    assert group[2].raft.term == 1
    for _ in range(10):
        group[2].node.tick()
    group[2].node.step(_vote(3, 9, 99, 9))
    assert group[2].raft.term == 9


def test_a_member_that_comes_back_disturbs_nobody() -> None:
    """Section 9.6: it asks first, and its term stays."""
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    group.tick(100)
    assert group[3].raft.term == 1
    group.heal()
    group.tick(20)
    assert group.leaders() == [1]
    assert group[1].raft.term == 1


def test_without_being_asked_for_it_a_candidate_raises_the_term() -> None:
    group = Group(3, Options(pre_vote=False, check_quorum=False))
    group.elect(1)
    group.isolate(3)
    group.tick(60)
    assert group[3].raft.term > 2
    group.heal()
    group.tick(60)
    assert {member.raft.term for member in group.members.values()} == {group[3].raft.term}
    assert len(group.leaders()) == 1


def test_a_leader_without_a_majority_steps_down() -> None:
    """Section 6.2: within two election timeouts."""
    group = Group(3)
    group.elect(1)
    group.isolate(1)
    group[1].node.tick()
    for _ in range(20):
        group[1].node.tick()
    assert group[1].raft.role == FOLLOWER
    assert group[1].raft.lead == NOBODY


def test_votes_are_lost_when_a_majority_refuses() -> None:
    group = Group(3, Options(pre_vote=False))
    node = group[1].node
    node.campaign()
    node.saved(node.ready())
    for member in (2, 3):
        answer = Message(VOTE_RESPONSE, 1, member, 1)
        answer.reject = True
        assert group[1].raft.role == CANDIDATE
        node.step(answer)
    assert group[1].raft.role == FOLLOWER


def test_a_vote_counts_once() -> None:
    group = Group(5, Options(pre_vote=False))
    node = group[1].node
    node.campaign()
    node.saved(node.ready())
    for _ in range(3):
        node.step(Message(VOTE_RESPONSE, 1, 2, 1))
    assert group[1].raft.role == CANDIDATE
    node.step(Message(VOTE_RESPONSE, 1, 3, 1))
    assert group[1].raft.role == LEADER


def test_nobody_stands_for_election_with_members_that_have_changed() -> None:
    """A change that is committed and not applied here: we would ask the members of before."""
    group = Group(3)
    group.elect(1)
    member = group[2].node
    assert group[1].node.propose_conf_change(ConfChange(ADD_VOTER, 4))
    group.isolate(3)
    group[1].handle()
    for message in group[1].outbox:
        if message.to == 2:
            member.step(message)
    ready = member.ready()
    group[2].storage.append(ready.entries)
    member.saved(ready)
    group[2].raft.log.commit_to(2)
    member.campaign()
    assert group[2].raft.role == FOLLOWER
    assert [entry.index for entry in member.ready().committed] == [2]
    member.applied(2, 9)
    member.campaign()
    assert group[2].raft.role != FOLLOWER


def test_leadership_is_handed_over_within_its_lease() -> None:
    """Section 3.10: at once, without asking, and no lease of the old leader's stands against it."""
    group = Group(3)
    group.elect(1)
    group.tick(2)
    group[1].node.transfer_leader(3)
    group.settle()
    assert group.leaders() == [3]
    assert group[1].raft.term == 2


def test_leadership_goes_to_nobody_who_has_less() -> None:
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    assert group.propose(1, "a")
    group[1].node.transfer_leader(3)
    assert not group.propose(1, "b"), "no proposals while it is handed over"
    assert not [message for message in group.lost if message.kind == TIMEOUT_NOW]
    group.heal()
    group.tick(2)
    assert group.leaders() == [3]
    assert group[3].applied == ["a"]


def test_a_leader_that_hands_over_in_vain_leads_again() -> None:
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    group[1].node.transfer_leader(3)
    group.tick(9)
    assert not group.propose(1, "a")
    group.tick(2)
    assert group.propose(1, "a")
    assert group[2].applied == ["a"]


def test_leadership_goes_neither_to_learners_nor_to_whoever_does_not_ask() -> None:
    group = Group(3, learners=1)
    group.elect(1)
    for member in (4, 1, 9):
        group[1].node.transfer_leader(member)
        group.settle()
        assert group.leaders() == [1]
        assert group.propose(1, str(member))


def test_a_follower_passes_on_who_should_lead() -> None:
    group = Group(3)
    group.elect(1)
    group[3].node.transfer_leader(2)
    group.settle()
    assert group.leaders() == [2]


class _Counting(Randomness):
    """All numbers in turn."""

    def __init__(self) -> None:
        self.number = 0

    def below(self, limit: i64) -> i64:
        self.number += 1
        return self.number % limit


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 7, 12])
def test_election_timeouts_are_one_to_two_and_never_equal(voters: int) -> None:
    group = Group(voters)
    drawn: list[set[int]] = []
    for number in range(1, voters + 1):
        raft = Raft(number, group[number].storage, 0, group.options, _Counting())
        timeouts = set()
        for _ in range(60):
            raft.become_follower(1, NOBODY)
            timeouts.add(raft.election_timeout)
        assert 10 <= min(timeouts) <= max(timeouts) < 20
        drawn.append(timeouts)
    if voters <= 10:
        assert sum(len(timeouts) for timeouts in drawn) == len(set[int]().union(*drawn)) == 10


@pytest.mark.parametrize(
    ("voters", "election_tick"), [(2, 2), (3, 3), (3, 4), (4, 8), (5, 5), (5, 10), (7, 10), (9, 5)]
)
def test_any_two_members_wake_in_either_order(voters: int, election_tick: int) -> None:
    """Where the same one always woke first and could not be elected, its log being behind, it would ask for votes in
    term after term, and nobody else would ever come to it; also where its clock goes faster by a tenth."""
    group = Group(voters, Options(election_tick=election_tick))
    rafts = [Raft(number, group[number].storage, 0, group.options, _Counting()) for number in group.members]
    first: set[tuple[int, int]] = set()
    for term in range(1, voters + 1):
        drawn = []
        for raft in rafts:
            timeouts = set()
            for _ in range(60):
                raft.become_follower(term, NOBODY)
                timeouts.add(int(raft.election_timeout))
            drawn.append(timeouts)
        first |= {
            (one, other)
            for one in range(voters)
            for other in range(voters)
            if one != other and min(drawn[one]) * 1.1 < max(drawn[other])
        }
    assert len(first) == voters * (voters - 1)


def test_a_member_that_lost_what_it_acknowledged_does_not_vote_until_it_has_it_again() -> None:
    group = Group(3)
    group.elect(1)
    for text in "abcdef":
        assert group.propose(1, text)
    damaged = group[2]
    entries = damaged.storage.entries(1, 4, 1 << 30)
    storage = MemoryStorage(InitialState(HardState(1, 1, 7), damaged.configuration, repair_to=7))
    storage.append(entries)
    damaged.storage = storage
    damaged.applied = []
    damaged.applied_index = 0
    damaged.node = RawNode(2, storage, 0, group.options, Constant(2))
    damaged.node.step(_vote(3, 5, 99, 4))
    assert damaged.handle()
    assert [answer.reject for answer in damaged.outbox] == [True]
    damaged.outbox = []
    for _ in range(40):
        damaged.node.tick()
    assert damaged.raft.role == FOLLOWER

    group.tick(40)
    (leader,) = group.leaders()
    assert leader != 2
    assert group.propose(leader, "g")
    group.tick(3)
    assert damaged.applied == ["a", "b", "c", "d", "e", "f", "g"]
    assert damaged.raft.is_repaired()
    group[leader].node.transfer_leader(2)
    group.settle()
    assert group.leaders() == [2]


def test_a_leader_finds_out_that_a_member_lost_some_in_its_own_term() -> None:
    group = Group(3)
    group.elect(1)
    for text in "abcdef":
        assert group.propose(1, text)
    damaged = group[2]
    entries = damaged.storage.entries(1, 4, 1 << 30)
    damaged.storage = MemoryStorage(InitialState(HardState(1, 1, 7), damaged.configuration, repair_to=7))
    damaged.storage.append(entries)
    damaged.applied = []
    damaged.applied_index = 0
    damaged.node = RawNode(2, damaged.storage, 0, group.options, Constant(2))
    group.tick(2)
    assert group.propose(1, "g")
    group.tick(3)
    assert damaged.applied == ["a", "b", "c", "d", "e", "f", "g"]
    assert damaged.raft.is_repaired()
    assert group.leaders() == [1]


@pytest.mark.parametrize(("repair_to", "answers"), [(0, []), (7, [(APPEND_RESPONSE, 5)])])
def test_a_damaged_member_tells_a_leader_of_its_later_term(repair_to: int, answers: list[tuple[int, int]]) -> None:
    """Without pre-vote and check-quorum a whole member would stand for election, and tell him so; a damaged one never
    does, and nothing else would."""
    storage = MemoryStorage(InitialState(HardState(5, 0, 0), Configuration([1, 2, 3]), repair_to))
    node = RawNode(1, storage, 0, Options(check_quorum=False, pre_vote=False), Constant(3))
    node.step(Message(HEARTBEAT, 1, 2, 4))
    ready = node.ready() if node.has_ready() else None
    said = [] if ready is None else ready.messages + ready.responses
    assert [(message.kind, message.term) for message in said] == answers
