"""The node as its connections see it (broker/protocol/server.py)."""

from __future__ import annotations

from broker.protocol.server import CAPABILITIES, Identity
from broker.wire.table import FieldTable
from tests.support.memory import Broker


def test_server_properties_are_a_sound_table() -> None:
    """RabbitMQ docs, Specification, capabilities."""
    identity = Identity("RabbitMQ", "3.13.7", "1.2.3", "Python 3", "cluster", "node@host")
    values = FieldTable(identity.server_properties()).values
    assert values["product"] == "RabbitMQ"
    assert values["version"] == "3.13.7"
    assert values["broker"] == "Leveret 1.2.3"
    assert values["cluster_name"] == "cluster"
    assert values["capabilities"] == dict.fromkeys(CAPABILITIES, True)


def test_a_vhost_is_found_by_its_name() -> None:
    broker = Broker()
    made = broker.server.add_vhost("tenant")
    assert broker.server.vhosts["tenant"] is made
    client = broker.connect(vhost="tenant")
    client.ask("channel.open")
    client.ask("queue.declare", queue="q")
    assert (list(made.queues), list(broker.vhost.queues)) == (["q"], [])
