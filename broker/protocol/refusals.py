"""Frames that have no business where they come, and the close frames that errors are answered with."""

from broker.errors import CHANNEL_ERROR, FRAME_ERROR, UNEXPECTED_FRAME, ConnectionException, ProtocolException
from broker.wire import spec
from broker.wire.erlang import frame
from broker.wire.frames import FrameReader
from broker.wire.methods import method_frame


def second_open() -> ConnectionException:
    """The answer to channel.open on a channel that is open, or closed by the server and not yet forgotten."""
    return ConnectionException(CHANNEL_ERROR, "second 'channel.open' seen", 20, 10)


def unknown_frame(reader: FrameReader) -> ConnectionException:
    """A frame whose type does not exist, or that is too short or too long for its type."""
    return ConnectionException(
        FRAME_ERROR, f"{frame(int(reader.frame_type), reader.data[reader.start : reader.end])}: unknown_frame"
    )


def unexpected_frame(reader: FrameReader) -> ConnectionException:
    """A frame that is well formed but has no business on its channel; FRAME_ERROR when its type does not exist at
    all."""
    kind = reader.frame_type
    empty = reader.end == reader.start
    if kind not in (spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY) and not (
        kind == spec.FRAME_HEARTBEAT and empty
    ):
        return unknown_frame(reader)
    return ConnectionException(UNEXPECTED_FRAME, frame(int(kind), reader.data[reader.start : reader.end]))


def _short(text: str) -> bytes:
    """A reply text as a short string: a long one ends in "..." behind its last whole character, as RabbitMQ cuts it."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= spec.SHORTSTR_MAX:
        return raw
    return raw[: spec.SHORTSTR_MAX - 3].decode("utf-8", "ignore").encode() + b"..."


def close_frame(channel: int, index: int, error: ProtocolException) -> bytes:
    """connection.close or channel.close for ``error``."""
    return method_frame(
        channel,
        index,
        [
            ("short", error.code),
            ("shortstr", _short(error.text)),
            ("short", error.class_id),
            ("short", error.method_id),
        ],
    )
