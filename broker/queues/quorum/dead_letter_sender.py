"""Sends the dead letters that stay in a quorum queue until all their targets have them (RabbitMQ docs, Quorum Queues,
Dead Lettering: at-least-once).

    order      nobody has begun with them: ranges (death_order.py)
    unread     begun, at most 32 with all that follow; the content is on the disk
    ready      the content is at hand
    (sent)     the host has it, or targets have not confirmed it yet
    failed     a target has refused it, or it leads nowhere: read and sent again after three minutes, or when what it
               may lead to has changed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock, Timed, Timer
from broker.message import ON_DISK
from broker.native import i64
from broker.queues.block import message_of
from broker.queues.kept_dead_letter import KeptDeadLetter, LetterOwner
from broker.queues.quorum.death_order import DeathOrder
from broker.queues.quorum.values import DEAD, REASONS, reason_of, state_of
from broker.queues.stored import read_head, read_message
from broker.store.log import LogUser
from broker.store.logs import Logs
from broker.turn import SlicedWork, Turn

if TYPE_CHECKING:
    from broker.queues.quorum.queue import QuorumQueue

IN_FLIGHT_MAX: Final = 32
"""RabbitMQ's dead_letter_worker_consumer_prefetch."""
RETRY_MS: Final[i64] = 180_000
"""RabbitMQ's dead_letter_worker_publisher_confirm_timeout."""
CHANGED_MS: Final[i64] = 1000
"""So long after a change of exchanges, queues or bindings: many changes are one."""
_READ_BYTES: Final[i64] = 1 << 20
_SPAN: Final[i64] = 256
"""So many positions are read at a time, at the most: there may be others between those that are wanted."""


@final
class _Reading(LogUser):
    """A read of some of them, all of one level."""

    def __init__(self, sender: DeadLetterSender, letters: list[KeptDeadLetter]) -> None:
        self.sender: DeadLetterSender | None = sender
        """None once nobody wants them any more."""
        self.letters = letters
        self.found: dict[int, KeptDeadLetter] = {}
        """Those that the disk has, by position."""
        self._wanted = {int(letter.position): letter for letter in letters}

    def durable(self) -> None:
        """Of no interest: everything that is asked for is on the disk."""

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        letter = self._wanted.get(int(position))
        if letter is not None:
            self.found[int(position)] = letter
            letter.message = read_message(data, start, end, b"")

    def large_record(self, position: i64, head: bytes, content: bytes) -> None:
        letter = self._wanted.get(int(position))
        if letter is not None:
            self.found[int(position)] = letter
            letter.message = read_head(head, 0, content, b"")

    def loaded(self, through: i64) -> None:
        if self.sender is not None:
            self.sender.read(self, through)


@final
class _Sending(SlicedWork):
    def __init__(self, sender: DeadLetterSender) -> None:
        self._sender = sender

    def step(self) -> bool:
        return self._sender.send()


@final
class _Retry(Timed):
    def __init__(self, sender: DeadLetterSender) -> None:
        self._sender = sender

    def on_timer(self, now_ms: i64) -> None:
        self._sender.retry()


@final
class DeadLetterSender(LetterOwner):
    """Of one queue."""

    def __init__(self, queue: QuorumQueue, logs: Logs | None, clock: Clock, turn: Turn) -> None:
        self.order = DeathOrder()
        """Those that nobody has begun with; whoever adds some calls ``wake``."""
        self._queue = queue
        self._logs = logs
        self._clock = clock
        self._turn = turn
        self._begun: dict[KeptDeadLetter, None] = {}
        self._unread: list[KeptDeadLetter] = []
        self._reading: _Reading | None = None
        self._ready: list[KeptDeadLetter] = []
        self._failed: list[KeptDeadLetter] = []
        self._timer: Timer | None = None
        self._is_awake = False

    def wake(self) -> None:
        """There may be something to do, from the next turn on."""
        if not self._is_awake:
            self._is_awake = True
            self._turn.begin(_Sending(self))

    def send(self) -> bool:
        """Send what is there, as far as the slice of the turn goes; whether it is all that can be sent now."""
        while True:
            while self._ready:
                letter = self._ready.pop(0)
                letter.begin()
                try:
                    self._queue.host.send_dead_letter(self._queue, letter)
                except Exception as error:
                    self._clock.faults.caught("dead letter", None, error)
                    letter.fail()
                if self._turn.out_of_time():
                    return False
            self._begin()
            if self._reading is not None or not self._unread:
                break
            self._read()
            if self._turn.out_of_time():
                return False
        self._is_awake = False
        return True

    def _begin(self) -> None:
        """Take as many from the order as may be under way."""
        order = self.order
        while len(self._begun) < IN_FLIGHT_MAX and order.take():
            value = self._queue.replica.ledger.value_at(order.level, order.position)
            if state_of(value) == DEAD:
                letter = KeptDeadLetter(self, order.level, order.position)
                letter.reason = REASONS[reason_of(value)]
                self._begun[letter] = None
                self._unread.append(letter)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the first that are not read, as many as stand near each other."""
        logs = self._logs
        if logs is None:
            self._take_at_hand()
            return
        unread = self._unread
        level = unread[0].level
        lowest = unread[0].position
        highest = lowest
        count: i64 = 1
        while count < len(unread):
            letter = unread[count]
            low = letter.position if letter.position < lowest else lowest
            high = letter.position if letter.position > highest else highest
            if letter.level != level or high - low >= _SPAN:
                break
            lowest = low
            highest = high
            count += 1
        reading = _Reading(self, unread[:count])
        del unread[:count]
        self._reading = reading
        logs.read(self._queue.replica.contents(level), lowest, highest + 1, _READ_BYTES, reading)

    def _take_at_hand(self) -> None:
        """On a node that keeps nothing on disk all contents are in memory."""
        unread = self._unread
        self._unread = []
        for letter in unread:
            message = message_of(self._queue.backlog_at(letter.level).table.item(letter.position))
            if message is None:
                self._finish(letter)
            else:
                letter.message = message
                letter.body_bytes = message.body_size
                self._ready.append(letter)

    def read(self, reading: _Reading, through: i64) -> None:
        """A read is over: of what stands below this position, nothing is left to be read."""
        self._reading = None
        left: list[KeptDeadLetter] = []
        for letter in reading.letters:
            if letter.message is not ON_DISK:
                letter.body_bytes = letter.message.body_size
                self._ready.append(letter)
            elif int(letter.position) in reading.found:
                self.failed(letter)  # by a mistake of ours
            elif letter.position >= through:
                left.append(letter)
            else:
                self._finish(letter)  # its content is lost, and the log has told so
        self._unread = left + self._unread
        self.wake()

    # ---- sent --------------------------------------------------------------------------------------------------------

    def arrived(self, letter: KeptDeadLetter) -> None:
        if letter in self._begun:
            self._queue.host.dead_letters_arrived(1)
            self._finish(letter)
            self.wake()

    def _finish(self, letter: KeptDeadLetter) -> None:
        """It need not stay any more."""
        del self._begun[letter]
        keeper = self._queue.keeper
        if keeper is not None:
            keeper.confirm(letter.level, letter.position, letter.body_bytes)

    def failed(self, letter: KeptDeadLetter) -> None:
        if letter in self._begun:
            letter.message = ON_DISK
            self._failed.append(letter)
            self._arm(RETRY_MS)
            self._queue.host.await_routes(self._queue)

    def _arm(self, wait_ms: i64) -> None:
        self._timer = self._clock.call_by(self._clock.now_ms + wait_ms, _Retry(self), self._timer)

    def routes_changed(self) -> None:
        """Those that have failed may lead somewhere else now."""
        if self._failed:
            self._arm(CHANGED_MS)

    def retry(self) -> None:
        """Those that have failed are sent again."""
        self._timer = None
        self._unread += self._failed
        self._failed = []
        self.wake()

    def clear(self) -> None:
        """Nobody wants any of them any more."""
        self.order.clear()
        self._begun = {}
        self._unread = []
        self._ready = []
        self._failed = []
        if self._reading is not None:
            self._reading.sender = None
            self._reading = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
