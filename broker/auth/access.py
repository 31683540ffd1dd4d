"""What one user may do in one virtual host: configure, write and read, as RabbitMQ knows them (RabbitMQ docs, Access
Control).

It is asked where a resource is found by its name, before anybody is told whether there is one:

    exchange.declare, exchange.delete     configure on the exchange; for an alternate exchange also read on the new
                                          exchange and write on that one
    queue.declare, queue.delete           configure on the queue; for a dead letter exchange also read on the new queue
                                          and write on that exchange
    queue.bind, exchange.bind, unbind     write on the destination, read on the source; read on the topic
    basic.publish                         write on the exchange; write on the topic
    basic.consume, basic.get, queue.purge read on the queue

A topic is a routing key of a topic exchange. Passive declarations ask for nothing, as in RabbitMQ 3.13. The default
exchange is ``amq.default`` here.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.errors import ACCESS_REFUSED, ChannelException, exchange_label, queue_label

CONFIGURE: Final = "configure"
WRITE: Final = "write"
READ: Final = "read"


@mypyc_attr(allow_interpreted_subclasses=True)
class Access:
    """Of one user in one virtual host; all of his connections there share it. Whoever changes what it permits tells the
    virtual host (``VHost.access_changed``)."""

    def __init__(self, user: str, vhost: str, is_full: bool = False) -> None:
        self.user = user
        self.vhost = vhost
        self.is_full = is_full
        """He may do everything, and need not be asked about."""

    def may(self, permission: str, name: str) -> bool:
        """Whether he has ``permission`` on the queue or exchange of that name."""
        raise NotImplementedError

    def may_use_topic(self, permission: str, exchange: str, routing_key: str) -> bool:
        """Whether he may publish with that routing key to a topic exchange (``WRITE``), or bind with it (``READ``)."""
        return True

    def check_queue(self, permission: str, name: str) -> None:
        """Raises: ACCESS_REFUSED (403) if he may not do that with this queue."""
        if not self.is_full and not self.may(permission, name):
            raise self._refused(f"{permission} access to {queue_label(name, self.vhost)}")

    def check_exchange(self, permission: str, name: str) -> None:
        """Raises: ACCESS_REFUSED (403) if he may not do that with this exchange."""
        if not self.is_full:
            name = name or "amq.default"
            if not self.may(permission, name):
                raise self._refused(f"{permission} access to {exchange_label(name, self.vhost)}")

    def check_topic(self, permission: str, exchange: str, routing_key: str) -> None:
        """Raises: ACCESS_REFUSED (403) if he may not use this routing key at that topic exchange."""
        if not self.is_full and not self.may_use_topic(permission, exchange, routing_key):
            label = exchange_label(exchange, self.vhost)
            raise self._refused(f"{permission} access to topic '{routing_key}' in {label}")

    def _refused(self, what: str) -> ChannelException:
        return ChannelException(ACCESS_REFUSED, f"{what} refused for user '{self.user}'")


@final
class FullAccess(Access):
    """Everything is permitted: that of every user who can log in, as users have no permissions of their own yet."""

    def __init__(self, user: str, vhost: str) -> None:
        super().__init__(user, vhost, True)

    def may(self, permission: str, name: str) -> bool:
        return True


@mypyc_attr(allow_interpreted_subclasses=True)
class AccessControl:
    """What each user of the node may do in each virtual host."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Access] = {}

    def access(self, user: str, vhost: str) -> Access:
        """Of this user there: always the same object."""
        key = (user, vhost)
        found = self._known.get(key)
        if found is None:
            found = self.new_access(user, vhost)
            self._known[key] = found
        return found

    def new_access(self, user: str, vhost: str) -> Access:
        """The same, asked for the first time."""
        return FullAccess(user, vhost)


@final
class Requester:
    """Who asks a virtual host for something: what he may do, and on which connection, since that owns exclusive
    queues."""

    def __init__(self, access: Access, owner: object) -> None:
        self.access = access
        self.owner = owner
