"""What a client says of itself in connection.start-ok (RabbitMQ docs, Connections, Client-Provided Connection Name;
Capabilities)."""

from broker.wire.table import FieldTable


def connection_name(client_properties: FieldTable) -> str:
    """What the client calls its connection (connection_name); '' if it gives no name."""
    name = client_properties.get("connection_name")
    return name if isinstance(name, str) else ""


def has_capability(client_properties: FieldTable, name: str) -> bool:
    """Whether the client understands this extension of the protocol (capabilities)."""
    capabilities = client_properties.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get(name) is True
