"""Which sockets may stay: descriptors are kept back for the disk, clients that have not logged in share a quarter of
them, and those that are not read are looked at, since the loop does not see that they have gone.

A descriptor that was just given out has the lowest number that is free, so its number says how many are in use; nothing
is counted.

    number >= limit - reserve     the client is accepted and closed at once: connections that nobody accepts would be
                                  worse
    a quarter has not logged in   the oldest that has sent nothing makes room for the newcomer, or else the oldest of
                                  all
"""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable
from typing import Any, Final, Protocol

from broker.logsetup import get_logger

RESERVE: Final = 64
"""Descriptors that clients do not get: files of the log, directories, the loop's own."""
TELL_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 1.0
LOOKED_AT_MAX: Final = 100
"""So many are looked at without a pause: each takes 2 microseconds."""
LOOK_PAUSE_S: Final = 0.005
_LIMIT_MAX: Final = 1 << 20
"""Asked for where the system sets no limit at all."""

_log = get_logger("admission")


def raise_limit() -> int:
    """Take as many descriptors as this process is allowed to (the soft limit becomes the hard one); how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LIMIT_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # some systems set a limit below the hard one
            return soft
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


class Newcomer(Protocol):
    """A client that has not logged in."""

    def give_way(self) -> None:
        """Close at once: somebody else needs the room."""


class Unread(Protocol):
    """A client that is not read."""

    def has_left(self) -> bool:
        """Whether it has gone, and will not complete what it has begun."""

    def give_way(self) -> None:
        """Close at once."""


class Occasional:
    """Tells how often something happened: the first time at once, then at most once a minute."""

    def __init__(self, event: str, later: Callable[[float, Callable[[], None]], object]) -> None:
        self.count = 0
        """Since the start."""
        self._event = event
        self._later = later
        self._told = 0
        self._quiet = False

    def happened(self) -> None:
        """Once more."""
        self.count += 1
        if not self._quiet:
            self._tell()

    def _tell(self) -> None:
        self._quiet = self.count > self._told
        if self._quiet:
            _log.warning(self._event, count=self.count - self._told, total=self.count)
            self._told = self.count
            self._later(TELL_EVERY_S, self._tell)


class Admission:
    """Decides for all ports of a node."""

    def __init__(self, limit: int, later: Callable[[float, Callable[[], None]], object]) -> None:
        """``limit`` is the number of descriptors; ``later(seconds, call)`` the event loop's ``call_later``."""
        self.limit = limit
        self.highest = limit - min(RESERVE, limit // 4)
        """The first descriptor that no client gets."""
        self.newcomers_max = max(1, limit // 4)
        self.refused = Occasional("Clients were refused: no descriptors are left for them (ulimit -n)", later)
        self.displaced = Occasional("Clients that had not logged in made room for others", later)
        self._later = later
        self._unread: dict[Unread, None] = {}
        self._looking = False
        self._unseen: list[Unread] = []
        """Those of them whose turn is still to come when all are looked at."""
        self._silent: dict[Newcomer, None] = {}
        self._heard: dict[Newcomer, None] = {}

    def refuses(self, transport: asyncio.Transport) -> bool:
        """Whether this client, just accepted, gets no descriptor; it is closed then."""
        opened = transport.get_extra_info("socket")
        if opened is None or opened.fileno() < self.highest:
            return False
        self.refused.happened()
        transport.abort()
        return True

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the event loop could not do: a socket that cannot be accepted is a client refused, anything else a
        mistake."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self.refused.happened()
        else:
            _log.error("Internal error", where="event loop", what=context.get("message", ""), exc_info=error)

    def join(self, client: Newcomer) -> None:
        """A client has come that has not logged in; another one may have to go for it."""
        if len(self._silent) + len(self._heard) >= self.newcomers_max:
            oldest = next(iter(self._silent or self._heard))
            self.leave(oldest)
            self.displaced.happened()
            oldest.give_way()
        self._silent[client] = None

    def hear(self, client: Newcomer) -> None:
        """It has sent something."""
        if client in self._silent:
            del self._silent[client]
            self._heard[client] = None

    def watch(self, client: Unread) -> None:
        """It is not read from now on: look now and then whether it is still there."""
        self._unread[client] = None
        if not self._looking:
            self._looking = True
            self._later(LOOK_EVERY_S, self._look)

    def unwatch(self, client: Unread) -> None:
        """It is read again, or gone."""
        self._unread.pop(client, None)

    def _look(self) -> None:
        if not self._unseen:
            self._unseen = list(self._unread)
        for client in self._unseen[-LOOKED_AT_MAX:]:
            if client in self._unread and client.has_left():
                client.give_way()
        del self._unseen[-LOOKED_AT_MAX:]
        self._looking = bool(self._unread)
        if self._looking:
            self._later(LOOK_PAUSE_S if self._unseen else LOOK_EVERY_S, self._look)
        else:
            self._unseen = []

    def leave(self, client: Newcomer) -> None:
        """It has logged in, or is gone."""
        self._silent.pop(client, None)
        self._heard.pop(client, None)
