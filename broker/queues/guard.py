"""What decides about each message before a queue takes it: how an argument of one module is obeyed (arguments.py)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from broker.message import Message

ADMITTED: Final = -1
"""The queue takes the message, as far as this guard is concerned."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Guard:
    """One of a queue's. It may keep what it needs to know of earlier messages."""

    def decide(self, message: Message) -> int:
        """``ADMITTED``, or what the publisher is told instead: ``REJECTED``, or ``ACCEPTED`` for a message that is
        dropped in silence."""
        raise NotImplementedError
