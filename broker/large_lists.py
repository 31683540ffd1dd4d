"""Lists of thousands of objects become old for the collector of cycles a few at a time (collecting.py).

It looks at the young when enough objects were made, and then visits all that their lists hold. Few lists hold all
messages of a queue: a million of them were one look of 15 ms, whenever it came.
"""

from __future__ import annotations

import gc
from typing import Final

_YOUNG_MAX: Final = 16
_young = 0  # of the process, as the collector is


def list_is_full() -> None:
    """Such a list will not grow any more, and may stay for long."""
    global _young
    _young += 1
    if _young >= _YOUNG_MAX:
        _young = 0
        gc.collect(1)
