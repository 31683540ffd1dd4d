"""What a store consists of, handed to those that work on all of it."""

from typing import NamedTuple

from broker.clock import Clock
from broker.store.data_files import DataFiles
from broker.store.datadir import DataDir
from broker.store.logs import Logs
from broker.store.manifest import Manifest
from broker.store.wal import WriteAheadLog


class StoreParts(NamedTuple):
    """One data directory that is open."""

    data_dir: DataDir
    manifest: Manifest
    logs: Logs
    wal: WriteAheadLog
    files: DataFiles
    clock: Clock
