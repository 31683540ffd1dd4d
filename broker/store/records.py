"""The kinds of records in the write-ahead log and in segments, and what their bodies mean.

    kind           body                                        means
    1 MESSAGE      position (8), flags (2), weight (6), rest   a record; promised with the batch. All behind the position is the user's
    2 TRANSIENT    the same                                    a record that need not outlive the node: only its body was in the way
    3 REFERENCE    position (8), offset in the payload (8)     the record at that offset of the same batch once more, for another log
    4 SETTLED      first (8) and last (8) position, repeated   these are not needed any more
    5 MARK         position (8)                                up to and including it, anything may have been delivered
    6 EXACT        position (8)                                the same, replacing any larger mark; at a clean end
    16 PUT         size of the key (4), key, value             log 0 only: what is declared (metadata/journal.py)
    17 DELETE      key                                         log 0 only
"""

from typing import Final

from broker.native import i64
from broker.store.batch import RECORD_HEADER_SIZE

JOURNAL: Final[i64] = 0
"""The log id of what is declared."""
MESSAGE: Final[i64] = 1
TRANSIENT: Final[i64] = 2
REFERENCE: Final[i64] = 3
SETTLED: Final[i64] = 4
MARK: Final[i64] = 5
EXACT: Final[i64] = 6
PUT: Final[i64] = 16
DELETE: Final[i64] = 17

BODY_AT: Final[i64] = RECORD_HEADER_SIZE + 8
"""Where the user's part of a MESSAGE begins in its record."""
