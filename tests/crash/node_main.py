"""A node whose log turns round early, for crash tests; and one with a planted mistake, for testing the tests. Run by
path, not imported.

    python node_main.py [--plant NAME] [--wal-file BYTES] [--segment BYTES] [--memory BYTES] [--mark-ahead N]
        [--slow-disk MS] serve OPTIONS

Small files, little memory and short marks make common what is rare: the end of a file, moving, paging, marks. Constants
of compiled modules are part of the code: there, only the sizes of files change anything. Mistakes are planted by
replacing functions, so that needs the uncompiled package (the checkout on the path).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from broker.metadata.changes import DurableExchange, DurableQueue
from broker.metadata.journal import Journal
from broker.promises import PromiseSources
from broker.protocol import dispatch, exchange_methods, queue_methods, tx_methods
from broker.protocol import publisher as publisher_module
from broker.protocol.channel import Channel
from broker.protocol.publisher import Publisher
from broker.queues import dead_letter, disk_backlog, dropping, length_limit, read_back, redelivery_mark, requeued
from broker.queues.classic import ClassicQueue
from broker.queues.queue_log import QueueLog
from broker.store.batch import Batch
from broker.store.compactor import Compactor
from broker.store.compactor_options import CompactorOptions
from broker.store.log import Log
from broker.store.real_filesystem import RealFile
from broker.store.recovery import Recovery
from broker.store.wal_writer import WalOptions, WalWriter
from broker.vhost.bindings import Bindings
from broker.vhost.publishing import REFUSED
from broker.vhost.vhost import VHost
from broker.wire import spec

PLANTS: Final[dict[str, Callable[[], None]]] = {}


def plant(function: Callable[[], None]) -> Callable[[], None]:
    """Register a mistake under the name of its function."""
    PLANTS[function.__name__] = function
    return function


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` in the place of `owner.name`."""
    setattr(owner, name, make(getattr(owner, name)))


class Later:
    """What a timer of the node calls."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_timer(self, _now_ms: int) -> None:
        """It is time."""
        self.call()


@plant
def confirm_before_sync() -> None:
    """A message is confirmed when its queue has it."""

    def make(publish: Any) -> Any:
        def patched(*arguments: Any) -> int:
            return int(publish(*arguments)) & int(REFUSED)

        return patched

    replace(publisher_module, "publish", make)


@plant
def commit_ok_before_sync() -> None:
    """tx.commit-ok leaves with the turn."""

    def patched(channel: Channel, answer: bytes, *_: Any) -> None:
        channel.session.send(answer)

    replace(tx_methods, "answer_when_durable", lambda _: patched)


@plant
def transaction_in_two_batches() -> None:
    """The messages of a transaction are appended one by one, each with a batch of its own if the writer is free."""

    def make(carry_out: Any) -> Any:
        def patched(self: Publisher, channel: Channel, pending: Any, promised_by: Any) -> Any:
            accepted = carry_out(self, channel, pending, promised_by)
            for target in pending.targets:
                for disk in target.disks():
                    disk._logs.batch.sync()
            return accepted

        return patched

    replace(Publisher, "carry_out", make)


@plant
def transaction_without_its_acks() -> None:
    """tx.commit-ok covers the messages of the transaction only; what it acknowledges is settled a little later."""

    def make(carry_out_acks: Any) -> Any:
        def patched(self: Channel, runs: Any) -> None:
            later: Any = Later(lambda: carry_out_acks(self, runs))
            clock = self.session.clock
            clock.call_at(clock.now_ms + 15, later)

        return patched

    replace(Channel, "carry_out_acks", make)


@plant
def settled_before_dead_lettered() -> None:
    """A rejected message leaves its queue at once, and comes to the dead letter queue a little later."""

    def make(dead_letter: Any) -> Any:
        def patched(self: VHost, queue: Any, message: Any, reason: str) -> None:
            later: Any = Later(lambda: dead_letter(self, queue, message, reason))
            clock = self.dead_letters.clock
            clock.call_at(clock.now_ms + 15, later)

        return patched

    replace(VHost, "dead_letter", make)


@plant
def dropped_not_settled() -> None:
    """What a length limit drops goes to the dead letter queue, and stays where it was as well."""

    drop_head = dropping.drop_head

    def patched(queue: ClassicQueue, level: Any, reason: str) -> None:
        if reason == "maxlen":
            queue.host.dead_letter(queue, level.pop(True).message, reason)
        else:
            drop_head(queue, level, reason)

    vars(length_limit)["drop_head"] = patched


@plant
def purge_forgets_what_came_back() -> None:
    """What was delivered before and came back is purged in memory only."""
    replace(requeued.Dropping, "step", lambda _: lambda _dropping: True)


@plant
def dead_letters_transient() -> None:
    """A dead letter does not survive the node."""

    def make(death: Any) -> Any:
        def patched(*arguments: Any) -> Any:
            made = death(*arguments)
            made.message.persistent = False
            return made

        return patched

    replace(dead_letter, "_death", make)


@plant
def rollback_publishes() -> None:
    """What a transaction has published reaches its queues though it is rolled back."""

    def patched(channel: Channel, method: Any) -> None:
        assert channel.transaction is not None
        for pending in channel.transaction.pending:
            channel.publishing().carry_out(channel, pending, PromiseSources())
        tx_methods.tx_rollback(channel, method)

    dispatch.HANDLERS[spec.TX_ROLLBACK] = patched


@plant
def mark_not_written() -> None:
    """Deliveries do not wait for the mark that tells the next start of them."""

    def patched(self: redelivery_mark.RedeliveryMark, log: Log, position: int) -> None:
        note = log.own_note()
        note.value = note.durable = position + redelivery_mark.MARK_AHEAD

    replace(redelivery_mark.RedeliveryMark, "_move", lambda _: patched)


@plant
def mark_covers_what_comes_later() -> None:
    """What is published after a restart, and read back from the disk, says redelivered if the mark of the time before
    reaches it."""

    def make(recover: Any) -> Any:
        def patched(self: QueueLog) -> None:
            recover(self)
            assert self.log is not None
            self.redelivered_through = self.log.note.value

        return patched

    replace(QueueLog, "recover", make)


@plant
def declare_ok_before_sync() -> None:
    """declare-ok and the like leave with the turn."""

    def patched(channel: Channel, answer: bytes, *_: Any) -> None:
        if answer:
            channel.session.send(answer)

    for methods in (exchange_methods, queue_methods):
        replace(methods, "answer_when_declared", lambda _: patched)


@plant
def binding_not_journalled() -> None:
    """A binding lives in memory only."""
    _without_journal("add", lambda *_: True)


@plant
def exchange_binding_not_journalled() -> None:
    """A binding between exchanges lives in memory only."""
    _without_journal("add", lambda binding: bool(binding.destination.is_exchange))


@plant
def unbinding_with_arguments_not_journalled() -> None:
    """A binding with arguments that was undone comes back with the next start."""
    _without_journal("forget", lambda binding: bool(binding.arguments.raw))


def _without_journal(name: str, concerned: Callable[..., bool]) -> None:
    """That method of the bindings does not tell the journal where it should."""

    def make(method: Any) -> Any:
        def patched(self: Bindings, *arguments: Any) -> bool:
            journal = self._journal
            if concerned(*arguments):
                self._journal = None
            try:
                return bool(method(self, *arguments))
            finally:
                self._journal = journal

        return patched

    replace(Bindings, name, make)


@plant
def arguments_of_exchanges_not_journalled() -> None:
    """The alternate exchange of an exchange is forgotten by a restart."""
    _declared_without(DurableExchange, {"arguments": b""})


@plant
def arguments_of_queues_not_journalled() -> None:
    """A queue has no priorities after a restart."""
    _declared_without(DurableQueue, {"arguments": b""})


@plant
def bindings_of_deleted_not_journalled() -> None:
    """What was bound to a deleted queue is bound to the next one of its name, after a restart."""
    _without_journal("forget", lambda binding: bool(binding.destination.deleted))


@plant
def exchanges_not_internal_any_more() -> None:
    """An internal exchange is an ordinary one after a restart."""
    _declared_without(DurableExchange, {"internal": False})


def _declared_without(kind: type[DurableExchange] | type[DurableQueue], lost: dict[str, Any]) -> None:
    """The journal is told this of everything of that kind, whatever it is."""

    def make(put: Any) -> Any:
        def patched(self: Journal, declared: Any) -> None:
            put(self, declared._replace(**lost) if isinstance(declared, kind) else declared)

        return patched

    replace(Journal, "put", make)


@plant
def delete_not_journalled() -> None:
    """What was deleted comes back with the next start."""
    replace(Journal, "delete", lambda _: lambda _journal, _declared: None)


@plant
def settlements_not_written() -> None:
    """Acks are forgotten by a crash, however old they are."""

    def patched(self: Log) -> None:
        if self._pending is not None:
            self._pending.take()

    replace(Log, "collect", lambda _: patched)


@plant
def settled_one_too_many() -> None:
    """A range of settlements ends one message too late."""

    def make(settle_range: Any) -> Any:
        def patched(self: Log, start: int, end: int, writer: Any) -> None:
            settle_range(self, start, min(end + 1, int(self.positions.next) - 1), writer)

        return patched

    replace(Log, "_settle_range", make)


@plant
def second_queue_not_written() -> None:
    """Of a message for two queues only the first one's record reaches the disk."""

    def make(append: Any) -> Any:
        def patched(self: Log, position: int, kind: int, size: int, token: object) -> bool:
            writer = self._writer
            if (
                token is writer._last_token
                and kind == writer._last_kind
                and writer.batch.location is writer._last_location
            ):
                self.positions.append(position)
                return False
            return bool(append(self, position, kind, size, token))

        return patched

    replace(Log, "append", make)


@plant
def last_batch_not_recovered() -> None:
    """Recovery leaves out the last batch of the log, which was whole."""

    def make(batches: Any) -> Any:
        def patched(self: Recovery) -> Any:
            found = list(batches(self))
            yield from found[:-1] if len(found) > 1 else found

        return patched

    replace(Recovery, "batches", make)


@plant
def sync_error_ignored() -> None:
    """A failed fdatasync counts as done."""

    def make(do_sync: Any) -> Any:
        def patched(self: RealFile, site: str) -> None:
            try:
                do_sync(self, site)
            except OSError:
                pass

        return patched

    replace(RealFile, "do_sync", make)


@plant
def sync_tried_again() -> None:
    """A failed fdatasync is tried once more, and then succeeds, though the system may have dropped the data."""

    def make(do_sync: Any) -> Any:
        def patched(self: RealFile, site: str) -> None:
            try:
                do_sync(self, site)
            except OSError:
                do_sync(self, site)

        return patched

    replace(RealFile, "do_sync", make)


@plant
def nothing_can_be_moved() -> None:
    """The choice of what to move to segments fails by a mistake, which nobody sees but the log."""

    def patched(_compactor: Compactor) -> None:
        raise RuntimeError("planted")

    replace(Compactor, "_choose", lambda _: patched)


def set_defaults(options: Any, **values: int) -> None:
    """Other defaults for the fields of a NamedTuple."""
    unknown = values.keys() - set(options._fields)
    assert not unknown, f"{options.__name__} has no {unknown}"
    options.__new__.__defaults__ = tuple(values.get(name, options._field_defaults[name]) for name in options._fields)


def slow_disk(delay_s: float) -> None:
    """Every batch takes this much longer before it is written: a crash finds more that is on its way."""

    def make(write: Any) -> Any:
        def patched(self: WalWriter, batch: Batch) -> None:
            time.sleep(delay_s)
            write(self, batch)

        return patched

    replace(WalWriter, "write", make)


def main(arguments: list[str]) -> int:
    """Set what is asked for, then run the node."""
    while arguments and arguments[0].startswith("--"):
        name, value, *arguments = arguments
        if name == "--plant":
            PLANTS[value]()
        elif name == "--wal-file":
            set_defaults(WalOptions, file_size=int(value))
        elif name == "--segment":
            size = int(value)
            set_defaults(
                CompactorOptions,
                files_kept=1,
                own_size=size // 8,
                block_size=max(4096, size // 32),
                own_block_size=max(4096, size // 32),
                segment_size=size,
                small_size=size // 2,
                small_count=4,
                garbage_size=size // 2,
            )
        elif name == "--memory":
            disk_backlog.MEMORY_MAX = int(value)  # type: ignore[misc]
            read_back.READ_BYTES = int(value) // 4  # type: ignore[misc]
        elif name == "--mark-ahead":
            redelivery_mark.MARK_AHEAD = int(value)  # type: ignore[misc]
        elif name == "--slow-disk":
            slow_disk(int(value) / 1000)
        else:
            print(f"what is {name}?", file=sys.stderr)
            return 2
    from broker.__main__ import main as leveret

    return leveret(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
