"""A group of which a test lets only some members go on (tests/unit/raft/test_situations.py)."""

from __future__ import annotations

from broker.raft.entry import NORMAL, Entry
from broker.raft.message import Message
from broker.raft.raft import Options
from tests.support.raft_group import Group


def plain() -> Options:
    """Neither asked beforehand, nor leases."""
    return Options(check_quorum=False, pre_vote=False)


class Situation(Group):
    """A group of which only some go on, while what is sent to the others waits."""

    def __init__(self, voters: int = 3, options: Options | None = None, learners: int = 0) -> None:
        super().__init__(voters, options, learners)
        self.delivered: list[Message] = []

    def deliver(self, message: Message) -> None:
        self.delivered.append(message)
        super().deliver(message)

    def among(self, *numbers: int) -> None:
        """These go on until nothing is left for them."""
        busy = True
        while busy:
            busy = False
            for number in numbers:
                while self[number].handle():
                    busy = True
                sent, self[number].outbox = self[number].outbox, []
                for message in sent:
                    if message.to in numbers:
                        busy = True
                        self.deliver(message)
                    else:
                        self[number].outbox.append(message)

    def drop(self, *numbers: int) -> None:
        """What waits for these is lost."""
        for member in self.members.values():
            member.outbox = [message for message in member.outbox if message.to not in numbers]

    def waiting(self, number: int) -> list[Message]:
        """What waits for this one."""
        return [message for member in self.members.values() for message in member.outbox if message.to == number]

    def ask(self, number: int, *data: str) -> bool:
        """Entries are proposed, each alone, and nothing is done yet."""
        return all(self[number].node.propose([Entry(NORMAL, text, len(text))]) for text in data)

    def terms(self, number: int) -> list[int]:
        """Of all entries on the disk of this one."""
        storage = self[number].storage
        return [storage.term(index) for index in range(storage.first_index(), storage.last_index() + 1)]
