"""The operator of a simulated group: members come, change and go, and lost ones are replaced.

He loses no more than a group is promised to survive, which takes some knowledge of what everybody has on his disk.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from broker.raft.configuration import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange
from broker.raft.entry import CONF_CHANGE
from broker.raft.message import PROPOSE, Message
from tests.simulation.member import Member

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

MOST_MEMBERS = 7


class Operator:
    """Of one group."""

    def __init__(self, simulation: Simulation, chance: random.Random) -> None:
        self._simulation = simulation
        self._chance = chance
        self._next_member = max(simulation.founded.members()) + 1
        self._replaced: tuple[int, int] | None = None
        """A member that lost its disk, and the one that takes its place."""

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
        member = self._simulation.leader_or_somebody()
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
        member = self._simulation.somebody()
        if member is None or not self._may_lose(member):
            return
        member.crash()
        del self._simulation.members[member.number]
        self._replaced = (member.number, self._newcomer())
        self._simulation.after(3.0, self.on_operator, None)
        self._simulation.oracle.counts["disks lost"] += 1

    def damage_disk(self) -> None:
        """A record in the middle of a member's log is found damaged when it starts again."""
        member = self._simulation.somebody()
        if member is None or not self._may_lose(member):
            return
        self._simulation.faults.crash(member)
        if member.log.damage(self._chance):
            self._simulation.oracle.counts["disks damaged"] += 1

    def on_operator(self, _: object) -> None:
        """Goes on with the replacement of a member: learner, voter if the old one was, and away with the old one."""
        if self._replaced is None:
            return
        self._simulation.after(3.0, self.on_operator, None)
        leader = self._simulation.leader()
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
