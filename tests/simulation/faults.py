"""What goes wrong in a simulation, and what its operator does: crashes, partitions, slow disks, members that change."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from broker.raft.configuration import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange
from broker.raft.entry import CONF_CHANGE
from broker.raft.message import PROPOSE, Message
from broker.raft.raft import LEADER
from tests.simulation.member import POINTS, Member

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

WEIGHTS = {
    "crash_one": 4,
    "crash_all": 1,
    "crash_at_a_point": 6,
    "fail_sync": 1,
    "slow_disk": 4,
    "pause": 3,
    "split": 4,
    "isolate_leader": 4,
    "cut_one_way": 3,
    "weather": 4,
    "campaign": 2,
    "transfer": 5,
    "forget_leader": 1,
    "take_snapshot": 3,
    "change_members": 8,
    "lose_disk": 1,
    "damage_disk": 1,
}
MOST_MEMBERS = 7


class Faults:
    """One after the other, until they end."""

    def __init__(self, simulation: Simulation, chance: random.Random) -> None:
        self._simulation = simulation
        self._chance = chance
        self._pause = chance.choice((0.5, 1.5, 4.0, 10.0))
        """Ticks between two, on an average."""
        self._kinds = list(WEIGHTS)
        # some often and some hardly ever, so that what needs several of one kind happens in some of the seeds
        self._weights = [weight * chance.random() ** 3 for weight in WEIGHTS.values()]
        self._ended = False
        self._next_member = max(simulation.founded.members()) + 1
        self._replaced: tuple[int, int] | None = None
        """A member that lost its disk, and the one that takes its place."""
        self._splits = 0
        simulation.after(self._pause, self.on_fault, None)

    def end(self) -> None:
        """Nothing goes wrong any more, and what is down comes up."""
        self._ended = True
        simulation = self._simulation
        for member in simulation.members.values():
            member.crash_at = ""
            member.sync_fails = False
            member.sync_time = 0.1
            member.period = min(max(member.period, 0.9), 1.1)
            if not member.is_up:
                member.start()
            elif member.paused_until:
                simulation.after(0.0, member.on_resume, member.life)
            member.habits.defers = member.habits.apply_delay = 0.0

    def retire(self) -> None:
        """Removed members are shut down where they would disturb the others for as long as they run (section 4.2.3)."""
        simulation = self._simulation
        options = simulation.options
        if options.check_quorum and options.pre_vote:
            return
        belong = simulation.oracle.configurations[-1][1].members()
        newcomer = self._replaced[1] if self._replaced is not None else 0
        for member in list(simulation.members.values()):
            if member.number in belong or member.number == newcomer:
                continue
            if self._nothing_pends() and self._can_do_without(member):
                member.is_up = False
                del simulation.members[member.number]

    def on_fault(self, _: object) -> None:
        """The next one."""
        if self._ended:
            return
        self._simulation.after(self._pause * 2 * self._chance.random(), self.on_fault, None)
        kind = self._chance.choices(self._kinds, self._weights)[0]
        getattr(self, kind)()

    def _somebody(self) -> Member | None:
        up = [member for member in self._simulation.members.values() if member.is_up]
        return self._chance.choice(up) if up else None

    def _leader(self) -> Member | None:
        leaders = [member for member in self._simulation.members.values() if member.is_up and member.led_term]
        leaders = [member for member in leaders if member.raft.role == LEADER]
        return max(leaders, key=lambda member: member.raft.term, default=None)

    def _leader_or_somebody(self) -> Member | None:
        return self._leader() if self._chance.random() < 0.6 else self._somebody()

    # -- Crashes and disks

    def crash(self, member: Member) -> None:
        """It is down for a while."""
        simulation = self._simulation
        member.crash()
        simulation.oracle.counts["crashes"] += 1
        pause = self._chance.choice((0.1, 1.0, 5.0, 20.0)) * self._chance.random()
        simulation.after(0.1 if self._ended else pause, self.on_restart, (member, member.life))

    def on_restart(self, what: tuple[Member, int]) -> None:
        """It starts again."""
        member, life = what
        if not member.is_up and member.life == life and self._simulation.members.get(member.number) is member:
            member.start()

    def crash_one(self) -> None:
        """Anybody, rather the leader."""
        member = self._leader_or_somebody()
        if member is not None:
            self.crash(member)

    def crash_all(self) -> None:
        """The power of the whole house fails."""
        for member in self._simulation.members.values():
            if member.is_up:
                self.crash(member)

    def crash_at_a_point(self) -> None:
        """The next time that a member comes there."""
        member = self._leader_or_somebody()
        if member is not None:
            member.crash_at = self._chance.choice(POINTS)

    def fail_sync(self) -> None:
        """The next sync of a member fails, which ends it."""
        member = self._somebody()
        if member is not None:
            member.sync_fails = True

    def slow_disk(self) -> None:
        """Or a fast one again."""
        member = self._leader_or_somebody()
        if member is not None:
            member.sync_time = self._chance.choice((0.02, 0.1, 1.0, 5.0, 30.0))

    def pause(self) -> None:
        """A member does nothing for a while."""
        member = self._leader_or_somebody()
        if member is not None:
            member.pause(self._simulation.now + self._chance.choice((1.0, 5.0, 20.0)) * self._chance.random())

    # -- The network

    def split(self) -> None:
        """Two halves that do not hear each other, for a while."""
        numbers = list(self._simulation.members)
        side = {number for number in numbers if self._chance.random() < 0.5}
        self._cut({(one, other) for one in numbers for other in numbers if (one in side) != (other in side)})

    def isolate_leader(self) -> None:
        """The leader, perhaps with one more, on its own."""
        leader = self._leader()
        if leader is not None:
            numbers = list(self._simulation.members)
            side = {leader.number, self._chance.choice(numbers)}
            self._cut({(one, other) for one in numbers for other in numbers if (one in side) != (other in side)})

    def cut_one_way(self) -> None:
        """A member hears the others, or they hear it, but not both; or only one of them."""
        numbers = list(self._simulation.members)
        one = self._chance.choice(numbers)
        others = numbers if self._chance.random() < 0.5 else [self._chance.choice(numbers)]
        pairs = {(one, other) for other in others if other != one}
        self._cut(pairs if self._chance.random() < 0.5 else {(other, one) for one, other in pairs})

    def _cut(self, pairs: set[tuple[int, int]]) -> None:
        self._simulation.network.cut = pairs
        self._splits += 1
        self._simulation.after(
            self._chance.choice((2.0, 10.0, 40.0)) * self._chance.random(), self.on_heal, self._splits
        )

    def on_heal(self, split: int) -> None:
        """The cut is over, unless another one came."""
        if split == self._splits:
            self._simulation.network.cut = set()

    def weather(self) -> None:
        """How much is lost, doubled and late."""
        network = self._simulation.network
        chance = self._chance
        network.loss = chance.choice((0.0, 0.0, 0.02, 0.2))
        network.doubles = chance.choice((0.0, 0.05, 0.3))
        network.late = chance.choice((0.0, 0.02, 0.2))
        network.delay = chance.choice((0.05, 0.3, 1.5))

    # -- What an owner may ask for

    def campaign(self) -> None:
        """A member stands for election."""
        member = self._somebody()
        if member is not None:
            member.call(lambda node: node.campaign())

    def transfer(self) -> None:
        """A member should lead."""
        member = self._leader_or_somebody()
        target = self._somebody()
        if member is not None and target is not None:
            member.call(lambda node: node.transfer_leader(target.number))

    def forget_leader(self) -> None:
        """A member takes its leader for gone."""
        member = self._somebody()
        if member is not None:
            member.call(lambda node: node.forget_leader())

    def take_snapshot(self) -> None:
        """Of what a member has applied."""
        member = self._somebody()
        if member is not None and not member.paused_until:
            member.take_snapshot()

    # -- Members come and go

    def change_members(self) -> None:
        """Any change, proposed by the leader or by anybody."""
        if self._replaced is not None or not self._all_are_whole():
            return
        chance = self._chance
        configuration = self._simulation.oracle.configurations[-1][1]
        outside = [number for number in self._simulation.members if number not in configuration.members()]
        what = chance.random()
        if what < 0.25 and outside:
            change = ConfChange(ADD_LEARNER, chance.choice(outside))
        elif what < 0.4 and len(self._simulation.members) < MOST_MEMBERS:
            change = ConfChange(chance.choice((ADD_LEARNER, ADD_LEARNER, ADD_VOTER)), self._newcomer())
        elif what < 0.7 and configuration.learners and len(configuration.voters) < 5:
            change = ConfChange(ADD_VOTER, chance.choice(configuration.learners))
        elif what < 0.8 and configuration.learners:
            change = ConfChange(REMOVE, chance.choice(configuration.learners))
        elif len(configuration.voters) > 3 or (len(configuration.voters) == 3 and self._nothing_pends()):
            # of two voters none is removed: where the other one does not hear of it, neither can be elected
            change = ConfChange(chance.choice((ADD_LEARNER, REMOVE)), chance.choice(configuration.voters))
        else:
            return
        member = self._leader_or_somebody()
        if member is not None:
            member.call(lambda node: node.propose_conf_change(change))
        self._shut_down_one(outside)

    def _newcomer(self) -> int:
        number = self._next_member
        self._next_member += 1
        self._simulation.join(number)
        return number

    def _shut_down_one(self, outside: list[int]) -> None:
        """Of those that were removed, and went on running."""
        if len(outside) > 2 and self._nothing_pends():
            member = self._simulation.members[self._chance.choice(outside)]
            if self._can_do_without(member):
                member.is_up = False
                del self._simulation.members[member.number]

    def _nothing_pends(self) -> bool:
        """No change of the members is in a log or on its way."""
        simulation = self._simulation
        known = simulation.oracle.configurations[-1][0]
        sent: list[object] = [event[3][0] for event in simulation.waiting() if isinstance(event[3], tuple)]
        for member in simulation.members.values():
            if member.log.conf_changes(max(known, member.log.first_index() - 1)):
                return False
            sent += member.inbox
            if member.is_up:
                if any(entry.kind == CONF_CHANGE for entry in member.raft.log.unstable):
                    return False
                sent += member.raft.messages
        for message in sent:
            if isinstance(message, Message):
                for entry in message.entries:
                    if entry.kind == CONF_CHANGE and (message.kind == PROPOSE or entry.index > known):
                        return False
        return True

    def _can_do_without(self, member: Member) -> bool:
        """Whether the others that are voters now are a majority in every configuration that one of them may believe in
        when it starts: it may have forgotten that the last changes are committed, and those who are no voters any more
        refuse their votes if their logs are longer."""
        oracle = self._simulation.oracle
        members = self._simulation.members
        others = [number for number in oracle.configurations[-1][1].voters if number != member.number]
        known = min((oracle.logs[number].synced_hard_state().commit for number in others), default=0)
        believed = [oracle.configuration_at(known)]
        believed += [configuration for since, configuration in oracle.configurations if since > known]
        whole = [number for number in others if number in members and members[number].log.is_whole()]
        for configuration in believed:
            left = [number for number in whole if number in configuration.voters]
            if 2 * len(left) <= len(configuration.voters):
                return False
        return True

    # -- Disks are lost

    def _may_lose(self, member: Member) -> bool:
        """Whether the group is promised to survive it: all others are whole, and there are enough of them."""
        oracle = self._simulation.oracle
        configuration = oracle.configurations[-1][1]
        voters = configuration.voters
        if self._replaced is not None or member.number not in configuration.members():
            return False
        if not self._can_do_without(member):
            return False
        if not self._all_are_whole() or not self._nothing_pends():
            return False
        have = [number for number in voters if oracle.logs[number].has_synced(oracle.committed, oracle.terms[-1])]
        return 2 * len(have) > len(voters)

    def _all_are_whole(self) -> bool:
        return all(member.log.is_whole() for member in self._simulation.members.values())

    def lose_disk(self) -> None:
        """A member's disk is gone: another member, with a number of its own, takes its place."""
        member = self._somebody()
        if member is None or not self._may_lose(member):
            return
        member.crash()
        del self._simulation.members[member.number]
        self._replaced = (member.number, self._newcomer())
        self._simulation.after(3.0, self.on_operator, None)
        self._simulation.oracle.counts["disks lost"] += 1

    def damage_disk(self) -> None:
        """A record in the middle of a member's log is found damaged when it starts again."""
        member = self._somebody()
        if member is None or not self._may_lose(member):
            return
        self.crash(member)
        if member.log.damage(self._chance):
            self._simulation.oracle.counts["disks damaged"] += 1

    def on_operator(self, _: object) -> None:
        """Goes on with the replacement of a member: learner, voter if the old one was, and away with the old one."""
        if self._replaced is None:
            return
        self._simulation.after(3.0, self.on_operator, None)
        leader = self._leader()
        if leader is None:
            return
        lost, new = self._replaced
        configuration = self._simulation.oracle.configurations[-1][1]
        if new not in configuration.members():
            if lost not in configuration.members():
                self._replaced = None  # the newcomer was removed again, and belongs to nobody's plan
                return
            change = ConfChange(ADD_LEARNER, new)
        elif lost in configuration.voters and new not in configuration.voters:
            change = ConfChange(ADD_VOTER, new)
        elif lost in configuration.members():
            change = ConfChange(REMOVE, lost)
        else:
            self._replaced = None
            return
        leader.call(lambda node: node.propose_conf_change(change))
