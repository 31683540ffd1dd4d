"""Reads without an entry (dissertation, section 6.4)."""

from __future__ import annotations

from broker.raft.message import HEARTBEAT
from broker.raft.raft import LEADER, Options
from broker.raft.storage import HardState
from tests.support.raft_group import Group, Member


def _states(member: Member) -> list[tuple[int, int]]:
    states = [(state.index, state.context) for state in member.raft.read_states]
    member.raft.read_states = []
    return states


class _Reading(Group):
    """Keeps the read states, which ``handle`` would throw away."""

    def __init__(self, voters: int = 3) -> None:
        super().__init__(voters)
        self.found: dict[int, list[tuple[int, int]]] = {number: [] for number in self.members}

    def settle(self, rounds: int = 200) -> None:
        for _ in range(rounds):
            for number, member in self.members.items():
                self.found[number] += _states(member)
                member.handle()
            messages = [message for member in self.members.values() for message in member.outbox]
            for member in self.members.values():
                member.outbox = []
            for message in messages:
                self.deliver(message)
            if not messages and not any(member.node.has_ready() for member in self.members.values()):
                return


def test_a_majority_says_that_the_leader_still_leads() -> None:
    group = _Reading()
    group.elect(1)
    assert group.propose(1, "a")
    group[1].node.read_index(7)
    assert group[1].raft.read_states == []
    group.settle()
    assert group.found == {1: [(2, 7)], 2: [], 3: []}


def test_a_deposed_leader_answers_no_read() -> None:
    group = _Reading()
    group.elect(1)
    group.isolate(1)
    group[1].node.read_index(7)
    group.tick(30)
    (leader,) = [number for number in group.leaders() if number != 1]
    assert group.propose(leader, "newer")
    group.heal()
    group.tick(5)
    assert group.found[1] == []


def test_a_follower_asks_its_leader() -> None:
    group = _Reading()
    group.elect(1)
    group[3].node.read_index(9)
    group.settle()
    assert group.found == {1: [], 2: [], 3: [(1, 9)]}


def test_without_a_leader_nobody_is_asked() -> None:
    group = _Reading()
    group[3].node.read_index(9)
    assert not group[3].node.has_ready()


def test_a_new_leader_waits_for_an_entry_of_its_own() -> None:
    """Before that it does not know what is committed."""
    group = _Reading()
    raft = group[1].raft
    group[1].node.campaign()
    for _ in range(8):
        for member in group.members.values():
            member.handle()
            sent, member.outbox = member.outbox, []
            for message in sent:
                if raft.role != LEADER:
                    group.deliver(message)
    assert raft.role == LEADER
    group[1].node.read_index(5)
    assert raft.reads is not None
    assert len(raft.reads.waiting) == 1
    assert not [message for message in raft.messages if message.kind == HEARTBEAT]
    group.tick()  # what was lost is sent again
    assert group.found[1] == [(1, 5)]


def test_a_single_voter_answers_once_it_knows_what_is_committed() -> None:
    """What it knew of it need not have been on the disk when it crashed."""
    group = Group(1)
    group.elect(1)
    assert group.propose(1, "a")
    member = group[1]
    member.hard_state = HardState(member.hard_state.term, member.hard_state.vote, 0)
    member.applied_index = 0
    member.restart()
    member.node.campaign()
    member.node.saved(member.node.ready())
    assert member.raft.role == LEADER
    assert member.raft.log.committed == 0
    member.node.read_index(7)
    assert _states(member) == []
    ready = member.node.ready()
    member.storage.append(ready.entries)
    member.node.saved(ready)
    assert _states(member) == [(3, 7)]


def test_a_single_voter_answers_at_once() -> None:
    group = Group(1, Options(), learners=1)
    group.elect(1)
    group[1].node.read_index(3)
    assert _states(group[1]) == [(1, 3)]


def test_reads_are_answered_in_order_and_together() -> None:
    group = _Reading()
    group.elect(1)
    for context in range(1, 6):
        group[1].node.read_index(context)
    group.settle()
    assert group.found[1] == [(1, context) for context in range(1, 6)]
