"""The two ways AMQP fails: a soft error closes the channel, a hard one the connection.

Raised where the fault is found, turned into a close frame in ``protocol/connection.py`` alone.
Reply codes and names: AMQP 0-9-1 §1.6 and RabbitMQ's `amqp0-9-1.extended.xml`; the text sent is ``NAME - explanation``.
"""

from typing import Final

CONTENT_TOO_LARGE: Final = 311
NO_ROUTE: Final = 312
NO_CONSUMERS: Final = 313
CONNECTION_FORCED: Final = 320
INVALID_PATH: Final = 402
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
FRAME_ERROR: Final = 501
SYNTAX_ERROR: Final = 502
COMMAND_INVALID: Final = 503
CHANNEL_ERROR: Final = 504
UNEXPECTED_FRAME: Final = 505
RESOURCE_ERROR: Final = 506
NOT_ALLOWED: Final = 530
NOT_IMPLEMENTED: Final = 540
INTERNAL_ERROR: Final = 541

NAMES: Final[dict[int, str]] = {
    CONTENT_TOO_LARGE: "CONTENT_TOO_LARGE",
    NO_ROUTE: "NO_ROUTE",
    NO_CONSUMERS: "NO_CONSUMERS",
    CONNECTION_FORCED: "CONNECTION_FORCED",
    INVALID_PATH: "INVALID_PATH",
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    FRAME_ERROR: "FRAME_ERROR",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    COMMAND_INVALID: "COMMAND_INVALID",
    CHANNEL_ERROR: "CHANNEL_ERROR",
    UNEXPECTED_FRAME: "UNEXPECTED_FRAME",
    RESOURCE_ERROR: "RESOURCE_ERROR",
    NOT_ALLOWED: "NOT_ALLOWED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    INTERNAL_ERROR: "INTERNAL_ERROR",
}


class ProtocolException(Exception):
    """A fault the client is told about: ``code`` is a reply code of this module, ``explanation`` the text behind its
    name.

    ``class_id`` and ``method_id`` name the method that failed, 0 and 0 when none did; the channel fills them in.
    """

    def __init__(self, code: int, explanation: str, class_id: int = 0, method_id: int = 0) -> None:
        super().__init__(code, explanation)
        self.code = code
        self.explanation = explanation
        self.class_id = class_id
        self.method_id = method_id

    def name_method(self, index: int) -> None:
        """It is this method that has failed, unless another one was named before."""
        if not self.class_id:
            self.class_id = index >> 16
            self.method_id = index & 0xFFFF

    @property
    def text(self) -> str:
        """The reply text as RabbitMQ words it; cut to the 255 bytes of a short string by the writer."""
        return f"{NAMES.get(self.code, 'UNKNOWN')} - {self.explanation}"


class ChannelException(ProtocolException):
    """Soft: the channel is closed, the connection lives on."""


class ConnectionException(ProtocolException):
    """Hard: the connection is closed."""


def queue_label(name: str, vhost: str) -> str:
    """How RabbitMQ names a queue in its texts."""
    return f"queue '{name}' in vhost '{vhost}'"


def exchange_label(name: str, vhost: str) -> str:
    """How RabbitMQ names an exchange in its texts."""
    return f"exchange '{name}' in vhost '{vhost}'"
