"""The AMQP listener: sockets in, one ``AmqpProtocol`` each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.net.admission import Admission
from broker.net.transport import AmqpProtocol

if TYPE_CHECKING:
    from broker.protocol.server import Server


async def listen(server: Server, admission: Admission, host: str, port: int, backlog: int) -> tuple[asyncio.Server, int]:
    """Open the AMQP port (0: a free one); returns the listener and the port it got.

    Raises OSError if the address is taken or not allowed.
    """
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: AmqpProtocol(server, admission), host, port, backlog=backlog, reuse_address=True)
    return listener, int(listener.sockets[0].getsockname()[1])
