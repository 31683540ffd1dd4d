"""A node of any release whose files on the disk are small, so that few messages fill them. Run by path, not imported.

    python node_main.py serve OPTIONS

It imports only what every release has had since the first format: the package on the path is that of an older release.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from broker import __main__ as entry
from broker.store import store as store_module
from broker.store.wal_writer import WalOptions

WAL_FILE: Final = 1 << 18
"""Bytes of a file of the write-ahead log: 32 MiB else."""
BLOCK: Final = 1 << 14
"""Bytes that a segment is read by: 256 KiB else."""
OWN_SEGMENT: Final = 1 << 16
"""A queue with so many bytes in such a file gets a segment of its own: 1 MiB else."""

GARBAGE: Final = 1 << 16
"""Segments with so many dead bytes are written anew: 16 MiB else."""


def main(arguments: list[str]) -> int:
    """Runs the command line of the installed package, with small files."""
    store: Any = store_module
    ordinary = store.Store.open

    # the compactor had another name before 0.1.0, and all options stand together since
    make = store.CompactorOptions if hasattr(store, "CompactorOptions") else store.MoverOptions
    small: Any = make(own_size=OWN_SEGMENT, block_size=BLOCK, garbage_size=GARBAGE, small_count=8)
    options: Any = WalOptions(file_size=WAL_FILE)
    apart: dict[str, Any] = {}
    if hasattr(store, "StoreOptions"):
        options = store.StoreOptions(options, small)
    else:
        apart["compactor_options" if hasattr(store, "CompactorOptions") else "mover_options"] = small

    def open_with_small_files(*positional: Any, **named: Any) -> Any:
        return ordinary(*positional, options=options, **apart, **named)

    store.Store.open = open_with_small_files
    sys.argv[1:] = arguments
    return int(entry.main())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
