"""Arguments that many queues have alike, as those of one application do: one table and its options serve them all."""

from __future__ import annotations

from typing import Final

from broker.queues.options import QueueOptions
from broker.wire.table import FieldTable

_TABLES_MAX: Final = 64
_SIZE_MAX: Final = 512
"""Bytes of a table that is worth remembering."""
_known: Final[dict[bytes, tuple[FieldTable, QueueOptions]]] = {}
"""By their bytes, so that each field keeps its type. Neither of the two is ever changed."""


def shared(arguments: FieldTable) -> tuple[FieldTable, QueueOptions]:
    """An equal table, and what it asks for."""
    raw = arguments.raw
    found = _known.get(raw)
    if found is not None:
        return found
    found = arguments, QueueOptions(arguments)
    if len(raw) <= _SIZE_MAX:
        if len(_known) >= _TABLES_MAX:
            _known.clear()
        _known[raw] = found
    return found
