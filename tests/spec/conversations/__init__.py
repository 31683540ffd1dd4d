"""The conversations, one module per area; each has a transcript file of the same name in tests/transcripts."""

from typing import Final

AREAS: Final = (
    "handshake",
    "frames",
    "methods",
    "channel",
    "exchange",
    "queue_declare",
    "queue_arguments",
    "queue_use",
    "publish",
    "consume",
    "settle",
    "confirm_tx",
    "dead_letter",
    "direct_reply",
    "replicated",
)

SLOW_AREAS: Final = frozenset({"handshake", "frames"})
"""Areas where RabbitMQ lets a client wait three seconds at a time; their conversations share no names and may be played
at once."""


def players(area: str) -> int:
    """How many conversations of the area may be played at once."""
    return 12 if area in SLOW_AREAS else 1
