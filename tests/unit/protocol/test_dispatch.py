"""The table of contents of the protocol (broker/protocol/dispatch.py)."""

from __future__ import annotations

from broker.protocol.dispatch import HANDLERS
from broker.wire import spec
from tests.support.wire import METHODS

HOT = {"basic.publish", "basic.ack", "basic.nack", "basic.reject"}
CONNECTIONS_OWN = {"channel.open", "channel.close", "channel.close-ok"}


def test_every_method_that_a_client_may_say_on_a_channel_has_a_place() -> None:
    """AMQP 0-9-1 §1.1, command-invalid: all others are answered with 503."""
    said_by_clients = {
        each.class_id << 16 | each.method_id
        for each in METHODS.values()
        if each.class_id != spec.CONNECTION
        and not each.name.endswith("-ok")
        and each.name not in HOT | CONNECTIONS_OWN | {"basic.deliver", "basic.return", "basic.get-empty"}
    }
    assert said_by_clients <= set(HANDLERS)
