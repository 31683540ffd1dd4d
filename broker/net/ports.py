"""TCP ports: one number, on every address that the name of the host stands for.

A client that is told `localhost` tries ::1 first where there is IPv6, and waits or gives up when nobody listens there.
So `localhost` is both loopback addresses here; any other host is what the system makes of it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final

LOCALHOST: Final = "localhost"
_ADDRESSES: Final = ("127.0.0.1", "::1")
_ATTEMPTS: Final = 16
"""So often another free port is tried when the one that was given is taken on the other address."""
_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)

Factory = Callable[[], asyncio.BaseProtocol]


class Port:
    """A port that is open."""

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers
        self.number = int(servers[0].sockets[0].getsockname()[1])

    def addresses(self) -> list[str]:
        """Where it is open."""
        return [str(each.getsockname()[0]) for server in self._servers for each in server.sockets]

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()


async def open_port(factory: Factory, host: str, number: int, backlog: int) -> Port:
    """Listen there, with a protocol for each client; 0 is a free port.

    Raises: OSError if it is taken, on one of the addresses, or not allowed
    """
    if host != LOCALHOST:
        return Port([await _listen(factory, host, number, backlog)])
    for attempt in range(_ATTEMPTS):
        first = await _listen(factory, _ADDRESSES[0], number, backlog)
        try:
            return Port([first, await _listen(factory, _ADDRESSES[1], Port([first]).number, backlog)])
        except OSError as error:
            if error.errno in _NO_IPV6:
                return Port([first])
            first.close()
            if number or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _listen(factory: Factory, host: str, number: int, backlog: int) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(factory, host, number, backlog=backlog, reuse_address=True)
