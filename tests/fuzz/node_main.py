"""A node with a planted mistake, for testing that the fuzz finds it. Run by path, not imported:
`python node_main.py NAME serve OPTIONS`.

Handlers of methods stand in a table and those of requests in a module that is not compiled, so both can be replaced in
any build.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from broker.errors import INTERNAL_ERROR, ConnectionException
from broker.management import authentication
from broker.protocol import dispatch
from broker.wire import spec

kept: Final[list[object]] = []
"""What a node with a leak does not give back."""


def internal_error() -> None:
    """A method raises what nobody expects."""
    raise RuntimeError("planted")


def wrong_reply_code() -> None:
    """A method costs the connection with a code that says it was the node's mistake."""
    raise ConnectionException(INTERNAL_ERROR, "planted")


def stall() -> None:
    """A method takes too long for everybody else, once."""
    if not kept:
        kept.append(None)
        time.sleep(1.2)


def memory_leak() -> None:
    """A method keeps memory."""
    kept.append(bytearray(os.urandom(4096)) * 8192)


def descriptor_leak() -> None:
    """A method keeps a socket."""
    kept.append(socket.socketpair())


def end() -> None:
    """A method ends the node."""
    os._exit(3)


MISTAKES: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each for each in (internal_error, wrong_reply_code, stall, memory_leak, descriptor_leak, end)
}


def plant_in_requests() -> None:
    """Credentials that are none raise what nobody expects."""
    original = authentication.credentials_in

    def wrong(header: str) -> tuple[str, bytes] | None:
        found = original(header)
        if found is None:
            raise RuntimeError("planted")
        return found

    authentication.credentials_in = wrong


def plant(name: str) -> None:
    """Put the mistake into basic.recover and basic.qos, which the bystander does not use, or into the requests."""
    if name == "request_error":
        plant_in_requests()
        return
    mistake = MISTAKES[name]
    for method in (spec.BASIC_RECOVER, spec.BASIC_QOS):
        handler = dispatch.HANDLERS[method]

        def wrong(channel: object, fields: object, handler: Callable[..., None] = handler) -> None:
            handler(channel, fields)
            mistake()

        dispatch.HANDLERS[method] = wrong


if __name__ == "__main__":
    plant(sys.argv[1])
    from broker.__main__ import main

    sys.exit(main(sys.argv[2:]))
