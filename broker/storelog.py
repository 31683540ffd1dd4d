"""What the disk has to say to people: what recovery found, what could not be read, and troubles that are not the end of
the node."""

from __future__ import annotations

from typing import Final

from broker.logsetup import get_logger
from broker.periodic import Periodic
from broker.store.store import Store

LOOK_MS: Final = 1000

_log = get_logger("store")


def tell_findings(store: Store) -> None:
    """Log what recovery has found, once, after ``Store.begin``."""
    report = store.report
    for cut in [*map(str, report.cut), *store.manifest_cut]:
        _log.warning("An unfinished write was cut off", finding=cut)
    for damage in store.repaired:
        _log.warning("Damage on the disk, of which another copy is whole: nothing is lost", finding=damage)
    for lost in report.damaged:
        _log.error("Damage on the disk: records are lost", finding=str(lost))
    for text in store.findings:
        _log.error("Damage on the disk", finding=text)
    unconfirmed = len(store.damage.unconfirmed())
    if unconfirmed:
        _log.error(
            "Data was lost: the health checks fail until `leveret data confirm` says that somebody knows",
            losses=unconfirmed,
        )
    _log.info(
        "Data recovered",
        files=report.file_count,
        records=report.record_count,
        clean=report.clean,
        logs=len(store.logs.logs),
    )


class StoreLog(Periodic):
    """Looks every second whether there is something new to tell."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.wal.faults)
        self._store = store
        self._trouble = ""

    def look(self) -> int:
        """Log what has come up since the last look."""
        lost = self._store.logs.take_lost()
        for log, first, last, place in lost:
            _log.error(
                "Messages cannot be read back: they are lost", log=int(log.number), first=first, last=last,
                file=int(place.generation), offset=int(place.offset),
            )  # fmt: skip
        damage = self._store.damage
        found = self._store.compactor.edits.take_findings()
        for text in found:
            _log.error("Damage on the disk", finding=text)
        damage.add(found)
        damage.add(
            f"records {first} to {last} of log {log.number} cannot be read back: they are lost"
            for log, first, last, _ in lost
        )
        damage.save_later()
        trouble = self._store.compactor.trouble or self._store.page_trouble or damage.trouble
        text = "" if trouble is None else str(trouble)
        if text != self._trouble:
            self._trouble = text
            if text:
                _log.warning("What the disk does beside the log fails now; it is tried again", error=text)
            else:
                _log.info("The disk does what it should beside the log, again")
        return LOOK_MS
