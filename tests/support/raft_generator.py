"""Streams of events for tests/support/raft_stream.py, each from a seed. What happens next depends on what our core has
made of what happened before: messages come from what is under way, and leaders are asked more often than others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from broker.raft.message import PROPOSE, READ_INDEX, SNAPSHOT
from broker.raft.progress import SNAPSHOTTING
from broker.raft.raft import CANDIDATE, LEADER, PRE_CANDIDATE
from tests.support.raft_stream import MARKS, Member, World

UNIT: Final = 10_000
"""Bytes of an entry, or a multiple: far more than what encoding adds to all entries of a stream."""
MOST_UNDER_WAY: Final = 80


class Generator:
    """One stream, and a world to which it happens as it is made."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.first = self._options()
        self.world = World(self.first)
        self.lines = [self.first]
        self.answers = [self.world.answer(list(self.world.members.values()))]
        self.under_way: list[tuple[int, int, int]] = []
        self.cut: set[tuple[int, int]] = set()
        self._appended: set[int] = set()
        """Leaders that have not saved yet what they have appended."""
        self._reads = 0
        dice = self.dice
        self._laziness = dice.choice([0.0, 0.1, 0.4])
        self._losses = dice.choice([0.0, 0.02, 0.1, 0.3])
        self._doubles = dice.choice([0.0, 0.05, 0.2])
        self._echoes = dice.choice([0.0, 0.02, 0.1])
        self._disorder = dice.choice([0.0, 0.1, 0.5])
        self._haste = dice.choice([0.0, 0.05, 0.2])
        """How often somebody stands for election when nobody leads."""
        trouble = dice.choice([0.3, 1.0, 2.0])
        kinds: dict[Callable[[], str], float] = {
            self._arrive: 50.0,
            self._tick_all: dice.choice([2.0, 6.0, 12.0]),
            self._tick: dice.choice([1.0, 5.0]),
            self._propose: dice.choice([3.0, 12.0]),
            self._change: dice.choice([0.0, 2.0, 6.0]),
            self._campaign: 1.0 * trouble,
            self._transfer: dice.choice([0.0, 2.0]),
            self._read: dice.choice([0.0, 3.0]),
            self._compact: dice.choice([0.0, 2.0, 5.0]),
            self._report_snapshot: 1.5,
            self._report_unreachable: 1.0 * trouble,
            self._forget: dice.choice([0.0, 1.0]),
            self._restart: 1.0 * trouble,
            self._cut_or_heal: 1.0 * trouble,
            self._leave_behind: dice.choice([0.0, 1.0]),
            self._do: 3.0 if self._laziness else 0.0,
            self._flood: 1.5,
        }
        self._kinds = list(kinds)
        self._weights = list(kinds.values())

    def _options(self) -> str:
        dice = self.dice
        voters = dice.choice([1, 2, 2, 3, 3, 3, 3, 4, 5, 5])
        learners = dice.choice([0, 0, 1])
        count = voters + learners + dice.choice([0, 1, 2])
        election = dice.choice([3, 5, 10])
        message = dice.choice(["-", UNIT // 2, UNIT * 5 // 2])
        inflight_bytes = dice.choice(["-", "-", "-" if message == "-" else UNIT * 3])
        words = [
            count,
            ",".join(str(member + 1) for member in range(voters)),
            voters + 1 if learners else "-",
            dice.choice([0, 1, 1]),
            dice.choice([0, 1, 1]),
            election,
            dice.choice([1, 1, 2]),
            message,
            dice.choice(["-", "-", UNIT // 2, UNIT * 5 // 2]),
            dice.choice(["-", "-", UNIT * 3 // 2, UNIT * 7 // 2]),
            dice.choice([1, 2, 4, 256]),
            inflight_bytes,
            dice.randrange(1000),
        ]
        return "new " + " ".join(str(word) for word in words)

    def run(self, count: int) -> None:
        """So many events, or a few more."""
        while len(self.lines) <= count:
            (make,) = self.dice.choices(self._kinds, self._weights)
            if self.dice.random() < self._haste and not self._leaders():
                self._happen(self._campaign())
                make = self._flood
            line = make()
            if line:
                self._happen(line)

    def _happen(self, line: str, *, may_wait: bool = True) -> None:
        world = self.world
        words = line.split()
        kind, member = self._comes(words)
        if member is not None and ((kind == PROPOSE and member.number in self._appended) or kind == SNAPSHOT):
            self._happen(f"g {member.number}", may_wait=False)
        if member is not None and kind == READ_INDEX and self._answers_too_early(member):
            return
        touched = world.happen(words)
        mark = self._mark(line, touched[0]) if may_wait else ""
        world.do(mark, touched)
        for member in touched:
            if member.node.raft.log.last_index() == member.storage.last_index():
                self._appended.discard(member.number)
        self.lines.append(f"{mark} {line}" if mark else line)
        self.answers.append(world.answer(touched))
        for sender, to, at in world.newest:
            if (sender, to) not in self.cut and self.dice.random() >= self._losses:
                self.under_way.append((sender, to, at))
        world.newest.clear()
        while len(self.under_way) > MOST_UNDER_WAY:
            self.under_way.pop(0)

    def _mark(self, line: str, member: Member) -> str:
        """Whether what the member is to do waits (see tests/support/raft_stream.py)."""
        raft = member.node.raft
        if line == "T" or raft.role in (CANDIDATE, PRE_CANDIDATE) or self.dice.random() >= self._laziness:
            return ""
        if raft.role == LEADER and raft.log.last_index() != member.storage.last_index():
            self._appended.add(member.number)
        return self.dice.choice(MARKS)

    def _comes(self, words: list[str]) -> tuple[int, Member | None]:
        """What kind of message comes to whom in this event."""
        members = self.world.members
        if words[0] == "p":
            return PROPOSE, members[int(words[1])]
        if words[0] == "r":
            return READ_INDEX, members[int(words[1])]
        if words[0] == "d":
            sender, to, at = [int(word) for word in words[1:]]
            return self.world.sent[sender, to][at].kind, members[to]
        return 0, None

    def _answers_too_early(self, member: Member) -> bool:
        """Whether it leads alone, and does not know yet what is committed."""
        raft = member.node.raft
        return raft.role == LEADER and raft.tracker.is_single(member.number) and not raft.has_committed_in_term()

    # -- Whom

    def _anybody(self) -> int:
        return self.dice.randint(1, len(self.world.members))

    def _leaders(self) -> list[int]:
        return [number for number, member in self.world.members.items() if member.node.raft.role == LEADER]

    def _leader(self) -> int:
        """One that leads, if there is any, most times."""
        leaders = self._leaders()
        return self.dice.choice(leaders) if leaders and self.dice.random() < 0.8 else self._anybody()

    # -- What

    def _arrive(self) -> str:
        dice = self.dice
        if dice.random() < self._echoes:
            return self._echo()
        if not self.under_way:
            return ""
        at = dice.randrange(len(self.under_way))
        if dice.random() >= self._disorder:
            pair = self.under_way[at][:2]
            at = next(place for place, each in enumerate(self.under_way) if each[:2] == pair)
        chosen = self.under_way[at]
        if dice.random() >= self._doubles:
            del self.under_way[at]
        sender, to, number = chosen
        if (sender, to) in self.cut or self._is_for_a_stranger(chosen):
            return ""
        return f"d {sender} {to} {number}"

    def _echo(self) -> str:
        """Something that was sent at any time comes, perhaps again."""
        between = self.world.sent
        if not between:
            return ""
        pair = self.dice.choice(list(between))
        chosen = (*pair, self.dice.randrange(len(between[pair])))
        return "" if self._is_for_a_stranger(chosen) else "d {} {} {}".format(*chosen)

    def _is_for_a_stranger(self, chosen: tuple[int, int, int]) -> bool:
        """A snapshot for somebody who is not among its members."""
        sender, to, number = chosen
        message = self.world.sent[sender, to][number]
        if message.kind != SNAPSHOT or message.snapshot is None:
            return False
        return to not in message.snapshot.configuration.members()

    def _flood(self) -> str:
        """Everything that is under way arrives in its order, and what comes of it."""
        for _ in range(self.dice.randint(5, 40)):
            if self.under_way:
                chosen = self.under_way.pop(0)
                if chosen[:2] not in self.cut and not self._is_for_a_stranger(chosen):
                    self._happen("d {} {} {}".format(*chosen))
        return ""

    def _tick_all(self) -> str:
        return "T"

    def _tick(self) -> str:
        member = self._anybody()
        for _ in range(self.dice.choice([0, 0, 3, 12])):
            self._happen(f"t {member}")
        return f"t {member}"

    def _propose(self) -> str:
        if not self._leaders() and self.dice.random() < 0.9:
            return ""
        sizes = [self.dice.choice([0, 1, 1, 1, 2, 3]) * UNIT for _ in range(self.dice.choice([1, 1, 1, 2, 5]))]
        return f"p {self._leader()} " + " ".join(str(size) for size in sizes)

    def _change(self) -> str:
        changes = [self.dice.choice("++--*") + str(self._anybody()) for _ in range(self.dice.choice([1, 1, 1, 1, 2]))]
        if self.dice.random() < 0.2:
            changes.append(str(UNIT))
        return f"p {self._leader()} " + " ".join(changes)

    def _campaign(self) -> str:
        return f"h {self._anybody()}"

    def _transfer(self) -> str:
        return f"x {self._leader()} {self._anybody()}"

    def _read(self) -> str:
        self._reads += 1
        return f"r {self._leader()} {self._reads}"

    def _compact(self) -> str:
        return f"s {self._leader()}"

    def _report_snapshot(self) -> str:
        leader = self._leader()
        failed = self.dice.choice([0, 0, 1])
        for number, progress in self.world.members[leader].node.raft.tracker.progress.items():
            if progress.state == SNAPSHOTTING:
                return f"y {leader} {number} {failed}"
        return f"y {leader} {self._anybody()} {failed}" if self.dice.random() < 0.1 else ""

    def _report_unreachable(self) -> str:
        return f"u {self._leader()} {self._anybody()}"

    def _forget(self) -> str:
        return f"f {self._anybody()}"

    def _restart(self) -> str:
        member = self._anybody()
        self._appended.discard(member)
        return f"R {member} {self.dice.choice([0, 1])}"

    def _cut_or_heal(self) -> str:
        dice = self.dice
        if self.cut:
            self.cut.clear()
            return ""
        one = self._leader()
        for other in self.world.members:
            if dice.random() < 0.7:
                self.cut |= {(one, other)} if dice.random() < 0.3 else {(one, other), (other, one)}
        return ""

    def _leave_behind(self) -> str:
        """Somebody misses entries that are gone afterwards, and may not be heard of for an election timeout."""
        leader, other = self._leader(), self._anybody()
        self.cut |= {(leader, other), (other, leader)}
        for line in (f"p {leader} {UNIT}", f"p {leader} 0"):
            self._happen(line)
            self._flood()
        if self.dice.random() < 0.7:
            self._happen(f"u {leader} {other}")
        self._happen(f"g {leader}")
        for _ in range(self.world.options.election_tick * self.dice.choice([0, 1, 2])):
            self._happen(f"t {leader}")
            self._flood()
        self._happen(f"s {leader}")
        self._happen(f"p {leader} 0")
        if self.dice.random() < 0.5:
            self.cut.clear()
        return ""

    def _do(self) -> str:
        return f"g {self._anybody()}"
