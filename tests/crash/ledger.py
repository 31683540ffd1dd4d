"""What became of every message, as clients may know it; and which answers of a node would break a promise.

    message    attempted -> confirmed | nacked | returned, or unknown: the node died before it answered. Unknown
               messages may exist or not
    copy       the message in one queue: waiting -> delivered (how often) -> ack sent -> settled, once the node has
               promised something that came behind the ack on the same channel; until then a crash may bring the copy
               back
    group      what exists as a whole or not at all: the copies of one message, all messages of a transaction

The invariants, by the names that violations carry:

    I1 loss          confirmed, or seen after a restart, and not acknowledged: it is there. A group is there as a whole
                     or not at all
    I2 invention     what is delivered was published, with these bytes, to this queue
    I3 redelivery    a second delivery says redelivered; a first one does not, unless a crash lies between; what is
                     settled, or was seen to be absent, or need not survive a restart, never comes again
    I4 order         first deliveries of a publisher's messages come in the order of publishing (one consumer, no
                     priorities)
    I5 counts        the node's counts lie between what must and what can be there, and are what a drain then finds
    I7 restart       the node starts again, in bounded time
    I8 declarations  what was declared with -ok is there, what was deleted with -ok is not
    I9 no mistake    the node has met no exception that nobody expected

An *epoch* is the time between two starts of the node. Violations are collected, not raised: one cause shows itself in
several.
"""

from __future__ import annotations

import hashlib
import re
import struct
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

PREFIX: Final = struct.Struct(">4sQI")
MAGIC: Final = b"ledg"
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
MESSAGE_ID: Final = 1 << 7
HEADERS: Final = 1 << 13
COUNTS: Final = re.compile(rb"\x00\x00\x00\x34\x10x-delivery-countl.{8}\x10x-acquired-countl.{8}", re.DOTALL)
"""The headers of a message that had none when it was published."""


class Fate(Enum):
    """What the publisher was told."""

    ATTEMPTED = "attempted"
    CONFIRMED = "confirmed"
    NACKED = "nacked"
    RETURNED = "returned"
    UNKNOWN = "unknown"


class Violation(NamedTuple):
    """A broken promise."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Group:
    """Messages that exist as a whole or not at all."""

    __slots__ = ("absent", "exists", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.exists = ""
        """A copy that was seen after a crash, '' while there is none."""
        self.absent = ""
        """A copy that was seen to be missing."""


class Copy:
    """A message in one queue."""

    __slots__ = (
        "ack_epoch",
        "ack_sent_at",
        "certain",
        "dead_letter",
        "deliveries",
        "fetched",
        "message",
        "out",
        "queue",
        "transaction",
    )

    def __init__(self, message: Message, queue: str) -> None:
        self.message = message
        self.queue = queue
        self.deliveries = 0
        self.out = False
        """Delivered in this epoch, and neither acknowledged nor requeued since."""
        self.ack_sent_at = 0.0
        """When the last ack (or reject) was sent, monotonic; 0 while none was, and when it has come again."""
        self.ack_epoch = 0
        self.certain = False
        """It is on the disk, whatever its publisher was told: it was delivered in a later epoch than it was published
        in."""
        self.dead_letter = False
        """It is the copy of a message that was rejected somewhere else: it may be here, and then it is not there."""
        self.fetched = False
        """Delivered by the drain that is going on."""
        self.transaction: Group | None = None
        """Its ack belongs to this transaction: it is gone exactly when that has happened."""

    def __str__(self) -> str:
        return f"message {self.message.number} ({self.message}) in {self.queue}"


class Message:
    """One message."""

    __slots__ = (
        "copies", "epoch", "exchange", "fate", "group", "number", "persistent", "priority", "publisher", "routing_key",
        "settled", "size",
    )  # fmt: skip

    def __init__(self, number: int, publisher: str, group: Group, epoch: int, exchange: str, routing_key: str) -> None:
        self.number = number
        self.publisher = publisher
        self.group = group
        self.epoch = epoch
        self.exchange = exchange
        self.routing_key = routing_key
        self.persistent = True
        self.priority = 0
        self.size = PREFIX.size
        self.fate = Fate.ATTEMPTED
        self.copies: dict[str, Copy] = {}
        self.settled: tuple[str, ...] = ()
        """The queues that do not have it any more, for good."""

    def __str__(self) -> str:
        kind = "persistent" if self.persistent else "transient"
        return f"{kind}, {self.fate.value}, by {self.publisher} in epoch {self.epoch}, group {self.group.name}"

    def body(self) -> bytes:
        """Its body: number and size, and bytes that follow from them."""
        start = PREFIX.pack(MAGIC, self.number, self.size)
        pattern = hashlib.blake2b(start).digest()
        return (start + pattern * (self.size // len(pattern) + 1))[: self.size]

    def header(self) -> bytes:
        """The payload of its content header frame."""
        name = b"%d" % self.number
        flags = DELIVERY_MODE | PRIORITY | MESSAGE_ID
        mode = 2 if self.persistent else 1
        return struct.pack(">HHQHBBB", 60, 0, self.size, flags, mode, self.priority, len(name)) + name


def without_counts(header: bytes) -> bytes:
    """The payload of a content header frame, without the counts that a quorum queue has added and the table for
    them."""
    found = COUNTS.search(header)
    if found is None:
        return header
    flags = int.from_bytes(header[12:14], "big") & ~HEADERS
    return header[:12] + flags.to_bytes(2, "big") + header[14 : found.start()] + header[found.end() :]


class QueueRule(NamedTuple):
    """What the checker must know of a queue."""

    durable: bool = True
    ordered: bool = True
    """One consumer at a time and no priorities: I4 holds."""
    dead_letters_to: str = ""
    dead_letters: bool = False
    """Where rejected messages go: headers are added on the way."""
    limit: int = 0
    """x-max-length: what is too much goes to ``dead_letters_to``, nobody can say when."""


class Ledger:
    """Everything that is still of interest, and the violations found. Not thread safe."""

    def __init__(self, rules: Mapping[str, QueueRule], keeps_transient: bool = False) -> None:
        """``keeps_transient``: what is not persistent survives as well, as in quorum queues."""
        self.rules = dict(rules)
        self.keeps_transient = keeps_transient
        self.violations: list[Violation] = []
        self.epoch = 1
        self.last_crash = 0
        """The epoch that the last crash has ended: what was published later has exact redelivered flags."""
        self.messages: dict[int, Message] = {}
        self.copies: dict[str, dict[int, Copy]] = {name: {} for name in self.rules}
        """By queue and number: what may be in the queue."""
        self.next_number = 1
        self.counts: dict[str, int] = dict.fromkeys(("published", "confirmed", "delivered", "acked", "came again"), 0)
        self.oldest_repeated_ack_ms = 0.0
        """Of the acks that were lost in a crash, the age of the oldest one when it happened."""
        self._ended_at: dict[int, float] = {}
        self._last_first: dict[tuple[str, str], int] = {}

    def broken(self, invariant: str, text: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, f"epoch {self.epoch}: {text}"))

    # publishing

    def attempt(
        self,
        publisher: str,
        exchange: str,
        routing_key: str,
        queues: Iterable[str],
        *,
        persistent: bool = True,
        priority: int = 0,
        size: int = PREFIX.size,
        group: Group | None = None,
    ) -> Message:
        """A message that is about to be sent and reaches these queues."""
        number = self.next_number
        self.next_number += 1
        message = Message(number, publisher, group or Group(str(number)), self.epoch, exchange, routing_key)
        message.persistent = persistent
        message.priority = priority
        message.size = max(size, PREFIX.size)
        for queue in queues:
            self._add(message, queue)
            rule = self.rules[queue]
            if rule.limit:
                self._add(message, rule.dead_letters_to).dead_letter = True
        self.messages[number] = message
        self.counts["published"] += 1
        return message

    def _add(self, message: Message, queue: str) -> Copy:
        copy = Copy(message, queue)
        message.copies[queue] = copy
        self.copies[queue][message.number] = copy
        return copy

    def confirm(self, message: Message) -> None:
        """Its publisher was told that the node is responsible for it (basic.ack or tx.commit-ok)."""
        if message.fate is Fate.ATTEMPTED:
            message.fate = Fate.CONFIRMED
            self.counts["confirmed"] += 1
        elif message.fate is not Fate.RETURNED:
            self.broken("I2", f"answered twice: message {message.number} ({message})")

    def refuse(self, message: Message, fate: Fate) -> None:
        """Its publisher was told that no queue has it: a nack, or basic.return."""
        if message.fate is not Fate.ATTEMPTED:
            self.broken("I2", f"refused after an answer: message {message.number} ({message})")
        message.fate = fate
        for copy in list(message.copies.values()):
            self._forget(copy)

    # consuming

    def deliver(
        self, queue: str, exchange: str, routing_key: str, redelivered: bool, header: bytes, body: bytes
    ) -> Copy | None:
        """What a consumer of the queue, or basic.get, was given; None when nothing sensible can follow."""
        self.counts["delivered"] += 1
        found = PREFIX.unpack_from(body) if len(body) >= PREFIX.size else (b"", 0, 0)
        number = found[1]
        if found[0] != MAGIC or not 0 < number < self.next_number:
            self.broken("I2", f"never published: {body[:40]!r} in {queue}")
            return None
        copy = self.copies[queue].get(number)
        if copy is None:
            message = self.messages.get(number)
            if message is None or queue in message.settled:
                self.broken("I3", f"settled for good, or gone: message {number} in {queue}, redelivered {redelivered}")
            else:
                self.broken("I2", f"never for this queue: message {number} ({message}) in {queue}")
            return None
        self._check_content(copy, exchange, routing_key, header, body)
        self._check_flag(copy, redelivered)
        self._check_order(copy)
        if copy.ack_sent_at:
            self.counts["came again"] += 1
            if copy.transaction is not None:
                copy.transaction.absent = f"the ack of {copy}"
                self._check_group(copy.transaction)
                copy.transaction = None
            age_s = self._ended_at.get(copy.ack_epoch, copy.ack_sent_at) - copy.ack_sent_at
            self.oldest_repeated_ack_ms = max(self.oldest_repeated_ack_ms, age_s * 1000)
            copy.ack_sent_at = 0.0
            target = copy.message.copies.get(self.rules[queue].dead_letters_to)
            if target is not None and not self.rules[queue].limit:
                self._forget(target)  # the reject was lost, and so must be what it made
        copy.deliveries += 1
        copy.out = True
        if copy.message.epoch < self.epoch:
            copy.certain = True
            self._exists(copy)
        return copy

    def _check_content(self, copy: Copy, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        message = copy.message
        if body != message.body():
            self.broken("I2", f"another body: {copy}")
        if self.rules[copy.queue].dead_letters:
            return
        if without_counts(header) != message.header():
            self.broken("I2", f"other properties: {copy}, {header.hex()}")
        if (exchange, routing_key) != (message.exchange, message.routing_key):
            self.broken("I2", f"exchange {exchange!r} and routing key {routing_key!r}: {copy}")

    def _check_flag(self, copy: Copy, redelivered: bool) -> None:
        if copy.out:
            self.broken("I3", f"delivered while it is unacknowledged: {copy}")
        if copy.ack_sent_at and copy.ack_epoch == self.epoch:
            self.broken("I3", f"came again in the same epoch after an ack: {copy}")
        if copy.deliveries and not redelivered:
            self.broken("I3", f"redelivered is false the {copy.deliveries + 1}. time: {copy}")
        if redelivered and not copy.deliveries and copy.message.epoch > self.last_crash and not copy.dead_letter:
            self.broken("I3", f"redelivered is true the first time: {copy}")

    def _check_order(self, copy: Copy) -> None:
        if copy.deliveries or not self.rules[copy.queue].ordered:
            return
        key = (copy.message.publisher, copy.queue)
        if copy.message.number < self._last_first.get(key, 0):
            self.broken("I4", f"behind message {self._last_first[key]}: {copy}")
        self._last_first[key] = copy.message.number

    def ack(self, copy: Copy) -> None:
        """An ack is on its way."""
        copy.out = False
        copy.ack_sent_at = time.monotonic()
        copy.ack_epoch = self.epoch
        self.counts["acked"] += 1

    def ack_in(self, group: Group, copy: Copy) -> None:
        """An ack is on its way that counts when its transaction is committed, together with what that publishes."""
        self.ack(copy)
        copy.transaction = group

    def requeue(self, copy: Copy) -> None:
        """A nack or reject with requeue is on its way."""
        copy.out = False

    def reject(self, copy: Copy) -> None:
        """A reject without requeue is on its way: the message goes to the dead letter queue, and is in one of both."""
        self.ack(copy)
        target = self.rules[copy.queue].dead_letters_to
        if target and target not in copy.message.copies:
            self._add(copy.message, target).dead_letter = True

    def settle(self, copies: Iterable[Copy]) -> None:
        """The node has promised something that followed these acks: they are on the disk."""
        for copy in copies:
            if copy.ack_sent_at:
                rule = self.rules[copy.queue]
                target = copy.message.copies.get(rule.dead_letters_to)
                if target is not None and rule.limit:
                    self._forget(target)  # it was taken before it was too much
                elif target is not None:
                    target.certain = True
                self._forget(copy)

    def _forget(self, copy: Copy) -> None:
        message = copy.message
        message.copies.pop(copy.queue, None)
        message.settled += (copy.queue,)
        self.copies[copy.queue].pop(message.number, None)
        if not message.copies:
            self.messages.pop(message.number, None)

    # the end of an epoch

    def crash(self, at: float | None = None) -> None:
        """The node was killed, at this moment of the monotonic clock (now if it is not given)."""
        self._end_epoch(at)
        self.last_crash = self.epoch
        self.epoch += 1

    def stop(self) -> None:
        """The node has ended in order."""
        self._end_epoch(None)
        self.epoch += 1

    def _end_epoch(self, at: float | None) -> None:
        self._ended_at[self.epoch] = time.monotonic() if at is None else at
        for message in list(self.messages.values()):
            if message.fate is Fate.ATTEMPTED:
                message.fate = Fate.UNKNOWN
            for copy in list(message.copies.values()):
                copy.out = False
                survives = message.persistent or self.keeps_transient
                if not survives or not self.rules[copy.queue].durable:
                    self._forget(copy)

    # what must be there

    def must_exist(self, copy: Copy) -> bool:
        """Whether the copy cannot be missing."""
        if copy.ack_sent_at or self.rules[copy.queue].limit:
            return False
        if copy.certain or copy.dead_letter:
            return copy.certain
        return copy.message.fate is Fate.CONFIRMED or bool(copy.message.group.exists)

    def bounds(self, queue: str) -> tuple[int, int]:
        """How many messages the queue must hold at least and can hold at most."""
        copies = self.copies[queue].values()
        return sum(map(self.must_exist, copies)), len(copies)

    def check_count(self, queue: str, count: int, source: str) -> None:
        """The node says how many messages the queue holds, ready and unacknowledged."""
        least, most = self.bounds(queue)
        if not least <= count <= most:
            self.broken(
                "I5", f"{source} says {count} messages in {queue}, at least {least} and at most {most} can be there"
            )
        limit = self.rules[queue].limit
        if limit and count > limit:
            self.broken("I5", f"{source} says {count} messages in {queue}, which may have {limit}")

    def drain(self, *queues: str) -> None:
        """Everything in these queues was delivered since ``begin_drain``, and nothing is left: what was not seen is not
        there."""
        for queue in queues:
            for copy in list(self.copies[queue].values()):
                if not copy.fetched:
                    self._check_missing(copy)
        for queue in queues:
            for copy in list(self.copies[queue].values()):
                if not copy.fetched:
                    self._forget(copy)
        for queue in queues:
            self.settle(copy for copy in list(self.copies[queue].values()) if copy.fetched)

    def begin_drain(self, *queues: str) -> None:
        """Before the first delivery of a drain. A dead letter queue is drained together with the queue it belongs
        to."""
        for queue in queues:
            for copy in self.copies[queue].values():
                copy.fetched = False

    def _check_missing(self, copy: Copy) -> None:
        message = copy.message
        if self.must_exist(copy):
            self.broken("I1", f"lost: {copy}")
        elif copy.transaction is not None:
            # Otherwise neither it nor its ack may ever have been there.
            if message.fate is Fate.CONFIRMED or copy.certain:
                copy.transaction.exists = f"the ack of {copy}"
                self._check_group(copy.transaction)
        elif copy.ack_sent_at == 0 and not copy.dead_letter and not self.rules[copy.queue].limit:
            message.group.absent = str(copy)
            self._check_group(message.group)
        target = message.copies.get(self.rules[copy.queue].dead_letters_to)
        is_taken = copy.ack_sent_at > 0 and self.rules[copy.queue].limit > 0
        if (
            target is not None
            and not target.fetched
            and not is_taken
            and (message.fate is Fate.CONFIRMED or copy.certain)
        ):
            self.broken("I1", f"in neither queue after a reject, or when it was too much: {copy}")

    def fetch(self, copy: Copy) -> None:
        """A delivery of the drain that is going on."""
        if copy.fetched:
            self.broken("I3", f"twice in one drain: {copy}")
        copy.fetched = True
        other = copy.message.copies.get(self.rules[copy.queue].dead_letters_to)
        if other is None and copy.dead_letter:
            other = next((each for each in copy.message.copies.values() if each is not copy), None)
        if other is not None and other.fetched:
            self.broken("I2", f"in both queues after a reject: {copy}")

    def _exists(self, copy: Copy) -> None:
        if not copy.dead_letter:
            copy.message.group.exists = str(copy)
            self._check_group(copy.message.group)

    def _check_group(self, group: Group) -> None:
        if group.exists and group.absent:
            self.broken("I1", f"group {group.name} is there in part: {group.exists}; missing: {group.absent}")
            group.absent = ""
