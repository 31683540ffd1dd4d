"""The journal of what is declared: changes go to log 0 of the node, and are applied by whoever makes them, at once.

On one node nobody else can object to a change, so it is visible before it is durable; but it is promised (declare-ok,
bind-ok, delete-ok) only when everything the journal was told so far is on the disk, also to somebody who declares what
another one has just declared.
"""

from collections.abc import Callable
from typing import Final

from broker.metadata.changes import Declared, DurableBinding, DurableExchange, DurableQueue, decode
from broker.promises import Promise, PromiseSource
from broker.store.batch_writer import BatchWriter
from broker.store.records import DELETE, JOURNAL, PUT, key_of, put_body, value_of

_ORDER: Final = (DurableExchange, DurableQueue, DurableBinding)


class Journal:
    """Log 0. One per node. ``promises`` are those of ``batch``; ``told`` hears of every record: kind and body."""

    def __init__(
        self, batch: BatchWriter, promises: PromiseSource, told: Callable[[int, bytes], None] | None = None
    ) -> None:
        self.last = Promise(promises, promises.ticket())
        """That of the last change: what is declared may be promised when it is kept."""
        self._batch = batch
        self._told = told

    def put(self, declared: Declared) -> None:
        """It is there from now on."""
        self._append(int(PUT), put_body(declared.key(), declared.value()))

    def delete(self, declared: Declared) -> None:
        """It is not there any more."""
        self._append(int(DELETE), declared.key())

    def _append(self, kind: int, body: bytes) -> None:
        self._batch.append(JOURNAL, kind, body)
        self.last = Promise(self.last.source, self.last.source.ticket())
        if self._told is not None:
            self._told(kind, body)


def replay(changes: list[tuple[int, bytes]]) -> dict[bytes, bytes]:
    """What is declared after these changes, by key."""
    found: dict[bytes, bytes] = {}
    for kind, body in changes:
        if kind == PUT:
            found[key_of(kind, body)] = value_of(body)
        elif kind == DELETE:
            found.pop(key_of(kind, body), None)
    return found


def declared(found: dict[bytes, bytes]) -> list[Declared]:
    """The same as values: exchanges, then queues, then what binds them.

    Raises: ValueError if one of them makes no sense
    """
    values = [decode(key, value) for key, value in found.items()]
    return [value for kind in _ORDER for value in values if isinstance(value, kind)]
