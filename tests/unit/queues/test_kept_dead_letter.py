"""What a dead letter that stays waits for (broker/queues/kept_dead_letter.py)."""

from __future__ import annotations

from broker.destination import MessageTarget
from broker.native import i64
from broker.promises import PromiseSource, PromiseWaiter
from broker.queues.kept_dead_letter import KeptDeadLetter, LetterOwner


class Owner(LetterOwner):
    def __init__(self) -> None:
        self.said: list[str] = []

    def arrived(self, letter: KeptDeadLetter) -> None:
        self.said.append("arrived")

    def failed(self, letter: KeptDeadLetter) -> None:
        self.said.append("failed")


class Source(PromiseSource):
    def __init__(self) -> None:
        super().__init__(True)
        self.open = 1
        self.through = 0
        self.waiters: list[PromiseWaiter] = []

    def ticket(self) -> i64:
        return self.open

    def durable_through(self) -> i64:
        return self.through

    def when(self, ticket: i64, waiter: PromiseWaiter) -> None:
        assert ticket > self.through
        self.waiters.append(waiter)

    def keep(self) -> None:
        self.through = self.open
        self.open += 1
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.kept(self)


def letter_of(owner: Owner) -> KeptDeadLetter:
    letter = KeptDeadLetter(owner, 4, 7)
    letter.begin()
    return letter


def test_it_has_arrived_when_every_promise_is_kept() -> None:
    owner, one, other = Owner(), Source(), Source()
    letter = letter_of(owner)
    for name, source in (("a", one), ("b", other), ("c", one), ("d", None)):
        letter.offered(MessageTarget(name), False, source)
    letter.end()
    assert len(one.waiters) == 1
    one.keep()
    assert owner.said == []
    other.keep()
    assert owner.said == ["arrived"]


def test_a_promise_that_is_kept_already_is_not_waited_for() -> None:
    owner, source = Owner(), Source()
    source.through = 1
    letter = letter_of(owner)
    letter.offered(MessageTarget("a"), False, source)
    letter.end()
    assert owner.said == ["arrived"]


def test_one_that_refuses_makes_it_fail_and_the_others_do_not_get_it_again() -> None:
    owner, source = Owner(), Source()
    letter = letter_of(owner)
    a, b = MessageTarget("a"), MessageTarget("b")
    letter.offered(a, False, source)
    letter.offered(b, True, None)
    letter.end()
    assert owner.said == []
    source.keep()
    assert owner.said == ["failed"]
    assert (letter.has_it(a), letter.has_it(b), letter.was_sent) == (True, False, True)
    letter.begin()
    letter.offered(b, False, None)
    letter.end()
    assert owner.said == ["failed", "arrived"]


def test_a_source_that_ends_makes_it_fail_for_all() -> None:
    owner, source = Owner(), Source()
    letter = letter_of(owner)
    target = MessageTarget("a")
    letter.offered(target, False, source)
    letter.end()
    letter.lost(source)
    assert owner.said == ["failed"]
    assert not letter.has_it(target)


def test_without_a_target_it_fails_unless_it_goes_round_or_one_has_it() -> None:
    owner = Owner()
    letter_of(owner).end()
    assert owner.said == ["failed"]
    letter = letter_of(owner)
    letter.circle()
    letter.end()
    assert owner.said == ["failed", "arrived"]
    letter = letter_of(owner)
    letter.offered(MessageTarget("a"), False, None)
    letter.offered(MessageTarget("b"), True, None)
    letter.end()
    letter.begin()
    letter.end()
    assert owner.said == ["failed", "arrived", "failed", "arrived"], "the one that refused is bound no more"


def test_a_mistake_of_ours_makes_it_fail() -> None:
    owner = Owner()
    letter = letter_of(owner)
    letter.offered(MessageTarget("a"), False, None)
    letter.fail()
    assert owner.said == ["failed"]
