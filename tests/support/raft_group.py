"""Members of one Raft group in one process, and what they send each other in the hands of a test."""

from __future__ import annotations

from broker.native import i64
from broker.raft.configuration import Configuration, decode_conf_change
from broker.raft.entry import CONF_CHANGE, NORMAL, Entry
from broker.raft.message import Message, Snapshot
from broker.raft.raft import LEADER, Options, Raft, Randomness
from broker.raft.raw_node import RawNode
from broker.raft.storage import HardState, InitialState, MemoryStorage


class Constant(Randomness):
    """Always the same number, or the largest that is asked for."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def below(self, limit: i64) -> i64:
        return min(self.number, limit - 1)


class Member:
    """A member with its disk, which is as fast as the test says: ``save`` is called for it, or not."""

    def __init__(
        self, number: int, configuration: Configuration, options: Options, randomness: Randomness | None = None
    ) -> None:
        self.number = number
        self.options = options
        self.randomness = randomness or Constant()
        self.storage = MemoryStorage(InitialState(HardState(), configuration))
        self.configuration = configuration
        self.applied: list[object] = []
        """The data of what it has applied, as the state machine would have it."""
        self.node = RawNode(number, self.storage, 0, options, self.randomness)
        self.outbox: list[Message] = []
        self.hard_state = HardState()
        self.applied_index = 0

    @property
    def raft(self) -> Raft:
        """The core of this member."""
        return self.node.raft

    def handle(self) -> bool:
        """One ready, saved at once. Whether there was one."""
        node = self.node
        if not node.has_ready():
            return False
        ready = node.ready()
        if ready.snapshot is not None:
            self.storage.install(ready.snapshot)
            self.configuration = ready.snapshot.configuration
            state = ready.snapshot.data
            assert isinstance(state, list)
            self.applied = state[:]
            self.applied_index = ready.snapshot.index
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        self.outbox += ready.messages
        for entry in ready.committed:
            self._apply(entry)
        node.saved(ready)
        self.outbox += ready.responses
        return True

    def _apply(self, entry: Entry) -> None:
        if entry.kind == CONF_CHANGE:
            assert isinstance(entry.data, bytes)
            self.configuration = self.node.apply_conf_change(decode_conf_change(entry.data))
        elif entry.data is not None:
            self.applied.append(entry.data)
        self.applied_index = entry.index
        self.node.applied(entry.index, entry.size)

    def snapshot(self) -> Snapshot:
        """What stands for everything that was applied; the entries are let go."""
        index = self.applied_index
        taken = Snapshot(index, self.storage.term(index), self.configuration, self.applied[:])
        self.storage.compact(taken)
        return taken

    def restart(self) -> None:
        """Everything but the disk is lost."""
        self.storage.set_state(InitialState(self.hard_state, self.configuration))
        self.node = RawNode(self.number, self.storage, self.applied_index, self.options, self.randomness)
        self.outbox = []


class Group:
    """The members, and a network that loses what is sent between the pairs in ``cut``."""

    def __init__(self, voters: int = 3, options: Options | None = None, learners: int = 0) -> None:
        self.options = options or Options()
        numbers = list(range(1, voters + 1))
        configuration = Configuration(numbers, list(range(voters + 1, voters + learners + 1)))
        self.founded = configuration
        self.members = {
            number: Member(number, configuration, self.options, Constant(number)) for number in configuration.members()
        }
        self.cut: set[tuple[int, int]] = set()
        self.lost: list[Message] = []

    def __getitem__(self, number: int) -> Member:
        return self.members[number]

    def add(self, number: int) -> Member:
        """A member that knows with whom the group was founded, and does not belong to it yet."""
        member = Member(number, self.founded, self.options, Constant(number))
        self.members[number] = member
        return member

    def settle(self, rounds: int = 200) -> None:
        """Until nothing is left to be done or sent."""
        for _ in range(rounds):
            busy = False
            for member in self.members.values():
                while member.handle():
                    busy = True
            for member in list(self.members.values()):
                sent, member.outbox = member.outbox, []
                for message in sent:
                    busy = True
                    self.deliver(message)
            if not busy:
                return
        raise AssertionError("the group does not come to rest")

    def deliver(self, message: Message) -> None:
        """To whom it is for, unless the network is cut there."""
        if (message.sender, message.to) in self.cut or message.to not in self.members:
            self.lost.append(message)
        else:
            self.members[message.to].node.step(message)

    def tick(self, count: int = 1) -> None:
        """Time passes for everybody at once."""
        for _ in range(count):
            for member in self.members.values():
                member.node.tick()
            self.settle()

    def isolate(self, number: int) -> None:
        """Nothing comes to it or from it."""
        for other in self.members:
            self.cut |= {(number, other), (other, number)}

    def heal(self) -> None:
        """Everybody hears everybody again."""
        self.cut.clear()

    def elect(self, number: int) -> Member:
        """This one becomes the leader, if the others want it to."""
        self.members[number].node.campaign()
        self.settle()
        return self.members[number]

    def leaders(self) -> list[int]:
        """Who thinks that it leads."""
        return [number for number, member in self.members.items() if member.raft.role == LEADER]

    def propose(self, number: int, *data: str) -> bool:
        """Each is an entry."""
        accepted = self.members[number].node.propose([Entry(NORMAL, text, len(text)) for text in data])
        self.settle()
        return accepted
