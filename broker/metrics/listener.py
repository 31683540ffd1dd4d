"""The HTTP listener of the metrics: open from the start, its code imported by the first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.protocol.server import Server

_HEAD_MAX: Final = 16 * 1024
_TIMEOUT_S: Final = 10


async def _handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _TIMEOUT_S)
        from broker.metrics.exporter import respond

        writer.write(respond(server, head))
        await asyncio.wait_for(writer.drain(), _TIMEOUT_S)
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # a client that does not speak, or went away: nobody to answer
    finally:
        writer.close()


async def listen(server: Server, host: str, port: int) -> tuple[asyncio.Server, int]:
    """Open the metrics port (0: a free one); returns the listener and the port it got. Raises OSError if it is taken."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _handle(server, reader, writer)

    listener = await asyncio.start_server(on_client, host, port, limit=_HEAD_MAX)
    return listener, int(listener.sockets[0].getsockname()[1])
