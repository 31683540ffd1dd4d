"""Keeps the cyclic collector out of measured time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection starts by itself in this block: its pause would be charged to whatever runs at that moment.

    What exists already is set aside, so that `gc.collect()` between two measurements looks at little.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
