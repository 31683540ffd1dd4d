"""The clock of a simulation, what its clients do, and how it ends.

Everything that happens is an event on one queue, ordered by its time in ticks, and every choice comes from one source
of random numbers: a seed is a history. When the faults have ended, the group must have one leader and apply what is
proposed.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from broker.raft.configuration import Configuration
from broker.raft.entry import NORMAL, Entry
from broker.raft.raft import LEADER, Options
from tests.simulation.disk import SimulatedLog
from tests.simulation.faults import Faults
from tests.simulation.machine import Commands, Machine, QueueLedger
from tests.simulation.member import Crashed, Member
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle, Violation

EVENTS: Final = 2000
SHOWN: Final = 40
LEDGERS: Final = 3
"""One in so many seeds has the ledger of a quorum queue for a state machine."""
PATIENCE: Final = 40
"""Election timeouts after the faults, within which a group must work again."""
TALK: Final = 20_000
"""Events after the faults, within the same time."""

Event = tuple[float, int, Callable[..., object], object]


class Broken(AssertionError):
    """A seed that has found something."""


class Plant(NamedTuple):
    """Mistakes of the disk or of the owner, for tests of the checks."""

    log: type[SimulatedLog] = SimulatedLog
    answers_early: bool = False


class Clients:
    """What they ask of the group, per tick."""

    def __init__(self, chance: random.Random) -> None:
        self.pause = chance.choice((0.5, 2.0, 8.0, 20.0))
        self.sizes = chance.choice(((1,), (1, 100), (1, 100, 5000)))
        self.reads = chance.choice((0.0, 0.2, 0.6))


def options_of(chance: random.Random) -> Options:
    """Mostly small limits, so that they matter."""
    options = Options(chance.choice((4, 5, 8)), chance.choice((1, 2, 3)), chance.random() < 0.9, chance.random() < 0.85)
    options.max_message_bytes = chance.choice((1, 300, 1 << 20))
    options.max_applying_bytes = chance.choice((1, 1000, 1 << 24))
    options.max_uncommitted_bytes = chance.choice((2000, 1 << 26))
    options.max_inflight_messages = chance.choice((1, 4, 256))
    options.max_inflight_bytes = chance.choice((400, 1 << 24))
    return options


class Simulation:
    """One seed."""

    def __init__(self, seed: int, events: int = EVENTS, plant: Plant = Plant()) -> None:  # noqa: B008 - never changes
        self.seed = seed
        self.events = events
        self.plant = plant
        self.chance = chance = random.Random(seed)
        self.now = 0.0
        self.count = 0
        """Events so far; a tick that leads to nothing is none."""
        self._queue: list[Event] = []
        self._order = 0
        self._last: deque[Event] = deque(maxlen=SHOWN)
        voters = chance.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 5))
        learners = chance.choice((0, 0, 0, 1))
        self.founded = Configuration(list(range(1, voters + 1)), list(range(voters + 1, voters + learners + 1)))
        self.options = options_of(chance)
        self.clients = Clients(chance)
        self.oracle = Oracle(self.founded)
        self.network = Network(self, chance)
        self.members: dict[int, Member] = self.oracle.members
        self.has_ledgers = seed % LEDGERS == LEDGERS - 1
        """Its snapshots go in slices."""
        self.slice_bytes = (10, 100, 1 << 20)[seed % 7 % 3] if self.has_ledgers else 0
        self._commands = 0
        self._ended = False
        self._wish = (0, 0)
        for number in self.founded.members():
            self.join(number)
        self.faults = Faults(self, chance)
        self.after(self.clients.pause, self.on_client, None)

    # -- Time

    def at(self, time: float, what: Callable[..., object], argument: object) -> None:
        """``what(argument)`` then."""
        self._order += 1
        heapq.heappush(self._queue, (time, self._order, what, argument))

    def after(self, ticks: float, what: Callable[..., object], argument: object) -> None:
        """The same from now on."""
        self._order += 1
        heapq.heappush(self._queue, (self.now + ticks, self._order, what, argument))

    def waiting(self) -> list[Event]:
        """What is going to happen."""
        return self._queue

    def run(self) -> Counter[str]:
        """Everything; counts of what has happened.

        Raises: Broken
        """
        try:
            self._run_to(lambda: self.count >= self.events)
            self._calm()
            deadline = self.now + self._patience() * int(self.options.election_tick)
            limit = self.count + TALK
            self._run_to(lambda: self._ended or self.now > deadline or self.count > limit)
            if self.count > limit:
                raise Violation("the faults have ended long ago, and the group does not come to rest")
            if not self._ended:
                raise Violation("the faults have ended long ago, and the group does not work")
        except Exception as error:
            raise Broken(self._told(error)) from error
        self.oracle.counts["events"] += self.count
        return self.oracle.counts

    def _patience(self) -> int:
        if self.options.pre_vote:
            return PATIENCE
        # a candidate of an old term comes to the others' term by one with each election
        terms = [member.log.synced_hard_state().term for member in self.members.values()]
        return PATIENCE + 2 * int(max(terms) - min(terms))

    def _run_to(self, end: Callable[[], bool]) -> None:
        queue = self._queue
        last = self._last.append
        pop = heapq.heappop
        while not end():
            event = pop(queue)
            self.now = event[0]
            self.count += 1
            last(event)
            try:
                event[2](event[3])
            except Crashed as crashed:
                self.faults.crash(crashed.member)

    def _told(self, error: Exception) -> str:
        lines = [f"seed {self.seed}, event {self.count}: {type(error).__name__}: {error}"]
        lines += [
            f"  {time:9.3f}  {what.__qualname__} {_said(what, argument)}" for time, _, what, argument in self._last
        ]
        lines += [f"  {member!r}" for member in self.members.values()]
        lines.append(f"  {self.oracle.configurations[-1]}, committed {self.oracle.committed}")
        return "\n".join(lines)

    # -- Members and clients

    def join(self, number: int) -> Member:
        """Another member starts, with an empty log."""
        log = self.plant.log(self.founded)
        machine: Machine = QueueLedger() if self.has_ledgers else Commands()
        member = Member(self, number, log, machine, self.options)
        member.answers_early = self.plant.answers_early
        self.members[number] = member
        return member

    def on_client(self, _: object) -> None:
        """A client asks for something, of whoever it knows."""
        chance = self.chance
        self.after(self.clients.pause * 2 * chance.random(), self.on_client, None)
        member = chance.choice(list(self.members.values()))
        if chance.random() < self.clients.reads:
            number = len(self.oracle.reads) + 1
            self.oracle.asked(number)
            member.call(lambda node: node.read_index(number))
        else:
            member.propose(self._entries(1 if chance.random() < 0.7 else 4))

    def _entries(self, count: int) -> list[Entry]:
        first = self._commands + 1
        self._commands += count
        sizes = self.clients.sizes
        return [Entry(NORMAL, number, self.chance.choice(sizes)) for number in range(first, first + count)]

    def somebody(self) -> Member | None:
        """Any member that is up."""
        up = [member for member in self.members.values() if member.is_up]
        return self.chance.choice(up) if up else None

    def leader(self) -> Member | None:
        """Whoever leads, in the latest term if there are several."""
        leaders = [member for member in self.members.values() if member.is_up and member.led_term]
        leaders = [member for member in leaders if member.raft.role == LEADER]
        return max(leaders, key=lambda member: member.raft.term, default=None)

    def leader_or_somebody(self) -> Member | None:
        """Rather the leader."""
        return self.leader() if self.chance.random() < 0.6 else self.somebody()

    # -- The end

    def _calm(self) -> None:
        self.network.calm()
        self.clients.pause = 4.0
        self.faults.end()
        self.after(0.0, self.on_wish, None)

    def on_wish(self, _: object) -> None:
        """Whether the group works: there is one leader, and what was proposed in his term was applied by everybody."""
        self.after(2.0, self.on_wish, None)
        self.faults.operator.retire()
        up = [member for member in self.members.values() if member.is_up]
        leaders = [member for member in up if member.raft.role == LEADER]
        if len(leaders) != 1:
            return
        leader = leaders[0]
        term, index = self._wish
        if term == leader.raft.term:
            belong = leader.raft.tracker.configuration.members()
            behind = [member for member in up if member.number in belong and member.applied_index < index]
            if not behind and all(member.log.is_whole() for member in up if member.number in belong):
                self._ended = True
                return
        if leader.propose(self._entries(1)) and term != leader.raft.term:
            self._wish = (leader.raft.term, leader.raft.log.last_index())


def _said(what: Callable[..., object], argument: object) -> str:
    owner = getattr(what, "__self__", None)
    return f"{owner.number} {argument}" if isinstance(owner, Member) else f"{argument}"
