"""What a message's properties mean for the broker: found once, and reused while the next message's bytes are the
same."""

from __future__ import annotations

from typing import final

from broker.errors import ConnectionException
from broker.native import i64
from broker.queues.arguments import EXPIRY_MS_MAX
from broker.vhost.names import REPLY_TO
from broker.wire import properties, spec, table
from broker.wire.methods import undecodable


@final
class Traits:
    """What the properties of a message mean for the broker; found once and reused while the bytes are the same."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The property bytes, flags onward."""
        self.persistent = False
        self.priority: i64 = -1
        self.expiration_ms: i64 = -1
        self.fault = ""
        """Why the message must be refused (406), or ''."""
        self.user_id: str | None = None
        self.copies = False
        """The headers have CC or BCC."""
        self.direct_reply = False
        """reply-to asks for direct reply-to."""
        self.changes_message = False
        """One of both: its properties are not kept as they came."""


def _read_expiration(text: bytes) -> tuple[int, str]:
    shown = text.decode("utf-8", "backslashreplace")
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit():
        lead = 0
        while lead < len(digits) and digits[lead : lead + 1].isdigit():
            lead += 1
        if lead == 0:
            return 0, f"invalid expiration '{shown}': no_integer"
        rest = digits[lead:].decode("utf-8", "backslashreplace")
        return 0, f"invalid expiration '{shown}': {{leftover_string,\"{rest}\"}}"
    value = int(text)
    if value < 0:
        return 0, f"invalid expiration '{shown}': {{value_negative,{value}}}"
    if value > EXPIRY_MS_MAX:
        return 0, f"invalid expiration '{shown}': {{value_too_large,{value}}}"
    return value, ""


def read_traits(raw: bytes) -> Traits:
    """The traits of a message with these property bytes.

    Raises: FRAME_ERROR (501) if they are malformed.
    """
    try:
        summary = properties.summarize(raw, 0, len(raw))
    except ConnectionException as error:
        raise undecodable(spec.BASIC_PUBLISH, raw) from error
    traits = Traits(raw)
    traits.persistent = summary.delivery_mode == 2
    traits.priority = summary.priority
    if summary.expiration_start >= 0:
        traits.expiration_ms, traits.fault = _read_expiration(raw[summary.expiration_start : summary.expiration_end])
    if summary.user_id_start >= 0:
        traits.user_id = raw[summary.user_id_start : summary.user_id_end].decode("utf-8", "surrogateescape")
    if summary.headers_start >= 0:
        start = summary.headers_start
        end = summary.headers_end
        traits.copies = table.find(raw, start, end, b"CC") >= 0 or table.find(raw, start, end, b"BCC") >= 0
    if summary.reply_to_start >= 0:
        traits.direct_reply = raw[summary.reply_to_start : summary.reply_to_end] == REPLY_TO.encode()
    traits.changes_message = traits.copies or traits.direct_reply
    return traits
