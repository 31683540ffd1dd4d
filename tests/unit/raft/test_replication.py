"""How the logs become equal, and what is committed (dissertation, sections 3.5, 3.6.2, 5, 10.2)."""

from __future__ import annotations

import pytest

from broker.raft.entry import NORMAL, Entry
from broker.raft.message import APPEND, APPEND_RESPONSE, HEARTBEAT, Message, Snapshot
from broker.raft.progress import PROBE, REPLICATE, SNAPSHOTTING
from broker.raft.raft import FOLLOWER, LEADER, Options
from tests.support.raft_group import Group


def _append(term: int, index: int, log_term: int, *terms: int, commit: int = 0, sender: int = 1) -> Message:
    """An append of entries with these terms behind ``index``."""
    message = Message(APPEND, 2, sender, term)
    message.index = index
    message.log_term = log_term
    message.commit = commit
    message.entries = [Entry(NORMAL, f"{term}/{index + at}", 1, term, index + at) for at, term in enumerate(terms, 1)]
    return message


def _terms(group: Group, number: int) -> list[int]:
    log = group[number].raft.log
    return [log.term(index) for index in range(1, log.last_index() + 1)]


def test_what_is_proposed_is_applied_by_all_in_one_order() -> None:
    group = Group(5)
    group.elect(1)
    for number, text in ((1, "a"), (3, "b"), (5, "c")):
        assert group.propose(number, text)
    assert group.propose(1, "d", "e")
    assert {tuple(member.applied) for member in group.members.values()} == {("a", "b", "c", "d", "e")}


def test_nothing_is_committed_before_a_majority_has_it_on_the_disk() -> None:
    group = Group(3)
    group.elect(1)
    leader = group[1]
    leader.node.propose([Entry(NORMAL, "a", 1)])
    ready = leader.node.ready()
    leader.storage.append(ready.entries)
    assert [message.kind for message in ready.messages] == [APPEND, APPEND], "they leave before our own disk has it"
    for message in ready.messages:
        group.deliver(message)
    answer = group[2].node.ready()
    group[2].storage.append(answer.entries)
    assert leader.raft.log.committed == 1
    group[2].node.saved(answer)
    for response in answer.responses:
        group.deliver(response)
    assert leader.raft.log.committed == 1, "one disk of three"
    leader.node.saved(ready)
    assert leader.raft.log.committed == 2


def test_the_others_commit_without_the_leaders_disk() -> None:
    """Section 10.2.1."""
    group = Group(3)
    group.elect(1)
    leader = group[1]
    leader.node.propose([Entry(NORMAL, "a", 1)])
    ready = leader.node.ready()
    leader.storage.append(ready.entries)
    for message in ready.messages:
        group.deliver(message)
    for number in (2, 3):
        group[number].handle()
        for response in group[number].outbox:
            group.deliver(response)
    assert leader.raft.log.committed == 2


def test_an_entry_of_an_earlier_term_is_committed_with_the_first_of_this_one() -> None:
    """Section 3.6.2, figure 3.7: a majority that has it is not enough."""
    group = Group(3)
    group.elect(1)
    group.isolate(1)
    group.propose(1, "old")
    group.heal()
    group.cut = {(1, 3), (3, 1)}
    leader = group[1]
    # member 2 gets the entry, and its answer is lost
    for message in group.lost:
        if message.to == 2 and message.kind == APPEND:
            group[2].node.step(message)
    while group[2].handle():
        pass
    group[2].outbox = []
    assert group[2].raft.log.last_index() == 2
    # elected again, it appends an entry of its own term; the old one alone does not count
    leader.raft.become_follower(2, 0)
    leader.raft.become_candidate()
    leader.raft.become_leader()
    response = Message(APPEND_RESPONSE, 1, 2, leader.raft.term)
    response.index = 2
    leader.node.step(response)
    assert leader.raft.log.committed == 1
    response.index = 3
    leader.handle()
    leader.node.step(response)
    assert leader.raft.log.committed == 3


@pytest.mark.parametrize(
    ("message", "terms", "accepted"),
    [
        (_append(3, 3, 2, 3, 3), [1, 1, 2, 3, 3], True),
        (_append(3, 2, 1, 3), [1, 1, 3], True),
        (_append(3, 1, 1, 1), [1, 1, 2], True),
        (_append(3, 0, 0, 1, 1, 2), [1, 1, 2], True),
        (_append(3, 3, 3, 3), [1, 1, 2], False),
        (_append(3, 4, 2, 3), [1, 1, 2], False),
        (_append(3, 3, 2), [1, 1, 2], True),
    ],
)
def test_an_append_replaces_what_differs_and_nothing_else(message: Message, terms: list[int], accepted: bool) -> None:
    """Section 3.5: an old append must not take away what came after it."""
    group = Group(3)
    follower = group[2].node
    follower.step(_append(2, 0, 0, 1, 1, 2))
    group[2].handle()
    group[2].outbox = []
    follower.step(message)
    while group[2].handle():
        pass
    assert _terms(group, 2) == terms
    assert [answer.reject for answer in group[2].outbox] == [not accepted]


def test_logs_that_differ_by_many_terms_are_equal_after_few_messages() -> None:
    group = Group(3)
    follower = group[2].node
    follower.step(_append(9, 0, 0, *[1] * 20, *[2] * 300, *[4] * 300, *[6] * 300))
    group[2].handle()
    group[2].outbox = []
    leader = group[1].node
    leader.step(_append(9, 0, 0, *[1] * 20, *[3] * 300, *[5] * 300, *[7] * 300, sender=3))
    group[1].handle()
    group[1].outbox = []
    group.isolate(3)
    group[1].node.forget_leader()
    group[2].node.forget_leader()
    sent: list[Message] = []
    deliver = group.deliver

    def note(message: Message) -> None:
        sent.append(message)
        deliver(message)

    group.deliver = note  # type: ignore[method-assign]
    group.elect(1)
    assert group.leaders() == [1]
    assert _terms(group, 2) == [*[1] * 20, *[3] * 300, *[5] * 300, *[7] * 300, 10]
    appends = [message for message in sent if message.kind == APPEND and message.to == 2]
    assert len(appends) <= 6, [repr(message) for message in appends]


def test_appends_follow_each_other_without_waiting_up_to_a_limit() -> None:
    options = Options()
    options.max_inflight_messages = 4
    options.max_message_bytes = 10
    group = Group(3, options)
    group.elect(1)
    leader = group[1].node
    for at in range(10):
        assert leader.propose([Entry(NORMAL, str(at), 10)])
    group[1].handle()
    sent = [message for message in group[1].outbox if message.to == 2]
    assert [message.index for message in sent] == [1, 2, 3, 4]
    progress = group[1].raft.tracker.progress[2]
    assert progress.state == REPLICATE
    assert progress.is_paused
    answer = Message(APPEND_RESPONSE, 1, 2, 1)
    answer.index = 3
    leader.step(answer)
    sent = [message for message in leader.ready().messages if message.to == 2]
    assert [message.index for message in sent if message.entries] == [5, 6]


def test_a_member_whose_appends_were_all_lost_is_asked_again() -> None:
    options = Options()
    options.max_inflight_messages = 2
    group = Group(3, options)
    group.elect(1)
    group.isolate(2)
    for text in "abcd":
        assert group.propose(1, text)
    assert group[2].applied == []
    group.heal()
    group.tick(3)
    assert group[2].applied == ["a", "b", "c", "d"]


def test_a_leader_has_so_much_that_is_not_committed_and_no_more() -> None:
    options = Options()
    options.max_uncommitted_bytes = 100
    group = Group(3, options)
    group.elect(1)
    group.isolate(1)
    leader = group[1].node
    assert leader.propose([Entry(NORMAL, "large", 500)]), "one may always be"
    assert not leader.propose([Entry(NORMAL, "a", 1)])
    group.heal()
    group.tick(2)
    assert leader.propose([Entry(NORMAL, "a", 1)])


def test_a_follower_commits_what_it_has_and_no_more() -> None:
    group = Group(3)
    follower = group[2].node
    follower.step(_append(1, 0, 0, 1, 1, commit=9))
    assert group[2].raft.log.committed == 2
    heartbeat = Message(HEARTBEAT, 2, 1, 1)
    heartbeat.commit = 1
    follower.step(heartbeat)
    assert group[2].raft.log.committed == 2


def test_what_is_behind_an_append_is_not_committed_by_it() -> None:
    """Section 3.5: only up to the last entry that the append shows to be equal."""
    group = Group(3)
    follower = group[2].node
    follower.step(_append(1, 0, 0, 1, 1, 1))
    follower.step(_append(2, 0, 0, 1, commit=3, sender=3))
    assert group[2].raft.log.committed == 1


def test_a_member_that_is_far_behind_is_sent_a_snapshot() -> None:
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    for text in "abcde":
        assert group.propose(1, text)
    group[1].snapshot()
    assert group.propose(1, "f")
    group.heal()
    group.tick(3)
    assert group[3].applied == ["a", "b", "c", "d", "e", "f"]
    assert group[3].storage.first_index() == 7
    assert group[1].raft.tracker.progress[3].state == REPLICATE


def test_a_snapshot_that_does_not_arrive_is_sent_again() -> None:
    group = Group(3)
    group.elect(1)
    group.isolate(3)
    for text in "abc":
        assert group.propose(1, text)
    group[1].snapshot()
    progress = group[1].raft.tracker.progress[3]
    group.cut = {(1, 3)}
    group[1].node.report_unreachable(3)
    group[3].node.step(Message(HEARTBEAT, 3, 1, 1))
    group.settle()
    assert progress.state == SNAPSHOTTING
    group.heal()
    group.tick(2)
    assert progress.state == SNAPSHOTTING, "nobody has said what became of it"
    group[1].node.report_snapshot(3, failed=True)
    assert progress.state == PROBE
    group.tick(2)
    assert group[3].applied == ["a", "b", "c"]


def test_a_snapshot_of_what_is_here_only_commits() -> None:
    group = Group(3)
    follower = group[2].node
    follower.step(_append(1, 0, 0, 1, 1, 1))
    group[2].handle()
    message = Message(7, 2, 1, 1)
    message.snapshot = Snapshot(2, 1, group[2].configuration, ["never taken"])
    follower.step(message)
    assert group[2].raft.log.committed == 2
    assert group[2].raft.log.last_index() == 3
    while group[2].handle():
        pass
    assert group[2].applied == ["1/1", "1/2"]


def test_an_old_snapshot_changes_nothing() -> None:
    group = Group(3)
    follower = group[2].node
    follower.step(_append(1, 0, 0, 1, 1, 1, commit=3))
    group[2].handle()
    group[2].outbox = []
    message = Message(7, 2, 1, 1)
    message.snapshot = Snapshot(2, 1, group[2].configuration, [])
    follower.step(message)
    assert group[2].handle()
    (answer,) = group[2].outbox
    assert (answer.index, answer.reject) == (3, False)


def test_the_disk_may_be_slow_and_is_told_everything_in_order() -> None:
    """Several readys before the first is saved; a leader that was deposed meanwhile counts nothing of its own."""
    group = Group(3)
    group.elect(1)
    leader = group[1]
    readies = []
    for text in "abc":
        leader.node.propose([Entry(NORMAL, text, 1)])
        ready = leader.node.ready()
        leader.storage.append(ready.entries)
        readies.append(ready)
    assert [[entry.index for entry in ready.entries] for ready in readies] == [[2], [3], [4]]
    leader.node.saved(readies[0])
    assert leader.raft.tracker.progress[1].match == 2
    leader.node.step(Message(HEARTBEAT, 1, 2, 7))
    assert leader.raft.role == FOLLOWER
    leader.node.saved(readies[1])
    assert leader.raft.log.committed == 1


def test_what_is_applied_at_once_is_bounded() -> None:
    options = Options()
    options.max_applying_bytes = 16
    group = Group(1, options)
    group.elect(1)
    node = group[1].node
    while group[1].handle():
        pass
    node.propose([Entry(NORMAL, str(at), 8) for at in range(6)])
    ready = node.ready()
    group[1].storage.append(ready.entries)
    node.saved(ready)
    first = node.ready().committed
    assert [entry.data for entry in first] == ["0", "1"]
    assert not node.has_ready()
    node.applied(first[0].index, 8)
    assert [entry.data for entry in node.ready().committed] == ["2"]
    assert not node.has_ready()
    node.applied(first[0].index + 2, 16)
    assert [entry.data for entry in node.ready().committed] == ["3", "4"]


def test_a_restart_applies_what_was_committed_once() -> None:
    group = Group(3)
    group.elect(1)
    for text in "abc":
        assert group.propose(1, text)
    group.tick(2)
    member = group[2]
    member.restart()
    assert member.raft.log.committed == 4
    while member.handle():
        pass
    assert member.applied == ["a", "b", "c"]
    assert group.propose(1, "d")
    assert member.applied == ["a", "b", "c", "d"]


def test_nobody_takes_a_message_of_a_term_that_has_passed() -> None:
    group = Group(3)
    group.elect(1)
    group.elect(1)
    assert group[1].raft.role == LEADER
    group[1].node.step(Message(HEARTBEAT, 1, 3, 5))
    assert group[1].raft.role == FOLLOWER
    group[1].node.ready()
    group[1].node.step(_append(2, 0, 0, 2, sender=2))
    ready = group[1].node.ready()
    assert ready.entries == []
    (answer,) = ready.responses
    assert (answer.kind, answer.term, answer.index) == (APPEND_RESPONSE, 5, 0), "so that the other learns of our term"
