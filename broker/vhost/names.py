"""Names that a virtual host gives or keeps for itself."""

import base64
import secrets
from typing import Final

REPLY_TO: Final = "amq.rabbitmq.reply-to"
REPLY_TO_PREFIX: Final = "amq.rabbitmq.reply-to."


def generate_name(prefix: str) -> str:
    """A name of the server's own: ``prefix`` and 22 url-safe characters."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
