"""The AMQP listener: sockets in, one ``AmqpProtocol`` each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.net.admission import Admission
from broker.net.ports import Port, open_port
from broker.net.transport import AmqpProtocol

if TYPE_CHECKING:
    from broker.protocol.server import Server


async def listen(server: Server, admission: Admission, host: str, port: int, backlog: int) -> Port:
    """Open the AMQP port (0: a free one).

    Raises OSError if the address is taken or not allowed.
    """
    return await open_port(lambda: AmqpProtocol(server, admission), host, port, backlog)
