"""Edits of the manifest (manifest.py): what the tasks of the compactor have done, and what was declared.

An edit waits until everything that it has seen is on the disk: the choice of records and the states of the logs,
settlements above all. A transaction whose settlements were taken from memory, and its messages lost, would be half a
transaction. What became of an edit that failed is not known, so it is tried until it succeeds: until then nothing it
refers to may go.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from broker.store.declarations import Declarations
from broker.store.disk_error import DiskError
from broker.store.manifest import ManifestLostError
from broker.store.manifest_records import Edit, edit_records
from broker.store.rewriting import whole_state
from broker.store.store_parts import StoreParts
from broker.store.tasks import Task

RETRY_MS: Final = 1000
"""After an error."""


class ManifestEdits:
    """One for each node. Its tasks run in the compactor (compactor.py), one at a time."""

    def __init__(
        self,
        parts: StoreParts,
        covers: int,
        logs_per_slice: int,
        wanted: Callable[[], None],
        failed: Callable[[DiskError], None],
    ) -> None:
        """``covers``: what the manifest represents now. ``wanted`` is called when there is something to ``declare``,
        ``failed`` when an edit has to be tried again."""
        self.declarations = Declarations(parts.clock, wanted)
        """Told of every record of log 0."""
        self.damaged_journal: dict[bytes, bytes] | None = None
        """What a manifest has said of log 0 that does not say any more what the logs do: it is to be replaced first of
        all."""
        self.declared: Callable[[], dict[bytes, bytes]] | None = None
        """Tells what is declared now, as the journal would: key -> body of the PUT."""
        self._parts = parts
        self._covers = covers
        self._logs_per_slice = logs_per_slice
        self._failed = failed
        self._findings: list[str] = []

    def take_findings(self) -> list[str]:
        """What was found wrong with the manifest since the last call; for people."""
        findings, self._findings = self._findings, []
        return findings

    def commit(self, edit: Edit) -> Task:
        """Make the edit durable, and what was declared, however often that must be tried."""
        logs = self._parts.logs
        covers = max(edit.covers, self._covers)
        declared = self.declarations.take()
        edit = edit._replace(
            dropped_logs=logs.take_dropped(),
            journal=declared.values(),
            declared=int(logs.batch.next_sequence) - 1,
            covers=covers,
            next_log=int(logs.next_number),
            next_segment=int(logs.segments.next_number),
        )
        yield None
        try:
            yield from self._insist(partial(self._parts.manifest.append, edit))
        except ManifestLostError as lost:
            assert self.declared is not None
            self._findings.append(f"{lost}: it is written again from what the node knows")
            yield from self._replace(self.declared(), edit)
        self._covers = covers
        while declared:  # 100,000 of them at once would hold up the loop
            for _ in range(min(self._logs_per_slice, len(declared))):
                declared.popitem()
            yield 0

    def declare(self) -> Task:
        """Let the manifest know what was declared; not with the last space that there is for edits: that is for those
        that free some."""
        if (yield partial(self._parts.manifest.has_space, self.declarations.size())):
            yield from self.commit(Edit())
        else:
            self.declarations.postpone()

    def rewrite(self, journal: dict[bytes, bytes]) -> Task:
        """Put the manifest together again, from what the logs have been brought back to."""
        declared = self.declarations.take()
        next_sequence = int(self._parts.logs.batch.next_sequence)
        edit = Edit(journal=declared.values(), declared=next_sequence - 1, covers=self._covers)
        yield from self._replace(journal, edit)
        self.damaged_journal = None

    def _replace(self, journal: dict[bytes, bytes], edit: Edit) -> Task:
        """Let the manifest say what the logs do now, that this is declared, and then the edit."""
        logs = self._parts.logs
        state = yield from whole_state(logs, journal, self._logs_per_slice)
        for number, kind, body in edit_records(edit):
            state.apply(number, kind, body)
        state.next_log, state.next_segment = int(logs.next_number), int(logs.segments.next_number)
        yield None
        yield from self._insist(partial(self._parts.manifest.replace, state))

    def _insist(self, call: Callable[[], object]) -> Task:
        while True:
            try:
                yield call
                return
            except DiskError as error:
                if isinstance(error, ManifestLostError) and self.declared is not None:
                    raise
                self._failed(error)
                yield RETRY_MS
            except Exception as mistake:  # what became of the edit is not known: it is tried until it succeeds
                self._parts.clock.faults.caught("an edit of the manifest", None, mistake)
                yield RETRY_MS
