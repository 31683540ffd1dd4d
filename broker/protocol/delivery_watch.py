"""Who sees to it that nothing stays unacknowledged for too long, as the deliveries of a channel see him."""

from __future__ import annotations


class DeliveryWatch:
    """Of one channel (delivery_timeouts.py)."""

    def begin(self) -> None:
        """Something is outstanding, perhaps for the first time since nothing was."""
        raise NotImplementedError

    def stop(self) -> None:
        """The channel has ended."""
        raise NotImplementedError
