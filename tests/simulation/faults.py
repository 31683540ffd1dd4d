"""What goes wrong in a simulation: crashes, partitions, slow disks, and what its operator does at a bad moment."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.member import POINTS, Member
from tests.simulation.operator import Operator

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
        self.operator = Operator(simulation, chance)
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

    def on_fault(self, _: object) -> None:
        """The next one."""
        if self._ended:
            return
        self._simulation.after(self._pause * 2 * self._chance.random(), self.on_fault, None)
        kind = self._chance.choices(self._kinds, self._weights)[0]
        getattr(self if hasattr(self, kind) else self.operator, kind)()

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
        member = self._simulation.leader_or_somebody()
        if member is not None:
            self.crash(member)

    def crash_all(self) -> None:
        """The power of the whole house fails."""
        for member in self._simulation.members.values():
            if member.is_up:
                self.crash(member)

    def crash_at_a_point(self) -> None:
        """The next time that a member comes there."""
        member = self._simulation.leader_or_somebody()
        if member is not None:
            member.crash_at = self._chance.choice(POINTS)

    def fail_sync(self) -> None:
        """The next sync of a member fails, which ends it."""
        member = self._simulation.somebody()
        if member is not None:
            member.sync_fails = True

    def slow_disk(self) -> None:
        """Or a fast one again."""
        member = self._simulation.leader_or_somebody()
        if member is not None:
            member.sync_time = self._chance.choice((0.02, 0.1, 1.0, 5.0, 30.0))

    def pause(self) -> None:
        """A member does nothing for a while."""
        member = self._simulation.leader_or_somebody()
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
        leader = self._simulation.leader()
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
        member = self._simulation.somebody()
        if member is not None:
            member.call(lambda node: node.campaign())

    def transfer(self) -> None:
        """A member should lead."""
        member = self._simulation.leader_or_somebody()
        target = self._simulation.somebody()
        if member is not None and target is not None:
            member.call(lambda node: node.transfer_leader(target.number))

    def forget_leader(self) -> None:
        """A member takes its leader for gone."""
        member = self._simulation.somebody()
        if member is not None:
            member.call(lambda node: node.forget_leader())

    def take_snapshot(self) -> None:
        """Of what a member has applied."""
        member = self._simulation.somebody()
        if member is not None and not member.paused_until:
            member.take_snapshot()
