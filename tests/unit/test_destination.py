"""Where a binding can lead (broker/destination.py)."""

from __future__ import annotations

from broker.destination import Destination


def test_equal_only_to_itself() -> None:
    """A queue that was deleted and declared anew is another one."""
    one, other = Destination("q", False), Destination("q", False)
    assert one != other
    assert len({one, other}) == 2
    assert (one.name, one.is_exchange, Destination("x", True).is_exchange) == ("q", False, True)
