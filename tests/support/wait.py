"""Waiting for something that another process does: a condition and a deadline instead of a sleep of guessed length."""

from __future__ import annotations

import select
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], deadline_ms: int = 5000, what: str = "") -> None:
    """Returns once `condition()` is true; it is asked every few milliseconds.

    Raises: AssertionError naming `what` when `deadline_ms` passes first.
    """
    deadline = time.monotonic() + deadline_ms / 1000
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_ms} ms: {what or condition}")
        select.select([], [], [], 0.005)
