"""SASL responses -> user name and password: PLAIN (RFC 4616 as RabbitMQ reads it) and AMQPLAIN (RabbitMQ docs, Access
Control)."""

from typing import Final, final

from broker.errors import ConnectionException
from broker.wire import table

MECHANISMS: Final = ("AMQPLAIN", "PLAIN")
"""In the order in which the server offers them."""


class MalformedResponse(Exception):
    """The response does not have its mechanism's form: RabbitMQ answers with silence."""


@final
class Credentials:
    """What a client claims to be."""

    def __init__(self, user: str, password: bytes) -> None:
        self.user = user
        self.password = password


def _plain(response: bytes) -> Credentials:
    # exactly: NUL user NUL password; an authorization identity or a third NUL is refused
    parts = response.split(b"\x00")
    if len(parts) != 3 or parts[0]:
        raise MalformedResponse
    return Credentials(parts[1].decode("utf-8", "surrogateescape"), parts[2])


def _amqplain(response: bytes) -> Credentials:
    try:
        fields = table.decode(response, 0, len(response)).values
    except ConnectionException as error:
        raise MalformedResponse from error
    user = fields.get("LOGIN")
    password = fields.get("PASSWORD")
    if isinstance(user, str) and isinstance(password, str | bytes):
        return Credentials(user, password.encode() if isinstance(password, str) else password)
    raise MalformedResponse


def read_response(mechanism: str, response: bytes) -> Credentials | None:
    """The credentials in a start-ok response; None when the mechanism is unknown.

    Raises: MalformedResponse.
    """
    if mechanism == "PLAIN":
        return _plain(response)
    if mechanism == "AMQPLAIN":
        return _amqplain(response)
    return None
