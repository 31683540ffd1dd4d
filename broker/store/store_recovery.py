"""What a start reads: the manifest, the segments it names, and the write-ahead log behind it."""

from typing import NamedTuple

from broker.clock import Clock
from broker.store.compactor_options import CompactorOptions
from broker.store.datadir import DataDir
from broker.store.log_recovery import LogRecovery
from broker.store.logs import Logs
from broker.store.manifest import Manifest
from broker.store.manifest_records import ManifestState
from broker.store.manifest_recovery import Restoration, Restored, settle_transient, was_there
from broker.store.recovery import Recovery


class Recovered(NamedTuple):
    """What was read of a data directory."""

    manifest: Manifest
    state: ManifestState
    """What the manifest says."""
    logs: Logs
    log_recovery: LogRecovery
    """What is still to be done with the logs, once the log goes on."""
    restored: Restored
    """What was made of the segments."""
    wal: Recovery
    """The write-ahead log, read to its end."""
    changes: list[tuple[int, bytes]]
    """What the log says of log 0, beyond what the manifest knows: (kind, body)."""


def recover(data_dir: DataDir, clock: Clock, options: CompactorOptions) -> Recovered:
    """Read all of it, and bring the logs back. Nothing is promised before ``Recovered.wal`` is finished.

    Raises: DiskError
    """
    manifest = Manifest(data_dir, options.new_salt, options.manifest_size)
    state = manifest.recover()
    logs = Logs(clock)
    lost = manifest.damaged or (not manifest.exists and was_there(data_dir))
    restored = Restoration(data_dir, state, logs, lost).run()
    log_recovery = LogRecovery(logs)
    changes: list[tuple[int, bytes]] = []
    wal = Recovery(data_dir, restored.replayed_from, restored.resume_at)
    for generation, found in wal.batches():
        header = found.header
        known = not lost and header.first_sequence + header.record_count - 1 <= state.declared
        log_recovery.replay(header, found.data, generation, found.offset, [] if known else changes)
    log_recovery.settled_transient(settle_transient(data_dir, logs))
    return Recovered(manifest, state, logs, log_recovery, restored, wal, changes)
